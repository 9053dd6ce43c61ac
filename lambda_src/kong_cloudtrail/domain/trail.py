"""A trail: one stream of one source, kept in one destination."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trail:
    """What names a trail in every key of the ledger and the cache.

    Each trail has its own checkpoint, seen set, quarantine and run reports, so one never holds up another.

    Parameters
    ----------
    source
        Name of the gateway, as in ``SOURCE_NAME``.
    stream
        What the gateway records: ``requests``.
    destination
        Where its entries are kept: ``cloudtrail-lake``.
    """

    source: str
    stream: str
    destination: str

    @property
    def path(self) -> str:
        """The three names, as they stand in a key."""
        return f"{self.source}/{self.stream}/{self.destination}"

    def __str__(self) -> str:
        return self.path
