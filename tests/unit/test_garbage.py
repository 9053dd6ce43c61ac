"""The garbage collector works as before after a run."""

import gc

import pytest
from kong_cloudtrail.runtime.garbage import rarely_collected


def test_collector_looks_less_often_during_a_run_and_as_before_after_it() -> None:
    before = gc.get_threshold()

    with pytest.raises(ValueError), rarely_collected():
        assert gc.isenabled()
        assert gc.get_threshold()[0] > before[0]
        raise ValueError

    assert gc.get_threshold() == before
