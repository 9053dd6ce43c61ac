"""What the doctor says about Kong, beside what is really wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.domain.finding import Finding, Status
from kong_cloudtrail.errors import SecretUnavailable
from kong_cloudtrail.sources.kong.checkup import KongCheckup

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.http_server import LOOPBACK, HttpServer, Response
from sandbox.machinery.processes import free_port
from tests.helpers import NOW, FakeClock, entries

TOKEN = "t0ken-of-doctor"
DAY = 86_400


class Findings(dict[str, Finding]):
    """Findings by the name of the check."""

    @property
    def bad(self) -> set[str]:
        return {name for name, finding in self.items() if finding.status is not Status.OK}


def examine(
    url: str,
    *,
    token: object = TOKEN,
    root_ca: Path | None = None,
    clock: FakeClock | None = None,
    own_user: str | None = None,
    streams: tuple[str, ...] = ("requests",),
) -> Findings:
    def give(fresh: bool) -> Any:
        if isinstance(token, Exception):
            raise token
        return token

    checkup = KongCheckup(
        url,
        token=give,
        root_ca=None if root_ca is None else str(root_ca),
        clock=clock or FakeClock(),
        own_user=own_user,
        streams=streams,
    )
    found = list(checkup.run())
    assert len({finding.check for finding in found}) == len(found)
    assert TOKEN not in repr(found)
    for finding in found:
        assert (finding.do is not None) or finding.status in (Status.OK, Status.NOT_CHECKED)
    return Findings({finding.check: finding for finding in found})


def frozen(kong: KongSimulator) -> KongSimulator:
    kong.set_clock(frozen_at=NOW)
    return kong


@pytest.fixture
def kong() -> Iterator[KongSimulator]:
    with KongSimulator(token=TOKEN) as simulator:
        frozen(simulator).add_entries(entries(12))
        yield simulator


def test_healthy_kong(kong: KongSimulator) -> None:
    found = examine(kong.url)

    assert found.bad == set()
    assert list(found) == [
        "connection",
        "version",
        "clock",
        "retention",
        "rights",
        "filters",
        "order",
        "audit log",
        "own reads",
        "RBAC",
    ]
    assert "3.10.0.2-enterprise-edition" in found["version"].what
    assert len(kong.requests) == 3, "each is audited"


class TestRights:
    def test_wrong_token(self, kong: KongSimulator) -> None:
        found = examine(kong.url, token="another")

        assert found.bad == {"rights"}
        assert (found["rights"].status, found["rights"].may_pass) == (Status.FAILED, False)
        assert "401: it does not know the token" in found["rights"].what

    def test_no_token_where_one_is_needed(self, kong: KongSimulator) -> None:
        rights = examine(kong.url, token=None)["rights"]

        assert rights.status is Status.FAILED
        assert "asks for a token" in rights.what
        assert "KONG_SUPERADMIN=true" in str(rights.do)

    def test_user_without_a_role(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="none")

        rights = examine(kong.url)["rights"]

        assert rights.status is Status.FAILED
        assert "403" in rights.what
        assert rights.do == "Give the user a role with read permission on /audit/requests."

    def test_objects_are_asked_for_where_they_are_read(self, kong: KongSimulator) -> None:
        found = examine(kong.url, streams=("requests", "objects"))

        assert found.bad == set()
        assert found["rights to objects"].what == "The token may read /audit/objects."

    def test_user_who_may_not_read_objects(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="requests")

        found = examine(kong.url, streams=("requests", "objects"))

        assert found["rights"].status is Status.OK
        assert found["rights to objects"].status is Status.FAILED
        assert "answered /audit/objects with status 403" in found["rights to objects"].what
        assert found["rights to objects"].do == (
            "Give the user a role with read permission on /audit/objects, or take objects out of STREAMS."
        )

    def test_objects_alone_are_delivered_without_the_right_to_requests(self, kong: KongSimulator) -> None:
        kong.inject(faults.bad_gateway(403, path="^/audit/requests"))

        found = examine(kong.url, streams=("objects",))

        assert found["rights"].status is Status.WARNING
        assert "without user and address" in found["rights"].what
        assert found["rights to objects"].status is Status.OK

    def test_user_who_may_read_the_audit_log_alone(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="audit")
        kong.configure(self_audit=True)

        found = examine(kong.url)

        assert found.bad == {"own reads"}
        assert "Server header: / was answered with status 403" in found["version"].what
        assert "the read of this check was recorded" in found["audit log"].what
        assert "RBAC is on" in found["RBAC"].what

    def test_token_that_nobody_asks_for(self) -> None:
        with KongSimulator() as kong:
            frozen(kong).add_entries(entries(12))

            with_token, without = examine(kong.url), examine(kong.url, token=None)

        assert with_token.bad == without.bad == {"RBAC"}
        assert "A token is sent, but Kong does not check it" in with_token["RBAC"].what
        assert with_token["RBAC"].status is without["RBAC"].status is Status.WARNING

    def test_token_that_nobody_asks_for_is_seen_in_the_own_entry(self) -> None:
        with KongSimulator(self_audit=True) as kong:
            frozen(kong).add_entries(entries(12))
            kong.inject(faults.bad_gateway(503, path=r"^/$"))

            assert "does not check it" in examine(kong.url)["RBAC"].what

    def test_secret_that_cannot_be_read(self, kong: KongSimulator) -> None:
        found = examine(kong.url, token=SecretUnavailable("The secret kong/token is empty."))

        assert found["token"].status is Status.FAILED
        assert "kong/token is empty" in found["token"].what
        assert found["Admin API"].status is Status.NOT_CHECKED
        assert kong.requests == []


class TestAuditLog:
    def test_that_is_off(self, kong: KongSimulator) -> None:
        kong.configure(audit_log=False)

        found = examine(kong.url)

        assert found.bad == {"audit log"}
        assert "audit_log is off" in found["audit log"].what
        assert "audit_log = on" in str(found["audit log"].do)

    def test_that_is_off_for_a_user_who_may_not_see_the_configuration(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="audit")
        kong.configure(audit_log=False)

        rights = examine(kong.url)["rights"]

        assert rights.status is Status.FAILED
        assert "404" in rights.what
        assert "Switch audit_log on" in str(rights.do)

    def test_of_which_nobody_can_tell(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="audit")
        kong.advance_clock(DAY)

        found = examine(kong.url, clock=FakeClock(NOW + DAY))

        assert found["audit log"].status is Status.NOT_CHECKED
        assert "Cannot tell whether it is on: the newest entry is of 2024-06-01T11:59:59Z" in found["audit log"].what

    def test_with_a_recent_entry_is_on(self, kong: KongSimulator) -> None:
        kong.add_user("collector", TOKEN, permission="audit")

        assert "It is on: the newest entry is of 2024-06-01T11:59:59Z" in examine(kong.url)["audit log"].what

    def test_that_is_empty(self) -> None:
        with KongSimulator(token=TOKEN) as kong:
            found = examine(frozen(kong).url)

        assert found.bad == {"filters", "order"}
        assert {found[name].status for name in found.bad} == {Status.NOT_CHECKED}

    def test_that_keeps_entries_for_an_hour(self) -> None:
        configuration = '{"version": "3.10-enterprise-edition", "configuration": {"audit_log_record_ttl": 3600}}'
        with answering({"/": configuration, "/audit/requests": '{"data": [], "next": null}'}) as url:
            assert examine(url)["retention"].status is Status.WARNING


class TestOwnReads:
    def test_are_recorded(self, kong: KongSimulator) -> None:
        kong.configure(self_audit=True)

        found = examine(kong.url)

        assert found.bad == {"own reads"}
        assert str(found["own reads"].do).endswith("audit_log_ignore_paths = ^/audit/")

    def test_are_recorded_and_left_out(self, kong: KongSimulator) -> None:
        kong.configure(self_audit=True)

        right, wrong = (examine(kong.url, own_user=user)["own reads"] for user in ("collector", "collecter"))

        assert right.status is Status.OK
        assert wrong.status is Status.WARNING
        assert "as those of collector, but EXCLUDE_OWN_READS is collecter" in wrong.what
        assert wrong.do == "Set EXCLUDE_OWN_READS to collector."

    def test_are_recorded_late(self, kong: KongSimulator) -> None:
        kong.configure(self_audit=True, visibility_delay_seconds=2)
        clock = FakeClock()
        wait = clock.sleep

        def sleep(seconds: float) -> None:
            wait(seconds)
            kong.advance_clock(seconds)

        clock.sleep = sleep  # type: ignore[method-assign]

        assert examine(kong.url, clock=clock)["own reads"].status is Status.WARNING

    def test_behind_a_base_path_the_pattern_is_for_the_path_that_kong_sees(self) -> None:
        with KongSimulator(token=TOKEN, base_path="/kong", self_audit=True) as kong:
            frozen(kong).add_entries(entries(12))

            assert str(examine(kong.url)["own reads"].do).endswith("= ^/audit/")

    def test_in_a_workspace_the_pattern_has_its_name(self) -> None:
        with KongSimulator(token=TOKEN, workspaces=("team.a",), self_audit=True) as kong:
            frozen(kong).add_entries(entries(12))

            do = str(examine(f"{kong.url}/team.a")["own reads"].do)

        pattern = do.rpartition("= ")[2]
        assert pattern == r"^/team\.a/audit/"
        assert re.search(pattern, "/team.a/audit/requests?size=20")

    @pytest.mark.parametrize("pattern", ["/audit/requests", ".*audit.*"])
    def test_pattern_without_an_anchor_lets_anybody_hide_calls(self, kong: KongSimulator, pattern: str) -> None:
        kong.configure(ignore_paths=[pattern])

        found = examine(kong.url)

        assert found.bad == {"ignored paths"}
        assert pattern in found["ignored paths"].what
        assert str(found["ignored paths"].do).endswith("^/audit/")

    def test_patterns_for_other_paths_do_not_count(self, kong: KongSimulator) -> None:
        kong.configure(ignore_paths=["^/status$", "^(unbalanced"], self_audit=True)

        assert examine(kong.url).bad == {"own reads"}


class TestOldReleases:
    def test_without_filters(self) -> None:
        with KongSimulator(version="3.4", token=TOKEN) as kong:
            frozen(kong).add_entries(entries(12))
            found = examine(kong.url)

        assert found.bad == {"filters"}
        assert "reads everything that Kong retains" in found["filters"].what

    def test_without_an_order(self) -> None:
        with KongSimulator(version="2.8", token=TOKEN, self_audit=True) as kong:
            frozen(kong).add_entries(
                [{**row, "request_id": f"{number * 7 % 12:032d}"} for number, row in enumerate(entries(12))]
            )
            found = examine(kong.url)

        assert {"filters", "order"} <= found.bad
        assert "nothing to do with time" in found["order"].what


class TestClock:
    @pytest.mark.parametrize(
        ("skew", "status", "words"),
        [
            (DAY, Status.FAILED, "is 1 d ahead of"),
            (-DAY, Status.FAILED, "is 1 d behind"),
            (60, Status.WARNING, "is 1 min ahead of"),
            (5, Status.OK, "agree"),
        ],
    )
    def test_differs(self, kong: KongSimulator, skew: float, status: Status, words: str) -> None:
        kong.configure(date_skew_seconds=skew)

        clock = examine(kong.url)["clock"]

        assert clock.status is status
        assert words in clock.what

    def test_is_not_shown(self, kong: KongSimulator) -> None:
        kong.configure(date_text="")

        assert examine(kong.url)["clock"].status is Status.NOT_CHECKED


class TestCertificate:
    @pytest.fixture
    def served(self, tmp_path: Path) -> Callable[..., Any]:
        def serve(**options: Any) -> tuple[KongSimulator, Path]:
            certificates = Certificates(tmp_path / "certificates", **options)
            return KongSimulator(token=TOKEN, certificates=certificates), certificates.ca_path

        return serve

    def test_that_has_expired(self, served: Callable[..., Any]) -> None:
        kong, ca = served(server_until=datetime.now(UTC) - timedelta(days=3, hours=1))
        with kong:
            found = examine(kong.url, root_ca=ca)

        assert found.bad == {"certificate", "Admin API"}
        certificate = found["certificate"]
        assert (certificate.status, certificate.may_pass) == (Status.FAILED, False)
        assert "has expired, since " in certificate.what
        assert "3 days ago" in certificate.what
        assert str(certificate.do).startswith("Renew it.")

    def test_that_expires_soon(self, served: Callable[..., Any]) -> None:
        kong, ca = served(server_until=datetime.now(UTC) + timedelta(days=20, hours=1))
        with frozen(kong):
            kong.add_entries(entries(12))
            found = examine(kong.url, root_ca=ca)

        assert found.bad == {"certificate"}
        assert found["certificate"].status is Status.WARNING
        assert "expires in 20 days" in found["certificate"].what

    def test_for_another_name(self, served: Callable[..., Any]) -> None:
        kong, ca = served(server_names=("kong.example.com",))
        with kong:
            certificate = examine(kong.url, root_ca=ca)["certificate"]

        assert certificate.status is Status.FAILED
        assert "is for another name than 127.0.0.1: it is for kong.example.com." in certificate.what

    def test_of_a_ca_that_is_not_trusted(self, served: Callable[..., Any], certificates: Certificates) -> None:
        kong, _ = served()
        with kong:
            public, other = examine(kong.url), examine(kong.url, root_ca=certificates.ca_path)

        assert "set KONG_ROOT_CA" in str(public["certificate"].do)
        assert "KONG_ROOT_CA is another CA" in str(other["certificate"].do)
        assert public["certificate"].status is other["certificate"].status is Status.FAILED

    def test_of_which_the_client_needs_one_too(self, certificates: Certificates) -> None:
        with KongSimulator(token=TOKEN, certificates=certificates, mutual_tls=True) as kong:
            rights = examine(kong.url, root_ca=certificates.ca_path)["rights"]

        assert rights.status is Status.FAILED
        assert "mutual TLS" in str(rights.do)

    def test_none_where_one_is_expected(self, kong: KongSimulator) -> None:
        found = examine(kong.url.replace("http:", "https:"))

        assert found.bad == {"TLS", "Admin API"}
        assert "does not speak TLS. It speaks plain HTTP." in found["TLS"].what
        assert (found["TLS"].status, found["TLS"].may_pass) == (Status.FAILED, False)

    def test_one_where_none_is_expected(self, served: Callable[..., Any]) -> None:
        kong, _ = served()
        with kong:
            found = examine(kong.url.replace("https:", "http:"))

        assert found["TLS"].what == "The port speaks TLS, and KONG_ADMIN_API begins with http://."
        assert (found["TLS"].status, found["TLS"].may_pass) == (Status.FAILED, False)

    @pytest.mark.parametrize("status", [400, 502])
    def test_plain_server_that_fails_is_not_told_to_encrypt(self, kong: KongSimulator, status: int) -> None:
        kong.inject(faults.bad_gateway(status, path="^/audit/"))

        assert examine(kong.url).bad == {"rights"}


class TestConnection:
    def test_nothing_listens(self) -> None:
        found = examine(f"http://{LOOPBACK}:{free_port()}")

        assert found.bad == {"connection", "Admin API"}
        assert "refuses connections" in found["connection"].what
        assert found["connection"].may_pass
        assert found["Admin API"].status is Status.NOT_CHECKED

    def test_name_that_nobody_knows(self) -> None:
        found = examine("http://kong.invalid:8001")

        assert found.bad == {"name", "Admin API"}
        assert "kong.invalid cannot be resolved" in found["name"].what
        assert "KONG_ADMIN_API" in str(found["name"].do)

    def test_errors_of_a_proxy_may_pass(self, kong: KongSimulator) -> None:
        kong.inject(faults.bad_gateway(502, path="^/audit/"))

        rights = examine(kong.url)["rights"]

        assert (rights.status, rights.may_pass) == (Status.FAILED, True)

    def test_redirect_is_not_followed(self) -> None:
        with answering({"/": "{}"}, status=302) as url:
            rights = examine(url)["rights"]

        assert "does not follow" in rights.what
        assert not rights.may_pass

    def test_something_else_that_answers(self) -> None:
        with answering({"/": "<html>", "/audit/requests": "<html>Welcome to Kong Manager</html>"}) as url:
            found = examine(url)

        assert found["rights"].status is Status.FAILED
        assert "Kong Manager" in str(found["rights"].do)
        assert "Welcome" not in repr(found)

    def test_edition_without_an_audit_log(self) -> None:
        with answering({"/": '{"version": "3.9.1"}'}, otherwise=404) as url:
            found = examine(url)

        assert found["version"].status is Status.WARNING
        assert "404" in found["rights"].what


class answering:  # noqa: N801 - a context manager
    """A server with these bodies by path."""

    def __init__(self, bodies: dict[str, str], *, status: int = 200, otherwise: int = 302) -> None:
        def answer(request: Any) -> Response:
            body = bodies.get(request.path)
            return Response(otherwise if body is None else status, (body or "").encode(), {"Location": "/elsewhere"})

        self._server = HttpServer(answer)

    def __enter__(self) -> str:
        self._server.start()
        return self._server.origin

    def __exit__(self, *_: object) -> None:
        self._server.stop()
