"""What the audit API of each generation of Kong Gateway does and does not do.

Source: Kong's public changelogs and documentation. Each profile is named after a minor release and stands for one
patch release of it, chosen so that the four together show every combination that a client meets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The behaviour of one release.

    Parameters
    ----------
    version
        Full version, without the edition.
    newest_first
        `/audit/requests` is ordered by time, newest first; otherwise by primary key, which is random in time.
    filters
        `before` and `after` work; otherwise they are ignored like any unknown argument.
    next_keeps_filters, next_keeps_size
        The `next` link of a page carries the filters, the page size.
    missing_fields, missing_object_fields
        Fields of an entry of `/audit/requests`, of `/audit/objects`, that this release does not have yet.
    blank_request_ids
        Entries of `/audit/objects` have 32 spaces in place of the request's id.
    """

    version: str
    newest_first: bool = True
    filters: bool = True
    next_keeps_filters: bool = True
    next_keeps_size: bool = True
    missing_fields: frozenset[str] = frozenset()
    missing_object_fields: frozenset[str] = frozenset()
    blank_request_ids: bool = False

    @property
    def full_version(self) -> str:
        """The version as Kong spells it, edition included."""
        return f"{self.version}-enterprise-edition"


PROFILES = {
    "2.8": Profile(
        version="2.8.4.13",
        newest_first=False,
        filters=False,
        next_keeps_filters=False,
        next_keeps_size=False,
        missing_fields=frozenset({"rbac_user_name", "request_source"}),
        missing_object_fields=frozenset({"removed_from_entity", "request_timestamp"}),
        blank_request_ids=True,
    ),
    # The one patch release of 3.4 that orders by time and does not filter yet.
    "3.4": Profile(
        version="3.4.3.8",
        filters=False,
        next_keeps_filters=False,
        missing_object_fields=frozenset({"removed_from_entity", "request_timestamp"}),
    ),
    "3.8": Profile(version="3.8.1.0", next_keeps_filters=False),
    "3.10": Profile(version="3.10.0.2"),
}
