"""When a schedule comes next."""

from __future__ import annotations

from datetime import datetime

import pytest

from cli.schedules import next_time

NOW = "2026-11-30T21:45:10"  # a Monday


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


@pytest.mark.parametrize(
    ("expression", "since", "expected"),
    [
        ("rate(1 hour)", "2026-11-01T08:20:00", "2026-11-30T22:20:00"),
        ("rate(5 minutes)", NOW, "2026-11-30T21:50:10"),
        ("rate(1 day)", "2026-12-24T00:00:00", "2026-12-25T00:00:00"),
        ("cron(0 * * * ? *)", NOW, "2026-11-30T22:00:00"),
        ("cron(0/15 * * * ? *)", NOW, "2026-11-30T22:00:00"),
        ("cron(46,50 21 * * ? *)", NOW, "2026-11-30T21:46:00"),
        ("cron(45 21 * * ? *)", NOW, "2026-12-01T21:45:00"),
        ("cron(0 3 ? * TUE-FRI *)", NOW, "2026-12-01T03:00:00"),
        ("cron(0 3 ? * fri-mon *)", NOW, "2026-12-04T03:00:00"),
        ("cron(30 6 1 JAN ? 2027)", NOW, "2027-01-01T06:30:00"),
        ("cron(0 8-18/5 * * ? *)", NOW, "2026-12-01T08:00:00"),
    ],
)
def test_next(expression: str, since: str, expected: str) -> None:
    assert next_time(expression, now=at(NOW), since=at(since)) == at(expected)


def test_time_zone_decides() -> None:
    found = next_time("cron(0 3 * * ? *)", now=at(NOW), since=0, time_zone="America/New_York")

    assert found == at("2026-12-01T08:00:00")


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("cron(0 3 L * ? *)", "UTC"),
        ("cron(0 3 ? * MON#1 *)", "UTC"),
        ("cron(0 3 * * ? 2031)", "UTC"),
        ("cron(0 3 * * ? *)", "Mars/Olympus"),
        ("at(2026-12-01T00:00:00)", "UTC"),
        ("rate(0 hours)", "UTC"),
        ("cron(0/0 3 * * ? *)", "UTC"),
        ("", "UTC"),
    ],
)
def test_what_is_not_understood_is_unknown(expression: str, zone: str) -> None:
    assert next_time(expression, now=at(NOW), since=0, time_zone=zone) is None
