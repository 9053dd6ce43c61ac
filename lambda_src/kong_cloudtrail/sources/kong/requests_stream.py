"""The stream of Kong's ``/audit/requests``: who called what.

It relies on what Kong documents: "Audit logging" in the Gateway guides, the Admin API reference and the changelogs of
3.1 to 3.11. Where versions differ, it uses what works in all of them: it builds each page's URL from its own parameters
and ``offset``. It never follows ``next``, which loses the filters before 3.9, and any base path.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...domain.window import Window
from ...ports import Page
from .admin_api import REQUESTS_PATH
from .scan import ScanReading
from .stream import KongStream
from .window import WindowReading


class KongRequests(KongStream):
    """Reads ``/audit/requests``. Gateways that filter by time show the newest entries first."""

    path = REQUESTS_PATH

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``; as in `KongStream`."""
        if window is None:
            return ScanReading(self._api, self._page_size, resume).pages()
        now = int(self._clock.now())
        return WindowReading(self._api, self._page_size, resume, window=window, now=now).pages()
