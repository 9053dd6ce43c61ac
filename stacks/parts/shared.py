"""Which gateways share a cache, a ledger or metrics: their names are told apart, and what is shared is watched once."""

from collections.abc import Iterator, Mapping
from typing import ClassVar
from weakref import WeakKeyDictionary

from aws_cdk import Stack, Stage
from constructs import IConstruct

from ..settings.groups import Archive, CacheOptions, ExistingCache, LedgerOptions
from .archive import PREFIX, ArchiveBucket
from .cache import DedupeCache
from .ledger import Ledger


class Sources:
    """The names taken in an app, by the place that they are taken in, as one integration sees them.

    Parameters
    ----------
    environment : str
        Account and region of the integration.
    taken : set of tuple
        Place and name of every gateway in the app.
    """

    _of_apps: ClassVar["WeakKeyDictionary[IConstruct, set[tuple[str | None, str]]]"] = WeakKeyDictionary()

    def __init__(self, environment: str, taken: set[tuple[str | None, str]]) -> None:
        self._environment = environment
        self._taken = taken

    @classmethod
    def around(cls, construct: IConstruct) -> "Sources":
        """Return what all constructs of an app share, seen by one of them."""
        return cls(_environment_of(construct), cls._of_apps.setdefault(construct.node.root, set()))

    def problems(
        self,
        cache: CacheOptions | DedupeCache | None,
        ledger: LedgerOptions | Ledger,
        archive: Archive | None,
        variables: Mapping[str, str],
    ) -> Iterator[str]:
        """Say where the name is taken already."""
        places = {
            "cache": self._place_in_cache(cache, variables),
            "ledger": _place_in_ledger(ledger),
            "archive": _place_in_archive(archive),
        }
        shared = [part for part, place in places.items() if (place, variables["SOURCE_NAME"]) in self._taken]
        for part in shared:
            yield (
                f"source_name: is the name of another gateway in the same {part}; "
                "give each gateway that shares it a name of its own"
            )
        if not shared and (self._environment, variables["SOURCE_NAME"]) in self._taken:
            yield (
                "source_name: is the name of another gateway in this account and region. Metrics and alarms go by it: "
                "both would count in the same ones. Give each gateway a name of its own"
            )

    def is_first_to_watch(self, resource: str) -> bool:
        """Say whether nobody has alarms about a resource yet, and remember that somebody has now."""
        watched = ("alarms", f"{self._environment}/{resource}")
        is_first = watched not in self._taken
        self._taken.add(watched)
        return is_first

    def take(
        self, cache: DedupeCache | None, ledger: Ledger, archive: ArchiveBucket | None, variables: Mapping[str, str]
    ) -> None:
        """Remember the name."""
        places = (
            self._environment,
            self._place_in_cache(cache, variables),
            _place_in_ledger(ledger),
            None if archive is None else _archive_at(archive.url),
        )
        self._taken.update((place, variables["SOURCE_NAME"]) for place in places if place is not None)

    def _place_in_cache(self, cache: CacheOptions | DedupeCache | None, variables: Mapping[str, str]) -> str | None:
        if cache is None:
            return None
        if isinstance(cache, DedupeCache):
            environment, host = _environment_of(cache), cache.host
        elif isinstance(cache.existing, ExistingCache):
            environment, host = self._environment, f"{cache.existing.host}:{cache.existing.port}"
        else:
            return None
        # In another account, a host of the same name is another one.
        return f"{environment}/{host}/{variables['REDIS_DB']}"


def _environment_of(construct: IConstruct) -> str:
    """Return account and region; where they are not known, every stage may be deployed to others."""
    environment = Stack.of(construct).environment
    stage = Stage.of(construct) if "unknown-" in environment else None
    return environment if stage is None else f"{stage.node.path}/{environment}"


def _place_in_ledger(ledger: LedgerOptions | Ledger) -> str | None:
    if isinstance(ledger, Ledger):
        return ledger.url
    bucket_name = getattr(ledger.existing_bucket, "bucket_name", None)  # of what is a bucket
    return None if bucket_name is None else f"s3://{bucket_name}/{ledger.prefix or ''}"


def _place_in_archive(archive: Archive | None) -> str | None:
    """Return where an archive is going to be; None where its bucket is new."""
    given = None if archive is None else archive.of_right_kinds().existing_bucket
    if archive is None or given is None:
        return None
    bucket_name = given if isinstance(given, str) else given.bucket_name
    return _archive_at(f"s3://{bucket_name}/{archive.of_right_kinds().prefix or PREFIX}")


def _archive_at(url: str) -> str:
    """Tell an archive from a ledger at the same place: that is another problem."""
    return f"archive {url}"
