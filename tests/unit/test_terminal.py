"""What a person sees at a terminal, and what a log file gets instead."""

import io

from kong_cloudtrail.adapters.telemetry import TerminalTelemetry
from kong_cloudtrail.domain.report import RunReport


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_in_place_and_taken_away_at_the_end() -> None:
    stream = Tty()
    telemetry = TerminalTelemetry(str, stream)

    telemetry.progress(RunReport("kong", pages=2, fetched=2000, duplicates=51, delivered=1900))
    telemetry.publish(RunReport("kong"))

    shown = stream.getvalue()
    assert all(number in shown for number in ("2", "2000", "51", "1900"))
    assert "\n" not in shown
    assert shown.endswith("\r\x1b[2K")


def test_file_gets_no_progress() -> None:
    stream = io.StringIO()
    telemetry = TerminalTelemetry(str, stream)

    telemetry.progress(RunReport("kong", pages=2))
    telemetry.publish(RunReport("kong"))

    assert stream.getvalue() == ""


def test_events_are_lines_and_warnings_begin_with_their_code() -> None:
    stream = io.StringIO()
    telemetry = TerminalTelemetry(str, stream)

    telemetry.info("RUN_SKIPPED", "Another run is at work.")
    telemetry.warning("RUN_UNFINISHED", "The time was used up.", backlog=5)

    assert stream.getvalue() == "Another run is at work.\nRUN_UNFINISHED: The time was used up. backlog=5\n"
