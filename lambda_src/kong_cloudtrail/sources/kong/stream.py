"""What all streams of Kong have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from ...domain.backoff import backoff_seconds
from ...domain.entry import Entry
from ...domain.gateway import UNKNOWN_VERSION, Gateway
from ...domain.window import Window
from ...errors import SourceError, TimeBudgetReached
from ...ports import Clock, Page
from .admin_api import AdminApi, Answer, Effort, is_cached, object_of, parse_date, version_of
from .http import HttpClient, Reply, Trouble
from .window import HARMLESS

_ROOT_ATTEMPTS = 2
_ROOT_SHARE = 0.25
_LEAST_ROOT_SECONDS = 0.1


class KongStream(ABC):
    """Reads one of the audit logs of one Kong Gateway.

    Parameters
    ----------
    admin_api
        URL of the Admin API, without a slash at the end; may have a base path.
    token
        Returns the token, or ``None`` if the Admin API needs none. Called with ``True`` to read it again after Kong
        refused the last one.
    root_ca
        Path of the PEM file of the CA to trust; ``None``: the public CAs.
    page_size
        Entries per page to request, 1 to 1000.
    clock
        The machine's clock.
    sleep
        Waits for the given seconds; raises if the run has no time for it.
    remaining_seconds
        Returns for how long the run may still read; may be infinite. No wait for Kong is longer.
    """

    path: str
    """Path of the audit log."""
    windows_show_all = True

    def __init__(
        self,
        admin_api: str,
        *,
        token: Callable[[bool], str | None],
        root_ca: str | None,
        page_size: int,
        clock: Clock,
        sleep: Callable[[float], None],
        remaining_seconds: Callable[[], float],
    ) -> None:
        http = HttpClient(admin_api, root_ca=root_ca, remaining_seconds=remaining_seconds)
        self._api = AdminApi(http, admin_api, self.path, token=token, clock=clock, sleep=sleep)
        self._page_size = page_size
        self._clock = clock
        self._sleep = sleep
        self._remaining_seconds = remaining_seconds

    def describe(self) -> Gateway:
        """Ask for version, host name and clock.

        Whatever happens with ``/``, the run continues: the ``Server`` header of any answer has the version, and if Kong
        is down, the requests for entries fail.
        """
        reply = self._root()
        if reply is None:
            return Gateway(UNKNOWN_VERSION, self._api.host, None)
        document = (object_of(reply) if reply.status == 200 else None) or {}
        version, hostname = document.get("version"), document.get("hostname")
        return Gateway(
            version if isinstance(version, str) and version else version_of(reply.headers) or UNKNOWN_VERSION,
            hostname if isinstance(hostname, str) and hostname else self._api.host,
            parse_date(reply.headers.get("Date", "")),
        )

    def filters_by_time(self, later: int) -> bool:
        """Ask for entries from the future: a gateway that answers with older ones ignores time filters."""
        effort = Effort()
        try:
            answer = self._api.insist({"after": later}, 1, effort)
        except Trouble:  # perhaps there is such an entry, and Kong cannot show it
            return not self._api.check_alive(HARMLESS, effort).entries
        if not answer.entries:
            return True
        # The first of all entries may happen to be dated in the future.
        return _are_from(later, answer) and not self.has_entries_before(0)

    def has_entries_before(self, timestamp: int) -> bool:
        """Return whether there is any entry older than `timestamp`."""
        effort = Effort()
        try:
            return bool(self._api.insist({"before": timestamp}, 1, effort).entries)
        except Trouble:
            self._api.check_alive(HARMLESS, effort)
            return True  # there is one, and Kong cannot show it

    @abstractmethod
    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``.

        Parameters
        ----------
        window
            The window to read.
        resume
            `Page.resume` of the last page of an earlier reading of the same window.
        """

    def complete(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries as they are: they say everything themselves."""
        return entries

    def _root(self) -> Reply | None:
        """Request ``/``, with few attempts and a short time-out."""
        reply: Reply | None = None
        for attempt in range(1, _ROOT_ATTEMPTS + 1):
            try:
                if attempt > 1:
                    self._sleep(backoff_seconds(1))
                reply = self._api.root(max(self._remaining_seconds() * _ROOT_SHARE, _LEAST_ROOT_SECONDS))
                if reply.status < 500 and reply.status != 429 and not is_cached(reply.headers):
                    return reply
            except Trouble:
                continue
            except (SourceError, TimeBudgetReached):
                break  # the request for entries will fail with the same error
        return None if reply is None or is_cached(reply.headers) else reply


def _are_from(moment: int, answer: Answer) -> bool:
    times = [entry.get("request_timestamp") for entry in answer.entries if isinstance(entry, dict)]
    return all(isinstance(stamp, int | float) and stamp >= moment for stamp in times)
