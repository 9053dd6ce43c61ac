"""The simulator of Kong behaves as Kong's documentation says: each trap for a client is there to fall into."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.kong.simulator import KongProcess, KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault

NOW = 1_717_243_200
ALL_RELEASES = ("2.8", "3.4", "3.8", "3.10")
FILTERING_RELEASES = ("3.8", "3.10")


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # a CA bundle in the environment would win over `verify`
        yield session


def entry(number: int, timestamp: int = NOW, **fields: Any) -> dict[str, Any]:
    return {
        "request_id": f"{number:032d}",
        "request_timestamp": timestamp,
        "client_ip": "192.0.2.10",
        "method": "GET",
        "path": "/services",
        "status": 200,
        "payload": None,
        "rbac_user_id": None,
        "rbac_user_name": None,
        "request_source": None,
        "workspace": None,
        "ttl": 60,
    } | fields


def ids(page: dict[str, Any]) -> list[int]:
    return [int(row["request_id"]) for row in page["data"]]


def read_all(http: requests.Session, url: str, **arguments: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        page = http.get(f"{url}/audit/requests", params=arguments).json()
        rows += page["data"]
        if "offset" not in page:
            return rows
        arguments["offset"] = page["offset"]


class TestPages:
    @pytest.mark.parametrize("version", ["3.4", "3.8", "3.10"])
    def test_newest_first_with_ties_by_id(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(2, NOW), entry(3, NOW + 1), entry(1, NOW)])
            assert ids(http.get(f"{kong.url}/audit/requests").json()) == [3, 1, 2]

    def test_old_releases_order_by_id(self, http: requests.Session) -> None:
        with KongSimulator(version="2.8") as kong:
            kong.add_entries([entry(2, NOW), entry(1, NOW - 5), entry(3, NOW - 9)])
            assert ids(http.get(f"{kong.url}/audit/requests").json()) == [1, 2, 3]

    @pytest.mark.parametrize("version", ALL_RELEASES)
    def test_last_page_has_a_null_next_and_no_offset(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(1), entry(2)])
            first = http.get(f"{kong.url}/audit/requests?size=1").json()
            last = http.get(f"{kong.url}/audit/requests", params={"size": 1, "offset": first["offset"]}).json()
            empty = http.get(f"{kong.url}/audit/objects").json()
        assert first["next"].startswith("/audit/requests?offset=")
        assert "=" not in first["offset"]
        assert last["next"] is None
        assert "offset" not in last
        assert empty == {"data": [], "next": None}

    @pytest.mark.parametrize("version", ALL_RELEASES)
    def test_entries_added_meanwhile_shift_no_page(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(number, NOW + number % 3) for number in range(100, 110)])
            rows: list[int] = []
            offset: dict[str, str | int] = {}
            for added in range(20):  # one newer entry, first in every order, while the pages are read
                page = http.get(f"{kong.url}/audit/requests", params={"size": 3, **offset}).json()
                rows += ids(page)
                if "offset" not in page:
                    break
                offset = {"offset": page["offset"]}
                kong.add_entries([entry(50 - added, NOW + 10)])
        assert sorted(rows) == list(range(100, 110))

    def test_page_size_is_100_unless_asked_for(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.seed_entries(1001, seed=1, first_timestamp=NOW, last_timestamp=NOW + 10)
            assert len(http.get(f"{kong.url}/audit/requests").json()["data"]) == 100
            assert len(http.get(f"{kong.url}/audit/requests?size=1000").json()["data"]) == 1000
            assert len({row["request_id"] for row in read_all(http, kong.url, size=7)}) == 1001

    @pytest.mark.parametrize(
        ("arguments", "code", "name"),
        [
            ("size=0", 9, "invalid size"),
            ("size=1001", 9, "invalid size"),
            ("size=ten", 9, "invalid size"),
            ("size=", 9, "invalid size"),
            ("offset=nonsense!", 7, "invalid offset"),
            ("offset=WzFd", 7, "invalid offset"),
            ("offset=bnVsbA", 7, "invalid offset"),
            ("before=yesterday", 20, "invalid search query"),
            ("after=", 20, "invalid search query"),
            ("after=-1", 20, "invalid search query"),
            ("after=2024-06-01T12:00:00", 20, "invalid search query"),
            ("after=2024-06-31T12:00:00Z", 20, "invalid search query"),
        ],
    )
    def test_bad_arguments_are_refused(self, http: requests.Session, arguments: str, code: int, name: str) -> None:
        with KongSimulator() as kong:
            response = http.get(f"{kong.url}/audit/requests?{arguments}")
        assert response.status_code == 400
        assert (response.json()["code"], response.json()["name"]) == (code, name)


class TestFilters:
    @pytest.mark.parametrize("version", FILTERING_RELEASES)
    @pytest.mark.parametrize("page_size", [1, 1000])
    def test_windows_are_half_open(self, http: requests.Session, version: str, page_size: int) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(number, NOW + number) for number in range(5)])
            by_seconds = read_all(http, kong.url, size=page_size, after=NOW + 1, before=NOW + 3)
            by_date = read_all(http, kong.url, after="2024-06-01T12:00:01Z", before="2024-06-01T12:00:03Z")
        assert [row["request_timestamp"] for row in by_seconds] == [NOW + 2, NOW + 1]
        assert by_date == by_seconds

    @pytest.mark.parametrize("version", ["2.8", "3.4"])
    def test_releases_without_filters_ignore_them_silently(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(1)])
            assert ids(http.get(f"{kong.url}/audit/requests?before=0&size=1").json()) == [1]
            assert ids(http.get(f"{kong.url}/audit/requests?before=nonsense").json()) == [1]

    @pytest.mark.parametrize("version", FILTERING_RELEASES)
    def test_the_probe_shows_filters(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(1)])
            assert http.get(f"{kong.url}/audit/requests?before=0&size=1").json()["data"] == []

    @pytest.mark.parametrize(
        ("version", "kept"),
        [
            ("2.8", set()),
            ("3.4", {"size"}),
            ("3.8", {"size"}),
            ("3.10", {"size", "after", "before"}),
        ],
    )
    def test_next_forgets_what_the_release_forgets(self, http: requests.Session, version: str, kept: set[str]) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(1), entry(2)])
            page = http.get(f"{kong.url}/audit/requests?size=1&after=1&before={NOW + 1}").json()
        arguments = {part.partition("=")[0] for part in page["next"].partition("?")[2].split("&")}
        assert arguments == {"offset", *kept}

    def test_following_next_on_3_8_leaves_the_window(self, http: requests.Session) -> None:
        with KongSimulator(version="3.8") as kong:
            kong.add_entries([entry(number, NOW - number) for number in range(4)])
            page = http.get(f"{kong.url}/audit/requests?size=1&after={NOW - 1}").json()
            followed = http.get(f"{kong.url}{page['next']}").json()
            followed = http.get(f"{kong.url}{followed['next']}").json()
        assert followed["data"][0]["request_timestamp"] == NOW - 2


class TestTime:
    def test_ttl_is_what_is_left_and_expired_entries_are_hidden(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.add_entries([entry(1, ttl=60), entry(2, ttl=61.5)])
            kong.add_entries([{"request_id": "3"}])
            before = http.get(f"{kong.url}/audit/requests").json()["data"]
            kong.advance_clock(60)
            after = http.get(f"{kong.url}/audit/requests").json()["data"]
        assert {row["request_id"][-1]: row["ttl"] for row in before} == {"1": 60, "2": 62, "3": 2_592_000}
        assert {row["request_id"][-1]: row["ttl"] for row in after} == {"2": 2, "3": 2_591_940}

    def test_an_entry_can_expire_between_two_pages(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.add_entries([entry(1, ttl=60), entry(2, ttl=10)])
            page = http.get(f"{kong.url}/audit/requests?size=1").json()
            kong.advance_clock(20)
            last = http.get(f"{kong.url}/audit/requests", params={"offset": page["offset"]}).json()
        assert (ids(page), last) == ([1], {"data": [], "next": None})

    @pytest.mark.parametrize("ttl", [None, "x", 12.5, 0, -3, True])
    def test_odd_ttls_can_be_shown_as_they_are(self, http: requests.Session, ttl: object) -> None:
        with KongSimulator() as kong:
            kong.add_entries([entry(1, ttl=ttl)], raw_ttl=True)
            (row,) = http.get(f"{kong.url}/audit/requests").json()["data"]
        assert row["ttl"] == ttl
        assert type(row["ttl"]) is type(ttl)

    def test_date_header_and_visibility_follow_the_clock(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.add_entries([entry(1, NOW)], visible_at=NOW + 30)
            hidden = http.get(f"{kong.url}/audit/requests")
            kong.advance_clock(30)
            shown = http.get(f"{kong.url}/audit/requests")
        assert hidden.headers["Date"] == "Sat, 01 Jun 2024 12:00:00 GMT"
        assert shown.headers["Date"] == "Sat, 01 Jun 2024 12:00:30 GMT"
        assert (ids(hidden.json()), ids(shown.json())) == ([], [1])


class TestSelfAudit:
    def test_a_read_shows_up_in_the_next_read_only(self, http: requests.Session) -> None:
        with KongSimulator(self_audit=True) as kong:
            first = http.get(f"{kong.url}/audit/requests")
            second = http.get(f"{kong.url}/audit/requests?size=5")
            third = http.get(f"{kong.url}/audit/requests")
        assert first.json()["data"] == []
        assert [row["request_id"] for row in second.json()["data"]] == [first.headers["X-Kong-Admin-Request-ID"]]
        assert {row["path"] for row in third.json()["data"]} == {"/audit/requests", "/audit/requests?size=5"}

    def test_a_scan_without_before_chases_its_own_tail(self, http: requests.Session) -> None:
        # By id, a new row can land beyond the offset; a scan meets about half of what it causes itself.
        with KongSimulator(version="2.8", self_audit=True) as kong:
            for _ in range(40):
                http.get(f"{kong.url}/audit/requests?size=1")
            assert len(read_all(http, kong.url, size=1)) > 40

    def test_off_by_default_and_delayed_on_demand(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            for path in ("/", "/status", "/audit/requests"):
                http.get(kong.url + path)
            assert kong.entry_count() == 0
            kong.configure(self_audit=True, visibility_delay_seconds=5)
            http.get(f"{kong.url}/status")
            assert http.get(f"{kong.url}/audit/requests").json()["data"] == []
            kong.advance_clock(5)
            assert len(http.get(f"{kong.url}/audit/requests").json()["data"]) == 2


class TestAccess:
    def test_token_and_permissions(self, http: requests.Session) -> None:
        with KongSimulator(token="right") as kong:
            kong.add_user("alex", "audit-only", permission="audit")
            kong.add_user("kim", "nothing", permission="none")

            def status(path: str, token: str | None) -> int:
                headers = {} if token is None else {"Kong-Admin-Token": token}
                return http.get(kong.url + path, headers=headers).status_code

            assert [status("/audit/requests", token) for token in ("right", "audit-only")] == [200, 200]
            assert [status("/audit/requests", token) for token in (None, "wrong")] == [401, 401]
            assert status("/audit/requests", "") == 500  # until 3.11
            assert [status("/", token) for token in ("right", "audit-only", "nothing")] == [200, 403, 403]
            refused = http.get(f"{kong.url}/audit/requests", headers={"Kong-Admin-Token": "nothing"})
            assert refused.json() == {"message": "kim, you do not have permissions to read this resource"}
            kong.add_user("collector", "rotated")
            assert [status("/audit/requests", token) for token in ("right", "rotated")] == [401, 200]

    def test_audit_log_off(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.configure(audit_log=False)
            response = http.get(f"{kong.url}/audit/requests")
            http.post(f"{kong.url}/services", json={})
            assert (response.status_code, response.json()) == (404, {"message": "Not found"})
            assert kong.entry_count() == 0

    def test_base_path_and_workspace_are_missing_in_next(self, http: requests.Session) -> None:
        with KongSimulator(base_path="/kong-admin", workspaces=["team-a"]) as kong:
            kong.add_entries([entry(1), entry(2)])
            page = http.get(f"{kong.url}/team-a/audit/requests?size=1").json()
            wrong = [f"{kong.url}/team-b/audit/requests", kong.url.removesuffix("/kong-admin") + "/audit/requests"]
            assert page["next"].startswith("/audit/requests?")
            assert [http.get(url).status_code for url in wrong] == [404, 404]
            assert http.get(f"{kong.url}/").json()["hostname"] == "kong-cp-1"

    def test_version_and_request_id(self, http: requests.Session) -> None:
        with KongSimulator(version="3.10", hostname="cp-7") as kong:
            response = http.get(f"{kong.url}/")
        assert response.headers["Server"] == "kong/3.10.0.2-enterprise-edition"
        assert len(response.headers["X-Kong-Admin-Request-ID"]) == 32
        assert (response.json()["version"], response.json()["hostname"]) == ("3.10.0.2-enterprise-edition", "cp-7")

    def test_private_ca(self, http: requests.Session, tmp_path: Path) -> None:
        with KongSimulator(certificates=Certificates(tmp_path)) as kong:
            with pytest.raises(requests.exceptions.SSLError):
                http.get(kong.url)
            assert http.get(kong.url, verify=str(kong.ca_pem_path)).status_code == 200

    def test_mutual_tls(self, http: requests.Session, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        http.verify = str(certificates.ca_path)
        with KongSimulator(certificates=certificates, mutual_tls=True) as kong:
            without = http.get(kong.url)
            with requests.Session() as other:
                other.trust_env = False
                known = other.get(kong.url, verify=http.verify, cert=str(certificates.client_path))
        assert (without.status_code, without.headers["Content-Type"]) == (400, "text/html")
        assert known.status_code == 200


class TestAdminApi:
    def test_calls_are_audited(self, http: requests.Session) -> None:
        with KongSimulator(token="right", workspaces=["team-a"]) as kong:
            kong.add_user("alice", "hers")
            http.headers["Kong-Admin-Token"] = "hers"
            made = http.post(f"{kong.url}/team-a/services?x=1", json={"name": "billing", "password": "hush"})
            deleted = http.delete(f"{kong.url}/services/billing")
            http.get(f"{kong.url}/services", headers={"Kong-Admin-Token": "wrong"})
            rows = {row["method"]: row for row in http.get(f"{kong.url}/audit/requests").json()["data"]}
            changes = http.get(f"{kong.url}/audit/objects").json()["data"]
        assert (made.status_code, deleted.status_code) == (201, 204)
        assert rows["POST"]["request_id"] == made.headers["X-Kong-Admin-Request-ID"]
        assert (rows["POST"]["path"], rows["POST"]["status"]) == ("/team-a/services?x=1", 201)
        assert (rows["POST"]["payload"], rows["POST"]["removed_from_payload"]) == ('{"name":"billing"}', "password")
        assert rows["POST"]["rbac_user_name"] == "alice"
        assert rows["POST"]["workspace"] != rows["DELETE"]["workspace"]
        assert (rows["GET"]["status"], rows["GET"]["rbac_user_id"]) == (401, None)
        assert sorted(change["operation"] for change in changes) == ["create", "delete"]

    def test_old_releases_lack_fields(self, http: requests.Session) -> None:
        with KongSimulator(version="2.8") as kong:
            kong.add_entries([entry(1)])
            (row,) = http.get(f"{kong.url}/audit/requests").json()["data"]
        assert not {"rbac_user_name", "request_source"} & row.keys()
        assert "rbac_user_id" in row


class TestOddRows:
    @pytest.mark.parametrize("version", ALL_RELEASES)
    def test_rows_of_any_shape_are_served(self, http: requests.Session, version: str) -> None:
        odd: list[dict[str, Any]] = [
            {},
            {"request_id": ""},
            {"request_id": "same", "path": "/1"},
            {"request_id": "same", "path": "/2"},
            {"request_id": 7, "request_timestamp": "soon"},
            {"request_id": None, "request_timestamp": None},
            {"request_id": "\ud800", "payload": "\udfff", "request_timestamp": 10**30},
            {"request_id": "x", "request_timestamp": 1.5, "new": {"shape": [1, None, 2**60]}},
        ]
        with KongSimulator(version=version) as kong:
            kong.add_entries(odd, raw_ttl=True)
            rows = read_all(http, kong.url, size=1)
        key = json.dumps
        assert sorted(map(key, rows)) == sorted(map(key, odd))

    def test_raw_bytes_pass_untouched(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.add_raw_row(b'{"request_id":"a","path":"\xff\xfe"}', timestamp=NOW)
            inside = http.get(f"{kong.url}/audit/requests?after={NOW}&before={NOW + 1}").content
            outside = http.get(f"{kong.url}/audit/requests?after={NOW + 1}").content
        assert b'"path":"\xff\xfe"' in inside
        assert b"\xff" not in outside

    def test_seeded_entries_vary_and_repeat(self) -> None:
        with KongSimulator() as kong, KongSimulator() as twin, requests.Session() as http:
            for each in (kong, twin):
                each.set_clock(frozen_at=NOW)
                each.seed_entries(300, seed=5, first_timestamp=NOW, last_timestamp=NOW + 9, large_payloads=1)
            rows = read_all(http, kong.url, size=1000)
            assert rows == read_all(http, twin.url, size=1000)
        payloads = [row["payload"] for row in rows]
        assert {type(_parsed(text)) for text in payloads} == {dict, list, int, str, type(None)}
        assert max(len(text or "") for text in payloads) > 1_000_000
        assert any(not (text or "").isascii() for text in payloads)
        assert any(row["removed_from_payload"] for row in rows)
        assert any(row["workspace"] is None for row in rows)


def _parsed(text: str | None) -> object:
    if text is None:
        return None
    try:
        parsed: object = json.loads(text)
    except ValueError:
        return text
    return parsed


class TestFaults:
    def test_answers_of_proxies_and_of_kong_in_trouble(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            for fault in (faults.server_error(), faults.bad_gateway(503), faults.rate_limited("7")):
                kong.inject(fault)
            answers = [http.get(f"{kong.url}/audit/requests") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [500, 503, 429, 200]
        assert answers[0].json() == {"message": "An unexpected error occurred"}
        assert answers[1].headers["Content-Type"] == "text/html"
        assert answers[2].headers["Retry-After"] == "7"

    def test_the_nth_call_of_a_path_and_some_more(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.inject(faults.server_error(path="^/audit/", nth=2, times=2))
            statuses = [http.get(kong.url + path).status_code for path in ("/", "/audit/requests") * 4]
            assert statuses == [200, 200, 200, 500, 200, 500, 200, 200]
            assert kong.pending_faults() == 0

    @pytest.mark.parametrize("kind", ["reset", "reset_after", "cut_off"])
    def test_broken_connections(self, http: requests.Session, kind: Any) -> None:
        with KongSimulator() as kong:
            kong.add_entries([entry(1)])
            kong.inject(Fault(kind=kind))
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                http.get(f"{kong.url}/audit/requests")
            assert ids(http.get(f"{kong.url}/audit/requests").json()) == [1]

    def test_lost_answers_are_of_work_that_was_done(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            for kind, audited in (("reset", 0), ("reset_after", 1)):
                kong.inject(Fault(kind=kind))  # type: ignore[arg-type]
                with pytest.raises(requests.ConnectionError):
                    http.post(f"{kong.url}/services", json={})
                assert kong.entry_count() == audited

    def test_bodies_that_are_no_pages(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.inject(faults.invalid_json())
            with pytest.raises(ValueError, match="Unterminated"):
                http.get(f"{kong.url}/audit/requests").json()
            for shape, body in faults.WRONG_SHAPES.items():
                kong.inject(faults.wrong_shape(shape))
                answer = http.get(f"{kong.url}/audit/requests")
                assert (answer.status_code, answer.json()) == (200, json.loads(body))

    def test_slow(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.inject(faults.slow(30))
            with pytest.raises(requests.ReadTimeout):
                http.get(f"{kong.url}/", timeout=0.05)

    def test_slow_answers_do_not_keep_the_simulator_from_stopping(self) -> None:
        finished = threading.Event()
        with KongSimulator() as kong, requests.Session() as http:
            kong.inject(faults.slow(120))

            def call() -> None:
                with contextlib.suppress(requests.RequestException):  # answered early or broken off: both will do
                    http.get(kong.url)
                finished.set()

            thread = threading.Thread(target=call)
            thread.start()
            while kong.pending_faults():
                time.sleep(0.001)
        thread.join(timeout=20)
        assert finished.is_set()


class TestPoison:
    @pytest.mark.parametrize("version", ALL_RELEASES)
    def test_no_answer_can_hold_a_poisoned_row(self, http: requests.Session, version: str) -> None:
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(number, NOW - number) for number in range(1, 6)])
            kong.poison([f"{3:032d}"], fault=faults.server_error())
            pages = [http.get(f"{kong.url}/audit/requests?size={size}") for size in (2, 3, 100, 2)]
            offset = pages[0].json()["offset"]
            behind = http.get(f"{kong.url}/audit/requests", params={"size": 1, "offset": offset})
            others = [http.get(kong.url + path).status_code for path in ("/", "/audit/objects")]
            kong.heal()
            healed = http.get(f"{kong.url}/audit/requests")
        assert [page.status_code for page in pages] == [200, 500, 500, 200]
        assert (behind.status_code, others) == (500, [200, 200])
        assert ids(healed.json()) == [1, 2, 3, 4, 5]

    def test_poison_of_large_pages_only(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.add_entries([entry(1), entry(2)])
            kong.poison([f"{1:032d}"], fault=faults.bad_gateway(504), page_size_over=10)
            assert [http.get(f"{kong.url}/audit/requests?size={size}").status_code for size in (11, 10)] == [504, 200]

    def test_poison_outside_the_window_does_no_harm(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.add_entries([entry(1, NOW - 1), entry(2, NOW - 2)])
            kong.poison([f"{2:032d}"], fault=faults.server_error())
            assert http.get(f"{kong.url}/audit/requests?after={NOW - 1}").status_code == 200
            assert http.get(f"{kong.url}/audit/requests?after={NOW - 2}").status_code == 500

    def test_any_fault_can_come_of_it(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.add_entries([entry(1)])
            for kind in ("reset", "reset_after", "cut_off"):
                kong.poison([f"{1:032d}"], fault=Fault(kind=kind))
                for _ in range(2):
                    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                        http.get(f"{kong.url}/audit/requests")
                kong.heal()
            kong.poison([f"{1:032d}"], fault=faults.invalid_json())
            assert http.get(f"{kong.url}/audit/requests").text == '{"data":[{"request_id":"'


class TestMixedNodes:
    def test_each_nth_call_of_the_audit_log_reaches_the_other_release(self, http: requests.Session) -> None:
        with KongSimulator(version="3.10") as kong:
            kong.mix_nodes("2.8", every_nth=3)
            answers = [
                http.get(kong.url + path) for path in ("/", "/audit/requests", "/audit/objects", "/audit/requests")
            ]
            kong.mix_nodes(None)
            answers += [http.get(f"{kong.url}/audit/requests") for _ in range(3)]
        servers = [answer.headers["Server"].removesuffix("-enterprise-edition") for answer in answers]
        assert servers == ["kong/3.10.0.2"] * 3 + ["kong/2.8.4.13"] + ["kong/3.10.0.2"] * 3

    def test_it_orders_and_filters_as_its_release_does(self, http: requests.Session) -> None:
        with KongSimulator(version="3.10") as kong:
            kong.add_entries([entry(1, NOW - 5), entry(2, NOW - 1), entry(3, NOW - 9)])
            kong.mix_nodes("2.8", every_nth=2)
            url = f"{kong.url}/audit/requests?after={NOW - 5}&before={NOW}"
            pages = [ids(http.get(url).json()) for _ in range(2)]
            kong.add_entries([entry(0, NOW - 2)])
            pages += [ids(http.get(url).json()) for _ in range(2)]
        assert pages == [[2, 1], [1, 2, 3], [2, 0, 1], [0, 1, 2, 3]]

    @pytest.mark.parametrize("version", ["2.8", "3.10"])
    def test_offsets_mean_something_else_to_it(self, http: requests.Session, version: str) -> None:
        other = {"2.8": "3.10", "3.10": "2.8"}[version]
        with KongSimulator(version=version) as kong:
            kong.add_entries([entry(number, NOW - number) for number in range(5)])
            first = http.get(f"{kong.url}/audit/requests?size=2").json()
            kong.mix_nodes(other, every_nth=1)
            second = http.get(f"{kong.url}/audit/requests", params={"size": 9, "offset": first["offset"]}).json()
        # Behind everything for one, back at the beginning for the other.
        assert ids(second) == {"2.8": [], "3.10": [0, 1, 2, 3, 4]}[version]


class TestDate:
    def date(self, http: requests.Session, kong: KongSimulator) -> str | None:
        return http.get(f"{kong.url}/audit/requests").headers.get("Date")

    def test_a_proxy_may_write_its_own(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.configure(date_skew_seconds=-1200)
            kong.add_entries([entry(1)], visible_at=NOW)
            assert self.date(http, kong) == "Sat, 01 Jun 2024 11:40:00 GMT"
            assert ids(http.get(f"{kong.url}/audit/requests").json()) == [1]  # Kong's own clock is as it was
            kong.inject(faults.server_error())
            assert self.date(http, kong) == "Sat, 01 Jun 2024 11:40:00 GMT"

    def test_a_proxy_may_write_anything_or_nothing(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.configure(date_text="Sat, 01 Jun 2024 14:00:00 +0200")
            assert self.date(http, kong) == "Sat, 01 Jun 2024 14:00:00 +0200"
            kong.configure(date_text="")
            assert self.date(http, kong) is None
            kong.configure(date_skew_seconds=0)
            assert self.date(http, kong) == "Sat, 01 Jun 2024 12:00:00 GMT"

    def test_the_release_may_be_kept_secret(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.configure(server_header=False)
            assert "Server" not in http.get(f"{kong.url}/audit/requests").headers


class TestSlowFaults:
    """Faults of the connection, seen byte by byte."""

    def receive(self, kong: KongSimulator, at_least: int) -> bytes:
        port = int(kong.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /status HTTP/1.1\r\nHost: kong\r\n\r\n")
            data = b""
            while len(data) < at_least and (more := connection.recv(65_536)):
                data += more
        return data

    def test_drip_sends_the_status_line_byte_by_byte(self) -> None:
        with KongSimulator() as kong:
            kong.inject(Fault(kind="drip", delay_seconds=0.02))
            assert self.receive(kong, 5) == b"HTTP/"
            kong.inject(Fault(kind="drip"))
            assert self.receive(kong, 10_000).endswith(b'"connections_active": 1}}')

    def test_continue_never_ends(self) -> None:
        with KongSimulator() as kong:
            kong.inject(Fault(kind="continue", delay_seconds=0.001))
            data = self.receive(kong, 250)
            assert set(data.decode().split("\r\n")[:-2]) == {"HTTP/1.1 100 Continue", ""}
            assert [call.status for call in kong.requests] == [0]

    def test_hang_never_answers(self) -> None:
        with KongSimulator() as kong:
            kong.inject(Fault(kind="hang"))
            with requests.Session() as session, pytest.raises(requests.ReadTimeout):
                session.get(f"{kong.url}/status", timeout=0.05)
            assert [call.status for call in kong.requests] == [0]
            assert requests.get(f"{kong.url}/status", timeout=10).status_code == 200

    def test_a_client_that_waits_does_not_keep_the_simulator_from_stopping(self) -> None:
        for fault in (Fault(kind="hang"), *(Fault(kind=kind, delay_seconds=60) for kind in ("drip", "continue"))):
            with KongSimulator() as kong:
                kong.inject(fault)
                port = int(kong.url.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    while not kong.requests:
                        time.sleep(0.001)
                    kong.__exit__()
                    with contextlib.suppress(ConnectionError):
                        while connection.recv(65_536):
                            pass

    def test_cached_answers_are_old_and_say_so(self, http: requests.Session) -> None:
        with KongSimulator() as kong:
            kong.set_clock(frozen_at=NOW)
            kong.inject(Fault(kind="cached", path="audit", times=3))
            url = f"{kong.url}/audit/requests"
            empty = http.get(url)  # nothing is kept yet: as Kong answers it
            kong.add_entries([entry(1)])
            kong.advance_clock(30)
            cached = http.get(f"{url}?size=1")
            root = http.get(kong.url)
            again = http.get(url)
            fresh = http.get(url)
        assert ("Age" in empty.headers, "Age" in root.headers, "Age" in fresh.headers) == (False, False, False)
        assert (cached.headers["Age"], cached.content, again.content) == ("30", empty.content, empty.content)
        assert ids(fresh.json()) == [1]


class TestCounting:
    def test_calls_bytes_connections_and_flight(self, http: requests.Session) -> None:
        with KongSimulator(latency_seconds=0.3) as kong:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: requests.get(f"{kong.url}/status", timeout=10), range(4)))
            assert (kong.calls, kong.max_in_flight) == ({"/status": 4}, 4)
            kong.reset_counters()
            kong.configure(latency_seconds=0)
            answers = [http.get(f"{kong.url}/audit/requests?size={size}") for size in (1, 2, 3)]
            assert (kong.calls, kong.max_in_flight) == ({"/audit/requests": 3}, 1)
            assert [call.target for call in kong.requests] == [f"/audit/requests?size={size}" for size in (1, 2, 3)]
            assert kong.connections == 1  # kept alive
            assert kong.bytes_sent > sum(len(answer.content) for answer in answers)


def test_own_process(http: requests.Session, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    http.verify = str(certificates.ca_path)
    http.headers["Kong-Admin-Token"] = "right"
    with KongProcess(version="3.8", token="right", certificates=certificates, base_path="/k") as kong:
        assert kong.add_entries(entry(number) for number in range(3)) == 3
        kong.add_raw_row(b'{"path":"\xff"}', timestamp=NOW)
        kong.inject(faults.rate_limited("3", path="audit"))
        kong.set_clock(frozen_at=NOW)
        limited = http.get(f"{kong.url}/audit/requests")
        page = http.get(f"{kong.url}/audit/requests")
        assert (limited.status_code, limited.headers["Retry-After"]) == (429, "3")
        assert page.content.count(b"request_id") == 3
        assert b"\xff" in page.content
        assert page.headers["Date"] == "Sat, 01 Jun 2024 12:00:00 GMT"
        assert [call.status for call in kong.requests] == [429, 200]
        assert kong.calls == {"/k/audit/requests": 2}
        kong.poison({f"{1:032d}"}, fault=faults.server_error(), page_size_over=2)
        kong.mix_nodes("2.8", every_nth=1)
        kong.configure(date_text="yesterday", server_header=True)
        poisoned = http.get(f"{kong.url}/audit/requests")
        kong.heal()
        healed = http.get(f"{kong.url}/audit/requests")
        assert (poisoned.status_code, healed.status_code) == (500, 200)
        assert (healed.headers["Server"], healed.headers["Date"]) == ("kong/2.8.4.13-enterprise-edition", "yesterday")
        with pytest.raises(RuntimeError, match="unexpected keyword argument"):
            kong._remote.call("configure", {"speed": 1})
    with pytest.raises(requests.ConnectionError):
        http.get(kong.url)
