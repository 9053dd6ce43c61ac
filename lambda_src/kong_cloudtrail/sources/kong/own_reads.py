"""The collector's own requests, as Kong's audit log shows them.

Kong records every request to its Admin API, the collector's included. Nothing in an entry proves who made a request, so
it counts as the collector's own only if everything about it is as the collector makes it, the user included. Somebody
else who uses the collector's token and asks the same questions cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...domain.exclusion import Rule, routed_path

_PATHS = ("/audit/requests", "/audit/objects")
_NUMBERS = frozenset({"after", "before", "size"})
_ARGUMENTS = _NUMBERS | {"offset"}


def own_reads(user: str, admin_api: str) -> Rule:
    """Return the rule that excludes the collector's own reads of the audit log.

    Parameters
    ----------
    user
        Name or id of the RBAC user that the collector's token belongs to.
    admin_api
        URL of the Admin API. Its path may be part of the paths that Kong records, or a proxy takes it off.
    """
    base = urlsplit(admin_api).path.rstrip("/")
    paths = frozenset(prefix + path for prefix in ("", base) for path in _PATHS)

    def is_own(fields: Mapping[str, Any]) -> bool:
        return (
            fields.get("method") == "GET"
            and routed_path(fields.get("path")) in paths
            and user in (fields.get("rbac_user_name"), fields.get("rbac_user_id"))
            and fields.get("request_source") is None
            and fields.get("payload") is None
            and _is_our_question(fields["path"].partition("?")[2])
        )

    return Rule("own_reads", is_own)


def _is_our_question(query: str) -> bool:
    arguments = [argument.partition("=") for argument in query.split("&")]
    names = [name for name, _, _ in arguments]
    return (
        "size" in names
        and len(names) == len(set(names))
        and _ARGUMENTS.issuperset(names)
        and all(value.isascii() and value.isdigit() for name, _, value in arguments if name in _NUMBERS)
    )
