"""What Kong's Admin API answers: the audit endpoints faithfully, everything else as far as it takes to be audited."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

from sandbox.kong.profiles import Profile
from sandbox.kong.table import AuditTable, InvalidOffset
from sandbox.machinery.clock import Clock
from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import Request, Response, http_date

TOKEN_HEADER = "kong-admin-token"
Permission = Literal["all", "audit", "requests", "none"]

_DEFAULT_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000
_REMOVED_KEYS = ("token", "secret", "password")  # the default of `audit_log_payload_exclude`
_NAMESPACE = uuid.UUID("5b1a0a0e-7c0f-4b8e-9a3e-1f6d2c4b8a90")
_OPERATIONS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


@dataclass(frozen=True)
class AdminUser:
    """An RBAC user: may do everything, read both audit endpoints only, read `/audit/requests` only, or nothing."""

    name: str
    token: str
    permission: Permission = "all"

    @property
    def id(self) -> str:
        """The user's UUID, always the same for the same name."""
        return str(uuid.uuid5(_NAMESPACE, self.name))


@dataclass(frozen=True)
class Poison:
    """Rows that no answer can hold: one that would show them gets the fault instead.

    Parameters
    ----------
    ids
        Their `request_id`, or the `id` of an object's entry.
    fault
        What happens instead.
    page_size_over
        Only pages for which more rows than this were asked for.
    """

    ids: frozenset[str]
    fault: Fault
    page_size_over: int = 0


@dataclass
class Answer(Response):
    """What Kong answers, and the fault that becomes of it if there is poison in it."""

    fault: Fault | None = None


class _Refused(Exception):
    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class KongApi:
    """The Admin API of one control plane, without the network around it.

    Parameters
    ----------
    profile
        The release to behave as.
    clock
        Kong's clock: the `Date` header, expiry, visibility and the time stamps of audited calls follow it.
    base_path
        Path under which a proxy offers the API, e.g. `/kong-admin`; empty for none.
    hostname
        What `GET /` says.
    workspaces
        Names under which the API is offered a second time, as `/{workspace}/...`.

    Attributes
    ----------
    requests, objects
        The rows of the two audit endpoints.
    objects_newest_first
        Order `/audit/objects` by time, too, where the release orders `/audit/requests` like this.
    users
        With none, RBAC is off and tokens are ignored.
    audit_log
        Off: nothing is recorded, and the audit endpoints do not exist.
    self_audit
        Record reads of `/audit/...`, `/` and `/status` too; off, it is as if the operator had told Kong to ignore them.
    ignore_paths
        What `GET /` tells of the setting of that name; None: what goes with `self_audit`.
    visibility_delay_seconds
        How long after its time stamp a recorded call shows up.
    date_skew_seconds, date_text
        The `Date` header is a proxy's, whose clock is so far ahead of Kong's; or says this text, empty for no header.
    server_header
        Whether answers have a `Server` header.
    poisons
        Rows of either table that no answer can hold.
    """

    def __init__(
        self, *, profile: Profile, clock: Clock, base_path: str, hostname: str, workspaces: Sequence[str]
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._base_path = base_path.rstrip("/")
        self._hostname = hostname
        self._workspaces = frozenset(workspaces)
        self.requests = AuditTable(
            newest_first=profile.newest_first, id_field="request_id", missing_fields=profile.missing_fields
        )
        # Only of `/audit/requests` it is documented that the newest come first.
        self.objects = AuditTable(
            newest_first=False,
            id_field="id",
            missing_fields=profile.missing_object_fields,
            untimed_are_in_no_window=True,
        )
        self.objects_newest_first = False
        self.users: list[AdminUser] = []
        self.audit_log = True
        self.self_audit = False
        self.ignore_paths: Sequence[str] | None = None
        self.visibility_delay_seconds = 0.0
        self.date_skew_seconds = 0.0
        self.date_text: str | None = None
        self.server_header = True
        self.poisons: list[Poison] = []
        self._other_node: Profile | None = None
        self._every_nth = 2
        self._numbers = count(1)

    def mix_nodes(self, other: Profile | None, *, every_nth: int) -> None:
        """Let every nth call of `/audit/...` reach a node of another release over the same rows; None: no more."""
        self._other_node, self._every_nth, self._numbers = other, every_nth, count(1)

    def handle(self, request: Request) -> Answer:
        """Answer one call, and record it. The record is visible to the next call, never to this one."""
        if not (request.target + "/").startswith((self._base_path + "/", self._base_path + "?")):
            return _json_answer(404, {"message": "Not found"})  # the proxy's own answer: Kong never sees the call
        target = request.target[len(self._base_path) :] or "/"
        path = request.path[len(self._base_path) :] or "/"
        workspace, path = self._split_workspace(path)
        request_id = uuid.uuid4().hex
        user: AdminUser | None = None
        node = self._node_for(path)
        try:
            user = self._authenticate(request)
            self._authorise(user, path)
            response = self._answer(request, path, node)
        except _Refused as refusal:
            response = _json_answer(refusal.status, refusal.body)
        response.headers |= {"X-Kong-Admin-Request-ID": request_id} | self.date_header()
        if self.server_header:
            response.headers["Server"] = f"kong/{node.full_version}"
        if self.audit_log and (self.self_audit or not _is_read_of_collector(request.method, path)):
            self._record(request, target, path, workspace, user, request_id, response.status)
        return response

    def date_header(self) -> dict[str, str]:
        """Return the `Date` header of an answer given now, be it Kong's or that of a proxy in front of it."""
        if self.date_text is not None:
            return {"Date": self.date_text} if self.date_text else {}
        return {"Date": http_date(self._clock.now() + self.date_skew_seconds)}

    def _node_for(self, path: str) -> Profile:
        other = self._other_node
        if other is not None and path.startswith("/audit/") and next(self._numbers) % self._every_nth == 0:
            return other
        return self._profile

    def _split_workspace(self, path: str) -> tuple[str, str]:
        first, _, rest = path.removeprefix("/").partition("/")
        return (first, "/" + rest) if first in self._workspaces else ("default", path)

    def _authenticate(self, request: Request) -> AdminUser | None:
        if not self.users:
            return None
        token = request.headers.get(TOKEN_HEADER)
        if token == "":
            # Releases before 3.11 fall over an empty header.
            raise _Refused(500, {"message": "An unexpected error occurred"})
        for user in self.users:
            if token == user.token:
                return user
        raise _Refused(401, {"message": "Invalid RBAC credentials"})

    def _authorise(self, user: AdminUser | None, path: str) -> None:
        readable = {"all": "/", "audit": "/audit/", "requests": "/audit/requests"}
        if user is None or path.startswith(readable.get(user.permission, "none")):
            return
        raise _Refused(403, {"message": f"{user.name}, you do not have permissions to read this resource"})

    def _answer(self, request: Request, path: str, node: Profile) -> Answer:
        route = path.rstrip("/") or "/"
        if "/audit/" in path or route.endswith("/audit"):
            return self._audit_page(request, route, node)
        if route == "/" and request.method == "GET":
            return _json_answer(200, self._information(node))
        if route == "/status" and request.method == "GET":
            return _json_answer(200, {"database": {"reachable": True}, "server": {"connections_active": 1}})
        if request.method == "DELETE":
            return Answer(204)
        if request.method in _OPERATIONS:
            entity = {"id": str(uuid.uuid4()), "created_at": int(self._clock.now())} | _object_or_empty(request.body)
            return _json_answer(201 if request.method == "POST" else 200, entity)
        return _json_answer(200, {"data": [], "next": None})

    def _information(self, node: Profile) -> dict[str, Any]:
        return {
            "version": node.full_version,
            "hostname": self._hostname,
            "edition": "enterprise",
            "tagline": "Welcome to kong",
            "configuration": {
                "audit_log": self.audit_log,
                "audit_log_ignore_paths": self._told_ignore_paths(),
                "audit_log_record_ttl": 2_592_000,
                "database": "postgres",
                "enforce_rbac": "on" if self.users else "off",
            },
        }

    def _told_ignore_paths(self) -> list[str]:
        if self.ignore_paths is not None:
            return list(self.ignore_paths)
        return [] if self.self_audit else ["^/audit/", "^/$", "^/status$"]

    def _audit_page(self, request: Request, route: str, node: Profile) -> Answer:
        tables = {"/audit/requests": self.requests, "/audit/objects": self.objects}
        if not self.audit_log or route not in tables:
            raise _Refused(404, {"message": "Not found"})
        if request.method not in ("GET", "HEAD"):
            raise _Refused(405, {"message": "Method not allowed"})
        arguments = dict(request.query)
        size = _page_size(arguments.get("size"))
        after = before = None
        if node.filters:
            after, before = _filter_time(arguments.get("after")), _filter_time(arguments.get("before"))
        offset = arguments.get("offset")
        try:
            page = tables[route].page(
                now=self._clock.now(),
                size=size,
                offset=offset,
                after=after,
                before=before,
                newest_first=node.newest_first and (route == "/audit/requests" or self.objects_newest_first),
            )
        except InvalidOffset:
            raise _Refused(
                400, {"code": 7, "name": "invalid offset", "message": f"'{offset}' is not a valid offset"}
            ) from None
        parts = [b'{"data":[', b",".join(page.rows), b"]"]
        if page.offset is not None:
            parts.append(f',"offset":{json.dumps(page.offset)}'.encode())
        parts.append(f',"next":{json.dumps(_next_link(node, route, arguments, page.offset))}}}'.encode())
        answer = _json_answer(200, b"".join(parts))
        if self.poisons:
            answer.fault = self._fault_of(page.ids, size)
        return answer

    def _fault_of(self, ids: Sequence[str], size: int) -> Fault | None:
        hits = (poison for poison in self.poisons if size > poison.page_size_over and not poison.ids.isdisjoint(ids))
        return next((poison.fault for poison in hits), None)

    def _record(
        self,
        request: Request,
        target: str,
        path: str,
        workspace: str,
        user: AdminUser | None,
        request_id: str,
        status: int,
    ) -> None:
        now = self._clock.now()
        payload, removed = _audited_payload(request.body)
        shared = {
            "request_id": request_id,
            "request_timestamp": int(now),
            "rbac_user_id": user.id if user else None,
            "signature": None,
        }
        entry = shared | {
            "client_ip": request.client_host,
            "method": request.method,
            "path": target,
            "status": status,
            "payload": payload,
            "removed_from_payload": removed,
            "rbac_user_name": user.name if user else None,
            "request_source": None,
            "workspace": str(uuid.uuid5(_NAMESPACE, workspace)),
        }
        visible_at = now + self.visibility_delay_seconds if self.visibility_delay_seconds else None
        self.requests.add([entry], now=now, visible_at=visible_at)
        operation = _OPERATIONS.get(request.method)
        if operation and status < 300:
            entity_key = str(uuid.uuid5(_NAMESPACE, path))
            change = shared | {
                "request_id": " " * 32 if self._profile.blank_request_ids else request_id,
                "id": str(uuid.uuid4()),
                "dao_name": path.split("/")[1] or "unknown",
                "operation": operation,
                "entity": payload or "{}",
                "entity_key": entity_key,
                "removed_from_entity": removed,
            }
            self.objects.add([change], now=now, visible_at=visible_at)


def _next_link(node: Profile, route: str, arguments: Mapping[str, str], offset: str | None) -> str | None:
    """Return Kong's link to the next page: without base path and workspace, and as forgetful as the release."""
    if offset is None:
        return None
    kept = {"offset": offset}
    if node.next_keeps_size and "size" in arguments:
        kept["size"] = arguments["size"]
    if node.next_keeps_filters:
        kept |= {name: arguments[name] for name in ("after", "before") if name in arguments}
    return f"{route}?" + "&".join(f"{name}={value}" for name, value in kept.items())


def _is_read_of_collector(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and (path.startswith("/audit/") or path in ("/", "/status"))


def _page_size(value: str | None) -> int:
    if value is None:
        return _DEFAULT_PAGE_SIZE
    if re.fullmatch(r"[0-9]{1,4}", value) and 1 <= int(value) <= _MAX_PAGE_SIZE:
        return int(value)
    message = "size must be an integer between 1 and 1000"
    raise _Refused(400, {"code": 9, "name": "invalid size", "message": message})


def _filter_time(value: str | None) -> int | None:
    """Return the Unix seconds of a filter: digits, or exactly `YYYY-MM-DDTHH:MM:SSZ`."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII):
        try:
            return int(datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
        except ValueError:
            pass
    message = "before and after must be a time in seconds or of the form YYYY-MM-DDTHH:MM:SSZ"
    raise _Refused(400, {"code": 20, "name": "invalid search query", "message": message})


def _object_or_empty(body: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(body)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _audited_payload(body: bytes) -> tuple[str | None, str | None]:
    """Return the payload as Kong records it, and the keys that it left out."""
    if not body:
        return None, None
    entity = _object_or_empty(body)
    removed = [key for key in _REMOVED_KEYS if key in entity]
    if not removed:
        return body.decode(errors="replace"), None
    kept = {key: value for key, value in entity.items() if key not in removed}
    return json.dumps(kept, separators=(",", ":")), ",".join(removed)


def _json_answer(status: int, body: Mapping[str, Any] | bytes) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, data, {"Content-Type": "application/json; charset=utf-8"})
