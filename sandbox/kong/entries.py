"""Audit entries as a busy Kong would record them: varied, and the same for the same seed."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_USERS = (
    ("3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11", "alice"),
    ("5e0b7f5c-8a51-4a32-8a53-3f3d1c6a9b02", "bob"),
    ("9b6f1c1e-27b4-4a3c-9e6d-2f7f0d1d4c03", "zoë"),
    ("c4d2a8b0-6d1f-4e52-b7ce-7a5f1f0e9d04", "deploy-bot"),
    (None, None),
)
_WORKSPACES = (
    "7a1d2c34-1111-4222-8333-444455556666",
    "cca82c73-2365-441b-8860-9e074d93b205",
    None,
)
_CLIENTS = ("192.0.2.10", "198.51.100.7", "203.0.113.99", "2001:db8::1")
_READ_PATHS = (
    "/services",
    "/event-hooks/?size=100",
    "/team-a/routes?tags=a%2Cb&size=10",
    "/auth",
    "/",
    "/status",
    "/default/kong",
)
_WRITES = (("POST", 201), ("PUT", 200), ("PATCH", 200), ("POST", 400), ("POST", 409))
_OPERATIONS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_WRITE_PATHS = ("/services", "/team-a/services", "/routes", "/consumers/carol/key-auth", "/plugins?wait=true")


def make_entries(
    count: int, *, seed: int, first_timestamp: int, last_timestamp: int, large_payloads: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield entries of `/audit/requests`, oldest first.

    Payloads are absent, objects, arrays, scalars, no JSON at all, with and without removed keys; users and workspaces
    are sometimes null. Of each 5 entries about 2 carry a payload.

    Parameters
    ----------
    count
        How many.
    seed
        The same seed gives the same entries.
    first_timestamp, last_timestamp
        Unix seconds of the first and the last entry; the others lie evenly between, many in the same second if there
        are more entries than seconds.
    large_payloads
        How many of the entries get a payload of 1 to 2 MB.
    """
    rng = random.Random(seed)
    span = last_timestamp - first_timestamp
    large = set(rng.sample(range(count), large_payloads))
    for index in range(count):
        user_id, user_name = rng.choice(_USERS)
        entry: dict[str, Any] = {
            "request_id": f"{rng.getrandbits(128):032x}",
            "request_timestamp": first_timestamp + (span * index // (count - 1) if count > 1 else 0),
            "client_ip": rng.choice(_CLIENTS),
            "method": "GET",
            "path": rng.choice(_READ_PATHS),
            "status": rng.choice((200, 200, 200, 401, 404)),
            "payload": None,
            "removed_from_payload": None,
            "rbac_user_id": user_id,
            "rbac_user_name": user_name,
            "request_source": rng.choice((None, "kong-manager")),
            "workspace": rng.choice(_WORKSPACES),
            "signature": None,
            "ttl": 2_592_000 - index % 1000,
        }
        kind = rng.random()
        if index in large or kind < 0.4:
            entry["method"], entry["status"] = rng.choice(_WRITES)
            entry["path"] = rng.choice(_WRITE_PATHS)
            size = rng.randrange(1_000_000, 2_000_000) if index in large else 0
            entry["payload"], entry["removed_from_payload"] = _payload(rng, index, size)
        elif kind < 0.5:
            entry["method"], entry["path"], entry["status"] = "DELETE", "/auth?session_logout=true", 204
        yield entry


def make_objects(requests: Iterable[Mapping[str, Any]], *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the entries of `/audit/objects` that some entries of `/audit/requests` go with, in their order.

    Only what succeeds and writes changes objects: one, and sometimes a second one that goes with it.

    Parameters
    ----------
    requests
        Entries of `make_entries`.
    seed
        The same seed and requests give the same entries.
    """
    rng = random.Random(seed)
    for request in requests:
        operation = _OPERATIONS.get(request["method"])
        if operation is None or request["status"] >= 300 or request["path"].startswith("/auth"):
            continue
        for dao_name in rng.choice((("services",), ("routes",), ("consumers", "keyauth_credentials"), ("plugins",))):
            key = str(uuid.UUID(int=rng.getrandbits(128), version=4))
            removed = "key" if dao_name == "keyauth_credentials" else None
            entity = {"id": key, "created_at": request["request_timestamp"], "tags": ["a|b", "größe ✓"]}
            yield {
                "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                "request_id": request["request_id"],
                "request_timestamp": request["request_timestamp"],
                "dao_name": dao_name,
                "operation": operation,
                "entity": json.dumps(entity | ({} if removed else {"name": f"{dao_name}-{key[:8]}"})),
                "entity_key": key,
                "removed_from_entity": removed,
                "rbac_user_id": request["rbac_user_id"],
                "signature": None,
                "ttl": request["ttl"],
            }


def _payload(rng: random.Random, index: int, size: int) -> tuple[str, str | None]:
    """Return a payload and the keys removed from it."""
    if size:
        return json.dumps({"name": f"bulk-{index}", "cert": "x" * size}), None
    service = {"name": f"billing-{index}", "host": "billing.example.test", "port": 8443, "tags": ["a|b", "größe ✓"]}
    match rng.randrange(8):
        case 0:
            return json.dumps([{"id": index}, 2, "x"]), None
        case 1:
            return str(index), None
        case 2:
            return f"name=billing-{index}&host=billing.example.test", None
        case 3:
            return '{"path":"\\/v1\\/billing","name":"billing"}', None
        case 4:
            return json.dumps({"username": f"user-{index}"}), "password,token"
        case 5:
            return json.dumps(service, ensure_ascii=False), None
        case _:
            return json.dumps(service), None
