"""A trail: one stream of one source in one destination."""

from __future__ import annotations

from dataclasses import asdict, dataclass

REQUESTS = "requests"
"""The stream of who called what: an entry for each request to the gateway's admin API."""

OBJECTS = "objects"
"""The stream of what changed: an entry for each object that was created, changed or deleted."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The names of a trail, as they are part of every key in the ledger and the cache.

    Each trail has its own checkpoint, seen set, quarantine and run reports, so one never holds up another.

    Parameters
    ----------
    source
        Name of the gateway: ``SOURCE_NAME``.
    stream
        What the gateway records: `REQUESTS` or `OBJECTS`.
    destination
        Where its entries are kept, such as ``cloudtrail-lake``.
    """

    source: str
    stream: str
    destination: str

    @property
    def path(self) -> str:
        """The three names, as they appear in a key."""
        return f"{self.source}/{self.stream}/{self.destination}"

    @property
    def fields(self) -> dict[str, str]:
        """The three names, as they stand in a stored document."""
        return asdict(self)

    def __str__(self) -> str:
        return self.path
