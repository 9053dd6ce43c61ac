"""What a run needs of Kong, looked at piece by piece. Each request is audited by Kong itself, so there are few."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ...domain.exclusion import Rule
from ...domain.finding import Area, Finding
from ...domain.moment import span, utc
from ...domain.reaching import Plain, Server, reach, speaks_tls
from ...errors import CollectorError, SecretUnavailable, SourceRefused, TimeBudgetReached
from ...ports import Clock
from .admin_api import ADVICE, OBJECTS_PATH, REQUESTS_PATH, AdminApi, object_of, parse_date, version_of
from .checks import never_rises, request_times
from .http import HttpClient, Reply, Trouble, tls_context
from .own_reads import own_reads

AREA = Area("kong")
IGNORE_PATTERN = "^/audit/"
"""What to write into Kong's ``audit_log_ignore_paths``. Without the anchor, a query string could hide any call."""

REQUEST_SECONDS = 4.0
OWN_READ_WAITS_SECONDS = (0.5, 1.0, 1.5)
"""Waits until the own read has to be visible."""
TOLERATED_SECONDS = 30
"""Difference between two clocks that is no concern: the overlap of two runs is longer."""
WRONG_CLOCK_SECONDS = 300

_SAMPLE_ROWS = 20
_SEARCHED_ROWS = 100
_LATELY_SECONDS = 3600
_SHORT_RETENTION_SECONDS = 2 * 86_400
_REQUESTS, _OBJECTS = "requests", "objects"
_PLAIN_HTTP = Plain(
    b"x\r\n\r\n",  # no request: Kong has nothing to record
    (b"HTTP/", b"<html"),
    "plain HTTP",
    "Set KONG_ADMIN_API to Kong's port for HTTPS, 8444 by default; or begin it with http:// if there is no other port.",
)
_REQUEST_ID = "X-Kong-Admin-Request-ID"
_SUBJECTS = "version, audit log and rights"


@dataclass(slots=True)
class _Known:
    """What the answers so far have shown."""

    configuration: Mapping[str, Any] = field(default_factory=dict)
    kong_now: int | None = None
    rows: Sequence[Any] = ()
    own_id: str | None = None
    filters: bool | None = None
    own_row: Mapping[str, Any] | None = None


class KongCheckup:
    """Finds out whether the audit log of a Kong Gateway can be read.

    Parameters
    ----------
    admin_api
        URL of the Admin API, without a slash at the end.
    token
        Returns the token, or ``None`` if the settings say that the Admin API needs none.
    root_ca
        Path of the PEM file of the CA to trust; ``None``: the public CAs.
    clock
        The machine's clock.
    own_user
        The user whose reads of the audit log are excluded; ``None``: none are.
    streams
        The streams that are read.
    """

    area, name = AREA.name, "Admin API"

    def __init__(
        self,
        admin_api: str,
        *,
        token: Callable[[bool], str | None],
        root_ca: str | None,
        clock: Clock,
        own_user: str | None = None,
        streams: Collection[str] = (_REQUESTS,),
    ) -> None:
        self._own_user = own_user
        self._streams = streams
        self._url = urlsplit(admin_api)
        self._root_ca = root_ca
        self._token = token
        self._clock = clock
        http = HttpClient(admin_api, root_ca=root_ca, remaining_seconds=lambda: math.inf)
        self._api, self._objects_api = (
            AdminApi(http, admin_api, path, token=token, clock=clock, sleep=clock.sleep)
            for path in (REQUESTS_PATH, OBJECTS_PATH)
        )

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        if not (yield from reach(server_of(self._url.geturl(), self._root_ca))):
            yield AREA.not_checked("Admin API", f"Kong could not be reached, so {_SUBJECTS} were not checked.")
            return
        try:
            has_token = self._token(False) is not None
        except SecretUnavailable as error:
            yield AREA.failed("token", str(error), "Make the secret readable, or correct KONG_ADMIN_TOKEN_SECRET.")
            yield AREA.not_checked("Admin API", f"Without the token, {_SUBJECTS} were not checked.")
            return
        if has_token and self._url.scheme == "http" and self._url.hostname not in ("localhost", "127.0.0.1", "::1"):
            yield AREA.warning(
                "TLS",
                "The token is sent without encryption: KONG_ADMIN_API begins with http://.",
                "Use Kong's port for HTTPS, 8444 by default.",
            )
        known = _Known()
        try:
            yield from self._root(known)
            may_read = yield from self._rights(known, has_token)
            if _OBJECTS in self._streams:
                yield from self._rights_to_objects(known, has_token)
            if may_read:
                yield from self._capabilities(known)
                yield from self._audit_log(known, has_token)
        except Trouble as trouble:
            if self._needs_tls():
                yield self._tls_needed()
                return
            yield AREA.failed(
                "Admin API",
                f"Kong did not answer as it should: {trouble.reason}.",
                "Look into Kong's log, and check whether there is a proxy in between.",
                may_pass=True,
            )
        except SourceRefused as error:
            yield AREA.failed("Admin API", str(error), "Correct what the message says.")
        except (CollectorError, TimeBudgetReached) as error:
            yield AREA.failed("Admin API", str(error), "Try again later.", may_pass=True)

    def _needs_tls(self) -> bool:
        """Return whether Kong speaks TLS, and the settings do not. It may answer such a request, with status 400."""
        server = server_of(self._url.geturl(), None)
        return server.tls is None and speaks_tls(server.host, server.port)

    def _tls_needed(self) -> Finding:
        return AREA.failed(
            "TLS",
            "The port speaks TLS, and KONG_ADMIN_API begins with http://.",
            "Begin KONG_ADMIN_API with https://. If a private CA signed Kong's certificate, set KONG_ROOT_CA.",
        )

    # -- version, clock, configuration

    def _root(self, known: _Known) -> Iterator[Finding]:
        began = self._clock.now()
        reply = self._api.root(REQUEST_SECONDS)
        ended = self._clock.now()
        document = (object_of(reply) if reply.status == 200 else None) or {}
        version = document.get("version")
        version = version if isinstance(version, str) and version else version_of(reply.headers)
        configuration = document.get("configuration")
        known.configuration = configuration if isinstance(configuration, dict) else {}
        known.kong_now = parse_date(reply.headers.get("Date", ""))
        yield _version(version, reply.status)
        yield _clock(known.kong_now, (began + ended) / 2)
        yield from _retention(known.configuration)

    # -- the token's rights

    def _rights(self, known: _Known, has_token: bool) -> Generator[Finding, None, bool]:
        reply = self._api.reply({}, _SAMPLE_ROWS, seconds=REQUEST_SECONDS)
        if reply.status == 400 and self._needs_tls():
            yield self._tls_needed()
            return False
        rows = _rows(reply)
        finding = _right("rights", REQUESTS_PATH, reply, rows, has_token, known.configuration)
        if rows is None and reply.status in (403, 404) and _REQUESTS not in self._streams:
            what = f"{finding.what} Without it, the changes of objects are delivered without user and address."
            yield AREA.warning(finding.check, what, str(finding.do))
        else:
            yield finding
        if rows is None:
            return False
        known.rows = rows
        known.own_id = reply.headers.get(_REQUEST_ID)
        return True

    def _rights_to_objects(self, known: _Known, has_token: bool) -> Iterator[Finding]:
        reply = self._objects_api.reply({}, 1, seconds=REQUEST_SECONDS)
        check = "rights to objects"
        finding = _right(check, OBJECTS_PATH, reply, _rows(reply), has_token, known.configuration)
        if reply.status in (403, 404) and finding.check == check:
            finding = replace(finding, do=f"{str(finding.do).removesuffix('.')}, or take objects out of STREAMS.")
        yield finding

    # -- filters and order

    def _capabilities(self, known: _Known) -> Iterator[Finding]:
        if not known.rows:
            yield AREA.not_checked("filters", "The audit log is empty, so it does not show whether filters work.")
            yield AREA.not_checked("order", "The audit log is empty, so it does not show in which order entries come.")
            return
        reply = self._api.reply({"before": 0}, 1, seconds=REQUEST_SECONDS)
        document = object_of(reply) if reply.status == 200 else None
        if document is None:
            known.filters = None
            yield AREA.not_checked("filters", f"Kong answered with status {reply.status} to a filter by time.")
        else:
            known.filters = not document.get("data")
            yield _filters(known.filters)
        yield _order(request_times(known.rows))

    # -- whether the audit log is on, and what it records

    def _audit_log(self, known: _Known, has_token: bool) -> Iterator[Finding]:
        patterns = _patterns(known.configuration.get("audit_log_ignore_paths"))
        ignored = _matching(patterns, f"{REQUESTS_PATH}?size={_SAMPLE_ROWS}")
        if not ignored:
            known.own_row = self._find_own_read(known)
        yield self._is_on(known)
        rule = None if self._own_user is None else own_reads(self._own_user, self._url.geturl())
        yield from _own_reads(known, patterns, ignored, rule, self._own_user)
        yield _rbac(known, has_token)

    def _find_own_read(self, known: _Known) -> Mapping[str, Any] | None:
        """Look for the entry of the first read of `REQUESTS_PATH`, which appears shortly after."""
        if known.own_id is None:
            return None
        question: dict[str, int | str] = {}
        if known.filters and known.kong_now is not None:
            question["after"] = known.kong_now - TOLERATED_SECONDS
        for seconds in OWN_READ_WAITS_SECONDS:
            self._clock.sleep(seconds)
            reply = self._api.reply(question, _SEARCHED_ROWS, seconds=REQUEST_SECONDS)
            document = (object_of(reply) if reply.status == 200 else None) or {}
            for row in document.get("data") or ():
                if isinstance(row, dict) and row.get("request_id") == known.own_id:
                    return row
        return None

    def _is_on(self, known: _Known) -> Finding:
        told = known.configuration.get("audit_log")
        if _is_off(told):
            return _audit_log_off()
        if known.own_row is not None:
            return AREA.ok("audit log", "It is on: the read of this check was recorded.")
        if told is not None:
            return AREA.ok("audit log", "It is on, says the configuration in Kong's answer to /.")
        times = request_times(known.rows)
        now = known.kong_now or int(self._clock.now())
        if times and now - max(times) < _LATELY_SECONDS:
            return AREA.ok("audit log", f"It is on: the newest entry is of {utc(max(times))}.")
        newest = f"the newest entry is of {utc(max(times))}" if times else "there is no entry"
        return AREA.not_checked(
            "audit log",
            f"Cannot tell whether it is on: {newest}, and the token may not read Kong's configuration at /.",
            "Make any call of the Admin API and check again, or look for audit_log = on in kong.conf.",
        )


def server_of(admin_api: str, root_ca: str | None, *, with_tls: bool = True) -> Server:
    """Return the server of an Admin API."""
    url = urlsplit(admin_api)
    encrypted = url.scheme == "https"
    return Server(
        AREA,
        url.hostname or "",
        url.port or (443 if encrypted else 80),
        "KONG_ADMIN_API",
        partial(tls_context, root_ca) if encrypted and with_tls else None,
        "If a private CA signed it, set KONG_ROOT_CA to the certificate of that CA."
        if root_ca is None
        else "KONG_ROOT_CA is another CA than the one that signed it: set it to that one.",
        plain=_PLAIN_HTTP,
    )


def _version(version: str, status: int) -> Finding:
    if not version:
        return AREA.not_checked(
            "version",
            f"Kong does not tell it: / was answered with status {status}, without a version in the Server header.",
            "Let the user of the token read /, so that events name the version.",
        )
    source = "" if status == 200 else f", by the Server header: / was answered with status {status}"
    if "enterprise" not in version.lower():
        return AREA.warning(
            "version",
            f"Kong Gateway {version}{source}. It does not say that it is the Enterprise edition.",
            "Only Kong Gateway Enterprise has an audit log. Check that KONG_ADMIN_API leads to such a control plane.",
        )
    return AREA.ok("version", f"Kong Gateway {version}{source}.")


def _clock(kong_now: int | None, own_now: float) -> Finding:
    if kong_now is None:
        return AREA.not_checked("clock", "Kong's answer has no valid Date header.")
    ahead = round(kong_now - own_now)
    where = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) < TOLERATED_SECONDS:
        return AREA.ok("clock", "Kong's clock and that of the collector agree.")
    times = f"{utc(kong_now)} against {utc(int(own_now))}"
    what = f"Kong's clock is {span(abs(ahead))} {where} that of the collector: {times}."
    do = (
        "Set the clock of Kong's nodes by NTP: its time is that of every event. If the finding on AWS's clock is no "
        "better, it is the collector's clock that is wrong."
    )
    return AREA.failed("clock", what, do) if abs(ahead) >= WRONG_CLOCK_SECONDS else AREA.warning("clock", what, do)


def _retention(configuration: Mapping[str, Any]) -> Iterator[Finding]:
    seconds = configuration.get("audit_log_record_ttl")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        return
    what = f"Kong keeps entries for {seconds / 86_400:.1f} days (audit_log_record_ttl)."
    if seconds < _SHORT_RETENTION_SECONDS:
        yield AREA.warning(
            "retention", what, "Raise it: if no run succeeds for that long, entries are gone before they are delivered."
        )
    else:
        yield AREA.ok("retention", what)


def _rows(reply: Reply) -> Sequence[Any] | None:
    """Return the rows of a page; ``None`` if it is none."""
    document = object_of(reply) if reply.status == 200 else None
    rows = None if document is None else document.get("data")
    return list(rows) if isinstance(rows, list | dict) else None


def _right(
    check: str,
    path: str,
    reply: Reply,
    rows: Sequence[Any] | None,
    has_token: bool,
    configuration: Mapping[str, Any],
) -> Finding:
    """Return whether a path may be read."""
    if reply.status != 200:
        return _refusal(check, path, reply, has_token, configuration)
    if rows is None:
        return AREA.failed(
            check,
            f"The answer of {path} is not one of Kong's Admin API.",
            "Check that KONG_ADMIN_API leads to the Admin API, base path included, and not to Kong Manager or a "
            "login page.",
        )
    who = "The token" if has_token else "The collector, without a token,"
    return AREA.ok(check, f"{who} may read {path}.")


def _refusal(check: str, path: str, reply: Reply, has_token: bool, configuration: Mapping[str, Any]) -> Finding:
    """Return what an answer means that is no page."""
    what = f"Kong answered {path} with status {reply.status}"
    if reply.status == 401 and not has_token:
        return AREA.failed(
            check,
            f"{what}: it asks for a token, and the settings have none.",
            "Set KONG_SUPERADMIN=true and KONG_ADMIN_TOKEN_SECRET to the secret with the token of an RBAC user.",
        )
    if reply.status == 404 and _is_off(configuration.get("audit_log")):
        return _audit_log_off()
    if reply.status == 429 or reply.status >= 500:
        return AREA.failed(
            check, f"{what}.", "Look into Kong's log, and into that of a proxy in front of it.", may_pass=True
        )
    if 300 <= reply.status < 400:
        return AREA.failed(
            check,
            f"{what}, which leads elsewhere. The collector does not follow: the token is for this host only.",
            "Set KONG_ADMIN_API to the address behind the redirect, with its scheme, port and base path.",
        )
    advice = ADVICE.get(reply.status, "gave an answer that is not documented. Check that the URL is the Admin API's")
    advice = advice.format(path=path)
    reason, _, do = advice.partition(". ")
    if not do:
        return AREA.failed(check, f"{what}: it {reason}.", "Look into Kong's log.")
    return AREA.failed(check, f"{what}: it {reason}.", f"{do[0].upper()}{do[1:]}.")


def _audit_log_off() -> Finding:
    return AREA.failed(
        "audit log",
        "Kong's audit_log is off: nothing is recorded, and what happens now will never be in the trail.",
        "Set audit_log = on in kong.conf (or KONG_AUDIT_LOG=on) on every control-plane node, and reload Kong.",
    )


def _filters(work: bool) -> Finding:
    if work:
        return AREA.ok("filters", "The gateway filters by time: a run reads only what is new.")
    return AREA.warning(
        "filters",
        "The gateway does not filter by time, so each run reads everything that Kong retains.",
        "Upgrade Kong to 3.7 or later (or 3.4.3.9, 3.5.0.5, 3.6.1.5). Until then, give runs enough time.",
    )


def _order(times: list[int]) -> Finding:
    if len(set(times)) < 2:
        return AREA.not_checked("order", "There are too few entries to see in which order they come.")
    if never_rises(times):
        return AREA.ok("order", "The newest entries come first.")
    return AREA.warning(
        "order",
        "Entries come in an order that has nothing to do with time, so a run has to read all of them.",
        "Upgrade Kong to 3.7 or later (or 3.4.3.8, 3.5.0.4, 3.6.1.5).",
    )


def _own_reads(
    known: _Known, patterns: Sequence[str], ignored: Sequence[str], rule: Rule | None, own_user: str | None
) -> Iterator[Finding]:
    open_ended = [pattern for pattern in patterns if not pattern.startswith("^")]
    if open_ended:
        yield AREA.warning(
            "ignored paths",
            f"audit_log_ignore_paths has patterns without an anchor: {', '.join(open_ended)}. Whoever adds such a text "
            "to the query string of a call hides the call.",
            f"Begin each pattern with ^, as in {IGNORE_PATTERN}",
        )
    if ignored:
        yield AREA.ok("own reads", f"Kong does not record the collector's own reads: {ignored[0]} is ignored.")
    elif known.own_row is not None:
        yield _recorded(known.own_row, rule, own_user)
    elif known.own_id is None:
        yield AREA.not_checked(
            "own reads", f"Kong's answers have no {_REQUEST_ID}, by which the own reads could be recognised."
        )
    elif known.filters is False and not never_rises(request_times(known.rows)):
        yield AREA.not_checked("own reads", "This gateway shows entries in no order, so the own read may be anywhere.")
    else:
        seconds = sum(OWN_READ_WAITS_SECONDS)
        yield AREA.ok("own reads", f"The read of this check was not recorded within {seconds:.0f} s.")


def _recorded(row: Mapping[str, Any], rule: Rule | None, own_user: str | None) -> Finding:
    """Return what it means that the own read was recorded."""
    if rule is None:
        return AREA.warning(
            "own reads",
            "Kong records the collector's own reads, so every run adds entries that the next one delivers.",
            f"Set in kong.conf, with the anchor: audit_log_ignore_paths = {_pattern_for(str(row.get('path', '')))}",
        )
    if rule.matches(row):
        return AREA.ok("own reads", "Kong records the collector's own reads, and runs leave them out.")
    user = row.get("rbac_user_name") or row.get("rbac_user_id")
    return AREA.warning(
        "own reads",
        f"Kong records the collector's own reads as those of {user or 'nobody'}, but EXCLUDE_OWN_READS is {own_user}: "
        "they are delivered.",
        f"Set EXCLUDE_OWN_READS to {user}." if user else "Let Kong check tokens: enforce_rbac = on in kong.conf.",
    )


def _rbac(known: _Known, has_token: bool) -> Finding:
    told = known.configuration.get("enforce_rbac")
    is_off = None if told is None else _is_off(told)
    if is_off is None and known.own_row is not None:
        is_off = known.own_row.get("rbac_user_id") is None
    if is_off is None:
        return AREA.not_checked("RBAC", "Cannot tell whether Kong checks tokens: its configuration is not readable.")
    if not is_off:
        return AREA.ok("RBAC", "Kong knows its callers: RBAC is on.")
    if has_token:
        return AREA.warning(
            "RBAC",
            "A token is sent, but Kong does not check it: RBAC is off. Whoever reaches the Admin API may change "
            "everything, and entries do not say who it was.",
            "Set enforce_rbac = on in kong.conf. If that is not wanted, set KONG_SUPERADMIN=false: no token is needed.",
        )
    return AREA.warning(
        "RBAC",
        "RBAC is off in Kong, so entries do not say who made a call.",
        "Set enforce_rbac = on in kong.conf, and give the collector the token of a user that may read the audit log.",
    )


def _is_off(told: object) -> bool:
    return told is False or (isinstance(told, str) and told.strip().lower() in ("off", "false", "no", "0"))


def _patterns(told: object) -> list[str]:
    """Return the patterns of a setting, which is a list, or a text with commas. Lua writes an empty list as ``{}``."""
    parts = told.split(",") if isinstance(told, str) else told if isinstance(told, list) else []
    return [part.strip() for part in parts if isinstance(part, str) and part.strip()]


def _matching(patterns: Sequence[str], path: str) -> list[str]:
    """Return the patterns that match a path. Kong's dialect is PCRE; one that Python cannot read matches nothing."""
    found = []
    for pattern in patterns:
        try:
            if re.search(pattern, path):
                found.append(pattern)
        except re.error:
            continue
    return found


def _pattern_for(path: str) -> str:
    """Return the anchored pattern for the collector's reads, as Kong sees their path."""
    before, found, _ = path.partition("?")[0].partition(REQUESTS_PATH)
    return f"^{re.escape(before)}/audit/" if found else IGNORE_PATTERN
