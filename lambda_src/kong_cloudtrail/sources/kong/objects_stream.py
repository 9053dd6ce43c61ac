"""The stream of Kong's ``/audit/objects``: what changed.

It differs from ``/audit/requests`` in three ways. No release documents in which order a window comes. The request time
is there, and can be filtered by, from 3.4.3.9, 3.5.0.5, 3.6.1.5 and 3.7.0.0 on; entries that an older release recorded
have none after an upgrade either. And an entry does not say who made the change, from where and in which workspace:
that is in the entry of the request that caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...domain.entry import Entry
from ...domain.gateway import Gateway
from ...domain.window import Window
from ...ports import Clock, Page
from .admin_api import OBJECTS_PATH, REQUESTS_PATH, AdminApi
from .causes import Causes
from .entries import OBJECT
from .http import HttpClient
from .scan import ScanReading
from .stream import KongStream


class KongObjects(KongStream):
    """Reads ``/audit/objects``, and looks up in ``/audit/requests`` what caused the new entries of a page."""

    path = OBJECTS_PATH
    windows_show_all = False  # entries that an older release recorded have no time

    def __init__(
        self,
        admin_api: str,
        *,
        token: Callable[[bool], str | None],
        root_ca: str | None,
        clock: Clock,
        sleep: Callable[[float], None],
        remaining_seconds: Callable[[], float],
        **options: Any,
    ) -> None:
        super().__init__(
            admin_api,
            token=token,
            root_ca=root_ca,
            clock=clock,
            sleep=sleep,
            remaining_seconds=remaining_seconds,
            **options,
        )
        # A client of its own: the next page is fetched at the same time.
        http = HttpClient(admin_api, root_ca=root_ca, remaining_seconds=remaining_seconds)
        self._causes = Causes(AdminApi(http, admin_api, REQUESTS_PATH, token=token, clock=clock, sleep=sleep), clock)
        self._gateway_ahead_seconds = 0

    def describe(self) -> Gateway:
        """Ask for version, host name and clock; see `KongStream`."""
        gateway = super().describe()
        if gateway.clock is not None:
            self._gateway_ahead_seconds = gateway.clock - int(self._clock.now())
        return gateway

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``; as in `KongStream`.

        For a window that begins in 1970, such as that of a sweep, everything is read: entries without a request time
        are in no window.
        """
        if window is not None and window.after <= 0:
            window = None
        # Entries bear the gateway's time: if its clock is ahead, our own would end the window before the newest ones.
        now = int(self._clock.now()) + max(self._gateway_ahead_seconds, 0)
        return ScanReading(self._api, self._page_size, resume, shape=OBJECT, window=window, now=now).pages()

    def complete(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries with the requests that caused them, as far as these are at hand; see `Causes`."""
        return self._causes.found_for(entries)
