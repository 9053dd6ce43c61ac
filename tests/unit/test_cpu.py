"""Keeping a run on one CPU, and letting it go again."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from kong_cloudtrail.runtime.cpu import on_one_cpu


class TestOneCpu:
    def test_this_thread_and_those_that_it_starts_stay_there_for_as_long(self) -> None:
        allowed = os.sched_getaffinity(0)

        with on_one_cpu(), ThreadPoolExecutor(1) as pool:
            assert len(os.sched_getaffinity(0)) == 1
            assert pool.submit(os.sched_getaffinity, 0).result() == os.sched_getaffinity(0) <= allowed

        assert os.sched_getaffinity(0) == allowed

    def test_it_is_let_go_when_the_run_fails(self) -> None:
        allowed = os.sched_getaffinity(0)

        with pytest.raises(ValueError), on_one_cpu():
            raise ValueError

        assert os.sched_getaffinity(0) == allowed

    def test_nothing_happens_where_it_is_not_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        with on_one_cpu():
            pass

    def test_nothing_happens_where_there_is_no_such_thing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity")
        with on_one_cpu():
            pass
