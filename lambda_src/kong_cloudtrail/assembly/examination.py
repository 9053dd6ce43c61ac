"""The checks of an installation whose settings may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from urllib.parse import urlsplit

from ..destinations import archive, cloudtrail, cloudwatch_logs
from ..destinations.archive.checkup import BucketCheckup, FolderCheckup, SigningCheckup
from ..destinations.cloudtrail.checkup import ChannelCheckup, endpoint_check
from ..destinations.cloudwatch_logs.checkup import LogGroupCheckup
from ..destinations.cloudwatch_logs.checkup import endpoint_check as logs_endpoint_check
from ..domain.finding import Area, Finding
from ..domain.reaching import ReachCheck, Server
from ..domain.trail import Trail
from ..errors import SettingsError
from ..ports import Check
from ..runtime.aws_clock import AwsClockCheckup
from ..runtime.redaction import Redactor
from ..settings import Settings
from ..sources.kong import checkup as kong
from ..state import cache_checkup, ledger_checkup
from ..state.cache_checkup import CacheCheckup
from ..state.ledger import Ledger
from ..state.ledger_checkup import LedgerCheckup, ProgressCheckup
from ..state.valkey import key_prefix
from ..variables import REQUESTS, TABLE, LogGroup
from .connections import Connections, Limits, with_aws
from .runs import Assembly
from .trails import SystemClock

SETTINGS = Area("settings")
_NEARLY = 0.9
"""How alike a name has to be for a misspelled one. Variables of other programs, such as Kong's own, are less alike."""

LIMITS = Limits(
    cache_seconds=2.0,
    release_seconds=0.2,
    connect_seconds=2.0,
    answer_seconds=4.0,
    ledger_connect_seconds=1.0,
    ledger_answer_seconds=2.0,
)
"""The time-outs of checks: shorter than those of a run, as somebody waits."""


class DoctorInstallation:
    """An installation to be examined.

    Parameters
    ----------
    environment
        Names and values of variables.
    redactor
        Gets every secret that is read.
    stream, destination
        Only the trails of this stream, and into this destination; ``None`` for all.

    Raises
    ------
    RequestInvalid
        If there are no such trails.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        redactor: Redactor,
        *,
        stream: object = None,
        destination: object = None,
    ) -> None:
        self.clock = SystemClock()
        self.clean = redactor.clean
        self._environment = environment
        self._settings, self._problems = Settings.as_far_as_readable(environment)
        self._wrong = {problem.partition(":")[0] for problem in self._problems}
        assembly = Assembly(self._settings, redactor)
        self._trails = assembly.chosen(stream, destination) if assembly.trails else ()
        self._uses_cache = any(assembly.uses_cache(trail) for trail in self._trails)
        self._connections = Connections(self._settings, LIMITS, redactor)

    @property
    def checks(self) -> Sequence[Check]:
        """What finds out how it is, area by area."""
        # All clients of AWS are made here, one after the other: that is not safe in several threads.
        makers: list[tuple[Area, Callable[[], Iterator[Check]]]] = [
            (SETTINGS, self._of_settings),
            (kong.AREA, self._of_kong),
            (cache_checkup.AREA, self._of_cache),
            (ledger_checkup.AREA, self._of_ledger),
            (Area(archive.NAME), self._of_archive),
            (Area(cloudtrail.NAME), self._of_lake),
            (Area(cloudwatch_logs.NAME), self._of_logs),
            (Area("clock"), self._of_clock),
        ]
        return [check for area, make in makers for check in _made(area, make)]

    def _of_settings(self) -> Iterator[Check]:
        findings = [*_settings(self._settings, self._problems, self._trails), *_misspelled(self._environment)]
        yield _Found(SETTINGS.name, "settings", tuple(findings))

    def _of_kong(self) -> Iterator[Check]:
        settings, connections = self._settings, self._connections
        if not settings.kong_admin_api:
            yield _unreadable(kong.AREA, "Admin API")
            return
        if wrong := self._wrong_ones("KONG_"):
            server = kong.server_of(
                settings.kong_admin_api,
                connections.kong_root_ca_path,
                with_tls="KONG_ROOT_CA" not in wrong,
            )
            yield ReachCheck(server)
            yield _unreadable(kong.AREA, "Admin API")
            return
        if settings.kong_needs_token and settings.kong_admin_token_secret is not None:
            _ = connections.secrets
        yield kong.KongCheckup(
            settings.kong_admin_api,
            token=connections.kong_token,
            root_ca=connections.kong_root_ca_path,
            clock=self.clock,
            own_user=settings.exclude_own_reads,
            streams={trail.stream for trail in self._trails} or {REQUESTS},
        )

    def _of_cache(self) -> Iterator[Check]:
        settings, connections = self._settings, self._connections
        if not self._uses_cache:
            return
        if not settings.redis_host:
            yield _unreadable(cache_checkup.AREA, "cache")
            return
        if self._wrong_ones("REDIS_"):
            yield ReachCheck(Server(cache_checkup.AREA, settings.redis_host, settings.redis_port, "REDIS_HOST"))
            yield _unreadable(cache_checkup.AREA, "cache")
            return
        if settings.redis_password_secret is not None:
            _ = connections.secrets
        yield CacheCheckup(
            settings.redis_host,
            settings.redis_port,
            tls=settings.redis_tls,
            connect=lambda: connections.cache,
            probe=f"{key_prefix(self._trails[0])}:doctor",
            is_serverless=settings.redis_serverless,
        )

    def _of_ledger(self) -> Iterator[Check]:
        settings = self._settings
        if "LEDGER" in self._wrong:
            yield _unreadable(ledger_checkup.AREA, "ledger")
            return
        if settings.ledger is None:
            finding = ledger_checkup.AREA.warning(
                "ledger",
                "LEDGER is not set: no checkpoint is kept, so each run reads everything that Kong retains.",
                "Set LEDGER to s3://bucket/prefix or a folder.",
            )
            yield _Found(ledger_checkup.AREA.name, "ledger", (finding,))
            return
        store = self._connections.store
        yield LedgerCheckup(store, settings.source_name)
        for trail in self._trails:
            which = "" if len(self._trails) == 1 else f" ({trail.stream}, {trail.destination})"
            yield ProgressCheckup(Ledger(store, trail, self.clock), f"last run{which}", self.clock)

    def _of_archive(self) -> Iterator[Check]:
        settings = self._settings
        trails = [trail for trail in self._trails if trail.destination == archive.NAME]
        if not trails:
            return
        place = settings.archive
        if place is None:
            yield _unreadable(Area(archive.NAME), "place")
        elif "://" not in place:
            yield FolderCheckup(place)
        else:
            yield BucketCheckup(
                place,
                trails[0].source,
                [trail.stream for trail in trails],
                connect_seconds=LIMITS.connect_seconds,
                answer_seconds=LIMITS.answer_seconds,
            )
        if settings.archive_signing_key is not None:
            signer = self._connections.signer
            yield SigningCheckup(lambda: signer)

    def _of_lake(self) -> Iterator[Check]:
        channel = self._settings.channel
        if not any(trail.destination == cloudtrail.NAME for trail in self._trails):
            return
        if channel is None:
            yield _unreadable(Area(cloudtrail.NAME), "channel")
            return
        yield with_aws(partial(endpoint_check, channel.region))
        yield with_aws(
            lambda: ChannelCheckup(
                channel.arn,
                channel.region,
                channel.account_id,
                connect_seconds=LIMITS.connect_seconds,
                answer_seconds=LIMITS.answer_seconds,
            )
        )

    def _of_logs(self) -> Iterator[Check]:
        group = self._settings.log_group
        if not any(trail.destination == cloudwatch_logs.NAME for trail in self._trails):
            return
        if group is None:
            yield _unreadable(Area(cloudwatch_logs.NAME), "log group")
            return
        yield with_aws(partial(logs_endpoint_check, group.region))
        yield _log_group_check(self._settings, group)

    def _of_clock(self) -> Iterator[Check]:
        settings = self._settings
        places = [place for place in (settings.ledger, settings.archive) if place is not None and "://" in place]
        if not places and settings.channel is None and settings.log_group is None:
            return
        bucket = urlsplit(places[0]).netloc if places else None
        yield with_aws(
            lambda: AwsClockCheckup(
                bucket, self.clock, connect_seconds=LIMITS.connect_seconds, answer_seconds=LIMITS.answer_seconds
            )
        )

    def _wrong_ones(self, prefix: str) -> set[str]:
        return {name for name in self._wrong if name.startswith(prefix)}


def log_group_checks(variables: Mapping[str, str]) -> Sequence[Check]:
    """Return the checks of a log group with the permissions of whoever asks: the function's role sees less of it.

    Parameters
    ----------
    variables
        The variables of the function, as far as they are known.
    """
    settings, _ = Settings.as_far_as_readable(variables)
    group = settings.log_group
    if group is None or cloudwatch_logs.NAME not in settings.destinations:
        return ()
    return (_log_group_check(settings, group),)


def _log_group_check(settings: Settings, group: LogGroup) -> Check:
    return with_aws(
        lambda: LogGroupCheckup(
            group.name,
            group.region,
            settings.log_group_retention_days,
            connect_seconds=LIMITS.connect_seconds,
            answer_seconds=LIMITS.answer_seconds,
        )
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A check whose findings are known before it begins."""

    area: str
    name: str
    findings: Sequence[Finding]

    def run(self) -> Iterator[Finding]:
        yield from self.findings


def _made(area: Area, make: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield checks; if their clients cannot be made, that is what is found."""
    try:
        yield from make()
    except SettingsError as error:
        problem = error.problems[0]
        what, _, do = problem.partition(". ")
        yield _Found(area.name, "AWS", (area.failed("AWS", f"{what}.", do),))


def _unreadable(area: Area, name: str) -> Check:
    finding = area.not_checked(name, "Not checked: its settings are wrong.", "Correct the settings first.")
    return _Found(area.name, name, (finding,))


def _settings(settings: Settings, problems: Sequence[str], trails: Sequence[Trail]) -> Iterator[Finding]:
    for problem in problems:
        name, _, what = problem.partition(": ")
        yield SETTINGS.failed(name, f"{name} {what}", "Correct it. docs/settings.md describes every variable.")
    if not problems:
        yield SETTINGS.ok("settings", f"All are valid. Trails: {', '.join(trail.path for trail in trails)}.")
    has_token = settings.kong_admin_token is not None or settings.kong_admin_token_secret is not None
    if has_token and not settings.kong_needs_token:
        yield SETTINGS.warning(
            "KONG_SUPERADMIN",
            "There is a token for Kong, but KONG_SUPERADMIN is false, so it is not sent.",
            "Set KONG_SUPERADMIN to true, or take the token away.",
        )


def _misspelled(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the names that are nearly, but not quite, those of settings. A value is never shown."""
    known = [variable.name for variable in TABLE]
    for name in sorted(environment.keys() - set(known)):
        for meant in get_close_matches(name.upper(), known, 1, _NEARLY):
            given = " It is given, too." if environment.get(meant, "").strip() else ""
            yield SETTINGS.warning(
                name,
                f"The variable {name} has no effect: there is no such setting, but {meant}.{given}",
                f"Correct the name, if {meant} is meant.",
            )
