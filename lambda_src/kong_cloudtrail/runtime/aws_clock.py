"""Whether this machine's clock agrees with that of AWS, which refuses calls of a clock that is wrong by 5 minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..domain.finding import Area, Finding
from ..domain.moment import span, utc
from ..ports import Clock

AREA = Area("clock")

TOLERATED_SECONDS = 30
REFUSED_SECONDS = 240
"""AWS refuses signatures that are older or newer than 5 minutes. The difference grows."""


class AwsClockCheckup:
    """Compares the clocks, by the ``Date`` of an answer of S3. It takes no credentials.

    Parameters
    ----------
    bucket
        The bucket that is asked for; ``None``: none in particular.
    clock
        The machine's clock.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for the answer.
    """

    area, name = AREA.name, "AWS"

    def __init__(self, bucket: str | None, clock: Clock, *, connect_seconds: float, answer_seconds: float) -> None:
        self._bucket = bucket
        self._clock = clock
        # An unsigned call: one that is signed would be refused if the clock is wrong, and needs credentials.
        self._client = boto3.client(
            "s3",
            config=Config(
                signature_version=UNSIGNED,
                retries={"total_max_attempts": 1},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
            ),
        )

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        began = self._clock.now()
        try:
            headers = self._ask()
        except BotoCoreError as error:
            code = type(error).__name__
            yield AREA.not_checked("AWS", f"S3 did not answer, so the clocks were not compared ({code}).")
            return
        yield _compared(headers.get("date", ""), (began + self._clock.now()) / 2)

    def _ask(self) -> Mapping[str, str]:
        """Return the headers of any answer."""
        try:
            if self._bucket is None:
                return self._client.list_buckets()["ResponseMetadata"]["HTTPHeaders"]
            return self._client.head_bucket(Bucket=self._bucket)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            return error.response["ResponseMetadata"].get("HTTPHeaders", {})


def _compared(date: str, own_now: float) -> Finding:
    try:
        aws_now = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return AREA.not_checked("AWS", "The answer of S3 has no valid Date header.")
    ahead = round(own_now - aws_now)
    if abs(ahead) < TOLERATED_SECONDS:
        return AREA.ok("AWS", "The clock of the collector agrees with that of AWS.")
    where = "ahead of" if ahead > 0 else "behind"
    what = (
        f"The clock of the collector is {span(abs(ahead))} {where} that of AWS: {utc(int(own_now))} against "
        f"{utc(int(aws_now))}."
    )
    if abs(ahead) < REFUSED_SECONDS:
        return AREA.warning("AWS", what, "Set the clock of this machine by NTP.")
    return AREA.failed("AWS", f"{what} AWS refuses its calls.", "Set the clock of this machine by NTP.")
