"""The algorithm of the proof of concept that this project replaces, written fresh.

Pages of 100, ``GET /`` for each page, EXISTS pipelined per page, one PutAuditEvents call per page, SET pipelined; one
call after the other, and always everything that Kong retains.
"""

from __future__ import annotations

import json
import time
from typing import Any

import redis
import requests

from benchmarks.contender import Surroundings, tell

PAGE_SIZE = 100


def run() -> int:
    """Read everything, deliver what Redis does not know."""
    surroundings = Surroundings.from_environment()
    cache = redis.Redis(host=surroundings.redis_host, port=surroundings.redis_port)
    cloudtrail: Any = surroundings.cloudtrail(1)
    session = requests.Session()
    delivered = 0
    parameters: dict[str, str | int] = {"size": PAGE_SIZE}
    while True:
        page = session.get(f"{surroundings.kong_admin_api}/audit/requests", params=parameters, timeout=60).json()
        node = session.get(f"{surroundings.kong_admin_api}/", timeout=60).json()
        entries = page["data"]
        lookup = cache.pipeline(transaction=False)
        for entry in entries:
            lookup.exists(entry["request_id"])
        known = lookup.execute()
        new = [entry for entry, is_known in zip(entries, known, strict=True) if not is_known]
        if new:
            cloudtrail.put_audit_events(
                channelArn=surroundings.channel_arn,
                auditEvents=[
                    {"id": entry["request_id"], "eventData": json.dumps(_event(entry, node, surroundings))}
                    for entry in new
                ],
            )
            marks = cache.pipeline(transaction=False)
            for entry in new:
                marks.set(entry["request_id"], 1, ex=max(entry["ttl"], 1))
            marks.execute()
            delivered += len(new)
        if "offset" not in page:
            return delivered
        parameters["offset"] = page["offset"]


def _event(entry: dict[str, Any], node: dict[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    return {
        "version": node["version"],
        "userIdentity": {"type": "", "principalId": entry["rbac_user_id"] or "", "details": {}},
        "eventSource": "kong-gateway",
        "eventName": entry["method"] + entry["path"].strip("/").partition("?")[0],
        "eventTime": _utc(entry["request_timestamp"]),
        "UID": entry["request_id"],
        "sourceIPAddress": entry["client_ip"],
        "recipientAccountId": surroundings.channel_arn.split(":")[4],
        "additionalEventData": {
            name: entry[name] for name in ("workspace", "method", "path", "signature", "ttl", "status")
        },
    }


def _utc(timestamp: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp))


if __name__ == "__main__":
    tell(run)
