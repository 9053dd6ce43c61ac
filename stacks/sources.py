"""Which gateways share a cache or a ledger, so that two of them never do so by the same name."""

from collections.abc import Iterator, Mapping
from typing import ClassVar
from weakref import WeakKeyDictionary

from constructs import IConstruct

from .choices import CacheOptions, LedgerOptions
from .dedupe_cache import DedupeCache
from .ledger import Ledger


class Sources:
    """The names taken in an app, by the place that they are taken in."""

    _of_apps: ClassVar["WeakKeyDictionary[IConstruct, Sources]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    @classmethod
    def of(cls, construct: IConstruct) -> "Sources":
        """Return what all constructs of an app share."""
        return cls._of_apps.setdefault(construct.node.root, cls())

    def problems(
        self, cache: CacheOptions | DedupeCache, ledger: LedgerOptions | Ledger, variables: Mapping[str, str]
    ) -> Iterator[str]:
        """Say where the name is taken already."""
        places = {"cache": _place_in_cache(cache, variables), "ledger": _place_in_ledger(ledger)}
        for part, place in places.items():
            if place is not None and (place, variables["SOURCE_NAME"]) in self._taken:
                yield (
                    f"source_name: is the name of another gateway in the same {part}; "
                    "give each gateway that shares it a name of its own"
                )

    def take(self, cache: DedupeCache, ledger: Ledger, variables: Mapping[str, str]) -> None:
        """Remember the name."""
        for place in (_place_in_cache(cache, variables), _place_in_ledger(ledger)):
            if place is not None:
                self._taken.add((place, variables["SOURCE_NAME"]))


def _place_in_cache(cache: CacheOptions | DedupeCache, variables: Mapping[str, str]) -> str | None:
    if isinstance(cache, DedupeCache):
        return f"{cache.host}/{variables['REDIS_DB']}"
    return None if cache.existing is None else f"{cache.existing.host}:{cache.existing.port}/{variables['REDIS_DB']}"


def _place_in_ledger(ledger: LedgerOptions | Ledger) -> str | None:
    if isinstance(ledger, Ledger):
        return ledger.url
    return (
        None if ledger.existing_bucket is None else f"s3://{ledger.existing_bucket.bucket_name}/{ledger.prefix or ''}"
    )
