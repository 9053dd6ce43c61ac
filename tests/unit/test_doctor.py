"""The doctor: checks at the same time, each with its own end, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from kong_cloudtrail.domain.finding import Area, Finding, Status
from kong_cloudtrail.operations.doctor import DoctorRequest, examine, perform
from kong_cloudtrail.operations.verb import answer, no_progress
from kong_cloudtrail.ports import Check

from tests.helpers import FakeClock

AREA = Area("kong")


@dataclass
class Examining:
    """A check made of a function."""

    find: Callable[[], Iterator[Finding]]
    area: str = AREA.name
    name: str = "Admin API"

    def run(self) -> Iterator[Finding]:
        yield from self.find()


def fine(name: str) -> Examining:
    return Examining(lambda: iter([AREA.ok(name, "Fine.")]))


class Patient:
    """An installation to be examined."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.clock = FakeClock()
        self.checks = checks

    def clean(self, text: str) -> str:
        return text.replace("s3cret", "***")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_findings_come_in_the_order_of_the_checks(release: threading.Event) -> None:
    def slow() -> Iterator[Finding]:
        yield AREA.ok("first", "Fine.")
        release.wait(10)
        yield AREA.ok("second", "Fine.")

    def quick() -> Iterator[Finding]:
        yield AREA.ok("third", "Fine.")
        release.set()

    found = examine([Examining(slow), Examining(quick)], no_progress)

    assert [finding.check for finding in found] == ["first", "second", "third"]


def test_a_check_that_hangs_keeps_what_it_has_found_and_holds_up_nobody(release: threading.Event) -> None:
    def hang() -> Iterator[Finding]:
        yield AREA.ok("name", "Fine.")
        release.wait(60)

    began = time.monotonic()

    found = examine([Examining(hang), fine("other")], no_progress, seconds=0.05)

    assert time.monotonic() - began < 30
    assert [(finding.check, finding.status) for finding in found] == [
        ("name", Status.OK),
        ("Admin API", Status.FAILED),
        ("other", Status.OK),
    ]
    assert found[1].what == "It did not answer within 0.05 s; what follows was not checked."
    assert found[1].may_pass


def test_a_check_that_hangs_does_not_keep_the_process_alive(release: threading.Event) -> None:
    def hang() -> Iterator[Finding]:
        release.wait(60)
        yield AREA.ok("name", "Fine.")

    examine([Examining(hang)], no_progress, seconds=0.05)

    (thread,) = (each for each in threading.enumerate() if each.name == "check-Admin API" and each.is_alive())
    assert thread.daemon


def test_a_fault_of_a_check_is_a_finding_without_its_message() -> None:
    def fail() -> Iterator[Finding]:
        yield AREA.ok("name", "Fine.")
        raise ValueError("payload-of-somebody")

    found = examine([Examining(fail), fine("other")], no_progress)

    assert [finding.status for finding in found] == [Status.OK, Status.FAILED, Status.OK]
    assert "ValueError" in found[1].what
    assert "payload-of-somebody" not in repr(found)


def test_no_secret_is_in_what_is_said() -> None:
    patient = Patient([Examining(lambda: iter([AREA.failed("x", "It said s3cret.", "Replace s3cret.")]))])

    (finding,) = perform(DoctorRequest(), patient, no_progress).findings

    assert (finding.what, finding.do) == ("It said ***.", "Replace ***.")


@pytest.mark.parametrize(
    ("statuses", "healthy"),
    [
        ([Status.OK, Status.WARNING, Status.NOT_CHECKED], True),
        ([Status.OK, Status.FAILED], False),
        ([], True),
    ],
)
def test_healthy_is_what_has_no_failure(statuses: list[Status], healthy: bool) -> None:
    checks = [Examining(partial(iter, [Finding("kong", "x", status, "")])) for status in statuses]

    document = answer("doctor", {}, Patient(checks))

    assert document["healthy"] is healthy
    assert sum(document["counts"].values()) == len(statuses)


def test_progress_counts_checks() -> None:
    shown: list[tuple[str, int, int | None]] = []

    examine([fine("a"), fine("b")], lambda *what: shown.append(what))

    assert shown == [("checks", 0, 2), ("checks", 1, 2)]
