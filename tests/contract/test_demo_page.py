"""The page of the kept demo: it shows where every entry is, and only who looks at it can press its buttons."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.demo.parts import CachePart, CloudTrailPart, KongPart
from sandbox.demo.runs import runs_of_log
from sandbox.demo.site import console
from sandbox.demo.terminal import commands, exports
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.control import ControlServer
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.valkey import Valkey
from tests.conftest import CACHE_PASSWORD, CACHE_USERNAME, KONG_TOKEN, Site
from tests.helpers import REPOSITORY, entries, entry, wait_until
from tests.live_demo import SECRETS, Visitor, live_demo

if TYPE_CHECKING:
    from mypy_boto3_cloudtrail_data.type_defs import AuditEventTypeDef

DEMO = REPOSITORY / "sandbox" / "demo"


@pytest.fixture
def visitor(
    site: Site, certificates: Certificates, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visitor]:
    with live_demo(site, certificates, monkeypatch) as visitor:
        visitor.demo.open()
        yield visitor


class TestWhatIsShown:
    def test_entries_are_followed_from_kong_to_cloudtrail(self, visitor: Visitor) -> None:
        visitor.press("calls", calls=3)
        before = visitor.state()
        visitor.run()
        after = visitor.state()

        assert before["verdict"] == {
            "text": "0 of 3 entries at Kong are in CloudTrail Lake, each once. 3 wait for the next run.",
            "tone": "warning",
        }
        assert [one["place"] for one in before["entries"]] == ["waits at Kong"] * 3
        assert after["verdict"] == {"text": "All 3 entries at Kong are in CloudTrail Lake, each once.", "tone": "good"}
        assert after["counts"] == {"kong": 3, "waiting": 0, "cloudtrail": 3, "marks": 3, "quarantine": 0}
        assert [one["place"] for one in after["entries"]] == ["delivered"] * 3
        assert after["entries"][0].keys() == {"id", "at", "call", "user", "status", "place", "delivered_at"}
        assert (after["entries"][0]["call"], after["entries"][0]["user"]) == ("POST /services", "alice")

    def test_the_newest_entries_come_first_and_all_are_counted(self, visitor: Visitor, site: Site) -> None:
        now = int(site.kong.now())
        site.kong.add_entries(entry(number, request_timestamp=now - number) for number in range(1, 2501))

        state = visitor.state()

        assert state["counts"]["kong"] == state["counts"]["waiting"] == 2500
        assert [one["id"] for one in state["entries"]] == [row["request_id"] for row in entries(15)]

    def test_entries_that_come_late_or_go_are_noticed(self, visitor: Visitor, site: Site) -> None:
        now = int(site.kong.now())
        site.kong.add_entries([entry(1, request_timestamp=now)])
        assert visitor.state()["counts"]["kong"] == 1
        site.kong.add_entries([entry(2, request_timestamp=now - 3600)])
        assert visitor.state()["counts"]["kong"] == 2
        site.kong.clear_entries()
        assert visitor.state()["counts"]["kong"] == 0

    def test_one_entry_is_told_of_in_detail(self, visitor: Visitor) -> None:
        visitor.press("calls", calls=1)
        [row] = visitor.state()["entries"]
        before = visitor.entry(row["id"])
        visitor.run()
        after = visitor.entry(row["id"])

        assert [step["name"] for step in after["steps"]] == [
            "At Kong",
            "In CloudTrail Lake",
            "Marked in the cache",
            "In quarantine",
        ]
        assert [step["holds"] for step in before["steps"]] == [True, False, False, False]
        assert [step["holds"] for step in after["steps"]] == [True, True, True, False]
        assert (before["place"], after["place"]) == ("waits at Kong", "delivered")
        assert "30 days" in after["steps"][2]["detail"]

    def test_an_id_that_nobody_knows_is_nowhere(self, visitor: Visitor) -> None:
        answer = visitor.entry("no such id")

        assert (answer["place"], answer["call"]) == ("unknown", None)
        assert not any(step["holds"] for step in answer["steps"])

    def test_doubles_and_lost_marks_show(self, visitor: Visitor, site: Site) -> None:
        visitor.press("calls", calls=2)
        visitor.run()
        site.valkey.flush()
        lost = visitor.state()
        visitor.run()
        doubled = visitor.state()

        assert [one["place"] for one in lost["entries"]] == ["delivered, not marked"] * 2
        assert doubled["verdict"] == {
            "text": "All 2 entries at Kong are in CloudTrail Lake. 2 were delivered more than once.",
            "tone": "bad",
        }
        assert "Accepted 2 times" in visitor.entry(doubled["entries"][0]["id"])["steps"][1]["detail"]

    def test_runs_are_told_of_once_whoever_started_them(self, visitor: Visitor) -> None:
        visitor.function.invoke()
        visitor.state()
        state = visitor.state()

        told = [one["what"] for one in state["happenings"] if one["what"].startswith("The run")]
        assert told == ["The run ended: 0 fetched, 0 delivered, 0 quarantined."]
        assert [(run["outcome"], run["report"]["fetched"]) for run in state["runs"]] == [("nothing new", 0)]

    def test_no_token_payload_or_query_string_is_shown(self, visitor: Visitor) -> None:
        visitor.press("refuse")
        visitor.press("calls", calls=2)
        visitor.run()
        visitor.press("break", part="cache")
        visitor.run()
        shown = [requests.get(visitor.url + path, timeout=10).text for path in ("", "page.css", "page.js", "api/state")]
        shown += [json.dumps(visitor.entry(one["id"])) for one in visitor.state()["entries"]]

        assert "in quarantine" in shown[3]
        for secret in SECRETS:
            assert all(secret not in text for text in shown)


class TestButtons:
    def test_a_refused_entry_is_kept_in_quarantine(self, visitor: Visitor) -> None:
        visitor.press("refuse")
        assert visitor.state()["refusals_left"] == 1
        visitor.press("calls", calls=3)
        visitor.run()
        state = visitor.state()

        assert state["verdict"]["text"] == (
            "2 of 3 entries at Kong are in CloudTrail Lake, each once. 1 is in quarantine."
        )
        assert (state["refusals_left"], state["runs"][0]["outcome"]) == (0, "quarantined")
        [refused] = [one for one in state["entries"] if one["place"] == "in quarantine"]
        steps = visitor.entry(refused["id"])["steps"]
        assert [step["holds"] for step in steps] == [True, False, True, True]
        assert "InvalidData" in steps[3]["detail"]

    @pytest.mark.parametrize(
        ("part", "reason"), [("kong", "Kong"), ("cloudtrail", "ServiceUnavailable"), ("cache", "cache")]
    )
    def test_what_was_recorded_while_a_part_was_broken_is_delivered_once_it_works(
        self, visitor: Visitor, part: str, reason: str
    ) -> None:
        visitor.press("break", part=part)
        visitor.press("calls", calls=2)
        visitor.run()
        broken = visitor.state()
        visitor.press("mend", part=part)
        visitor.run()
        mended = visitor.state()

        assert [name for name, one in broken["parts"].items() if one["broken"]] == [part]
        assert (broken["counts"]["waiting"], broken["runs"][0]["outcome"]) == (2, "failed")
        assert reason in broken["runs"][0]["error"]
        assert not any(one["broken"] for one in mended["parts"].values())
        assert mended["verdict"]["tone"] == "good"

    def test_only_one_run_at_a_time(self, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
        may_end = threading.Event()
        monkeypatch.setattr(visitor.demo, "_invoke", lambda: may_end.wait(30))
        visitor.press("run")

        refused = visitor.post("run")

        assert (refused.status_code, refused.json()) == (409, {"problem": "The collector is running already."})
        assert visitor.state()["running_since"] is not None
        may_end.set()
        wait_until(lambda: visitor.state()["running_since"] is None)

    def test_a_collector_that_cannot_be_started_is_told_of(
        self, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise OSError("s3cret")

        monkeypatch.setattr(visitor.demo, "_invoke", fail)
        visitor.press("run")

        wait_until(lambda: visitor.state()["running_since"] is None)
        assert visitor.state()["happenings"][-1]["what"] == "The collector could not be started (OSError)."

    @pytest.mark.parametrize("button", ["run", "refuse", "calls", "break", "mend"])
    def test_no_button_works_before_the_demo_has_checked_itself(
        self, site: Site, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, button: str
    ) -> None:
        with live_demo(site, certificates, monkeypatch) as visitor:
            answer = visitor.post(button, calls=1, part="kong")

            assert answer.status_code == 409
            assert "Wait until it is done" in answer.json()["problem"]
            assert not visitor.state()["ready"]

    @pytest.mark.parametrize(
        ("button", "arguments"),
        [
            ("calls", {}),
            *(("calls", {"calls": calls}) for calls in (0, 501, True, 1.5, "3", None)),
            ("break", {"part": "ledger"}),
            ("mend", {}),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, visitor: Visitor, button: str, arguments: dict[str, Any]) -> None:
        answer = visitor.post(button, **arguments)

        assert answer.status_code == 409
        assert answer.json()["problem"]
        assert visitor.state()["counts"]["kong"] == 0

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"calls": 1, "more": "' + b"x" * 1000 + b'"}'])
    def test_a_body_that_is_no_small_object_is_refused(self, visitor: Visitor, body: bytes) -> None:
        answer = requests.post(
            f"{visitor.url}api/calls", data=body, headers={"Origin": visitor.url.rstrip("/")}, timeout=10
        )

        assert (answer.status_code, answer.json()) == (409, {"problem": "Send a JSON object."})


class TestParts:
    def test_a_broken_kong_resets_readers_of_its_audit_log_except_the_page(self) -> None:
        with KongSimulator() as kong:
            part = KongPart(kong)
            part.break_()
            part.break_()
            for path in ("/audit/requests", "/audit/requests?size=5", "/audit/requests?x=reader=demo-page"):
                for _ in range(3):
                    with pytest.raises(requests.ConnectionError):
                        requests.get(kong.url + path, timeout=10)
            assert requests.post(f"{kong.url}/services", json={}, timeout=10).status_code == 201
            assert requests.get(f"{kong.url}/audit/requests?reader=demo-page&size=5", timeout=10).status_code == 200

            part.mend()

            assert requests.get(f"{kong.url}/audit/requests", timeout=10).status_code == 200

    def test_a_broken_cloudtrail_takes_nothing_and_forgets_no_refusal(
        self, cloudtrail: CloudTrailEmulator, aws_credentials: None
    ) -> None:
        client = boto3.client(
            "cloudtrail-data", endpoint_url=cloudtrail.url, config=Config(retries={"total_max_attempts": 1})
        )
        cloudtrail.configure(validate="light")
        part = CloudTrailPart(cloudtrail)

        def put(*ids: str) -> dict[str, str]:
            events: list[AuditEventTypeDef] = [{"id": one, "eventData": json.dumps({"UID": one})} for one in ids]
            answer = client.put_audit_events(channelArn=cloudtrail.channel_arn, auditEvents=events)
            return {failure["id"]: failure["errorCode"] for failure in answer["failed"]}

        part.refuse_next()
        part.break_()
        with pytest.raises(ClientError, match="ServiceUnavailable"):
            put("a")
        part.mend()

        assert put("a", "b") == {"a": "InvalidData"}
        assert put("a", "b") == {}
        assert part.refusals_left == 0

    def test_a_broken_cache_keeps_its_port_and_its_marks(self, valkey: Valkey, certificates: Certificates) -> None:
        with CachePart(valkey, certificates) as cache:
            client = redis.Redis(
                host="localhost",
                port=cache.port,
                username=CACHE_USERNAME,
                password=CACHE_PASSWORD,
                ssl=True,
                ssl_ca_certs=str(cache.ca_pem_path),
                retry=Retry(NoBackoff(), 0),
            )
            with client:
                client.set("mark", "1")
                cache.break_()
                cache.break_()
                assert cache.is_broken
                with pytest.raises(redis.ConnectionError):
                    client.get("mark")
                cache.mend()
                cache.mend()
                assert client.get("mark") == b"1"


class TestStrangers:
    """Other web sites that are open in the visitor's browser."""

    @pytest.mark.parametrize(
        "origin", [None, "null", "https://example.com", "http://127.0.0.1:1", "http://evil.test:{port}"]
    )
    def test_cannot_press_a_button(self, visitor: Visitor, origin: str | None) -> None:
        port = visitor.url.rstrip("/").rpartition(":")[2]
        headers = {} if origin is None else {"Origin": origin.format(port=port)}

        for button in ("calls", "run", "refuse", "break", "mend"):
            body = json.dumps({"calls": 1, "part": "kong"})
            answer = requests.post(f"{visitor.url}api/{button}", data=body, headers=headers, timeout=10)
            assert answer.status_code == 403

        state = visitor.state()
        assert (state["counts"]["kong"], state["refusals_left"], state["running_since"]) == (0, 0, None)
        assert not any(part["broken"] for part in state["parts"].values())

    def test_cannot_read_it_under_a_name_of_their_own(self, visitor: Visitor) -> None:
        port = visitor.url.rstrip("/").rpartition(":")[2]
        for host in (f"evil.test:{port}", "127.0.0.1", "127.0.0.1:1"):
            for method in ("GET", "POST"):
                answer = requests.request(
                    method,
                    f"{visitor.url}api/state",
                    headers={"Host": host, "Origin": f"http://{host}"},
                    timeout=10,
                )
                assert answer.status_code == 421
                assert answer.json().keys() == {"problem"}

    def test_cannot_change_anything_by_a_link_or_a_picture(self, visitor: Visitor) -> None:
        assert requests.get(f"{visitor.url}api/run", timeout=10).status_code == 404
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert requests.request(method, f"{visitor.url}api/run", timeout=10).status_code == 405
        assert visitor.state()["running_since"] is None

    def test_every_answer_forbids_framing_and_foreign_scripts(self, visitor: Visitor) -> None:
        for path in ("", "page.js", "api/state", "api/entry?id=x", "nowhere"):
            headers = requests.get(visitor.url + path, timeout=10).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in headers

    def test_the_page_is_served_on_loopback_only(self, visitor: Visitor) -> None:
        assert visitor.url.startswith("http://127.0.0.1:")
        port = int(visitor.url.rstrip("/").rpartition(":")[2])
        with socket.socket() as listener:  # somebody else's 127.0.0.2 is free: it does not listen on every address
            listener.bind(("127.0.0.2", port))

    def test_an_error_of_the_page_itself_shows_its_kind_only(
        self, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise ValueError("s3cret-in-a-payload")

        monkeypatch.setattr(visitor.demo, "state", fail)
        answer = requests.get(f"{visitor.url}api/state", timeout=10)

        assert (answer.status_code, answer.json()) == (500, {"problem": "The demo could not look or act (ValueError)."})

    def test_cannot_control_a_simulator(self, cloudtrail: CloudTrailEmulator) -> None:
        control = ControlServer(cloudtrail)
        control.start()
        try:
            refused = requests.post(f"{control.url}accepted_ids", headers={"Origin": "https://example.com"}, timeout=10)
            answered = requests.post(f"{control.url}accepted_ids", timeout=10)
        finally:
            control.stop()

        assert (refused.status_code, answered.status_code) == (403, 200)


class Elements(HTMLParser):
    """The start tags of a page, with their attributes, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


class TestPageItself:
    html = (DEMO / "page.html").read_text("utf-8")
    css = (DEMO / "page.css").read_text("utf-8")
    script = (DEMO / "page.js").read_text("utf-8")
    page = Elements(html)

    def test_nothing_comes_from_elsewhere(self) -> None:
        for text in (self.html, self.css, self.script):
            assert "://" not in text
            assert "@import" not in text
        sources = [element.get("src") or element.get("href") for _, element in self.page.found]
        assert {source for source in sources if source} == {"/page.js", "/page.css", "data:,"}

    def test_nothing_runs_inline_and_no_text_becomes_markup(self) -> None:
        assert not any(name.startswith("on") or name == "style" for _, element in self.page.found for name in element)
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in self.script

    def test_every_field_has_a_label_and_every_section_a_title(self) -> None:
        labelled = {element["for"] for element in self.page.all("label")}
        ids = {element["id"] for _, element in self.page.found if "id" in element}
        assert {element["id"] for element in self.page.all("input")} == labelled
        assert all(element["aria-labelledby"] in ids for element in self.page.all("section"))
        assert self.page.all("html") == [{"lang": "en"}]
        assert len(self.page.all("h1")) == 1
        assert all(element.get("type") in ("button", "submit") for element in self.page.all("button"))

    def test_the_script_finds_what_it_looks_for(self) -> None:
        ids = {element["id"] for _, element in self.page.found if "id" in element}
        looked_for = {part.partition('"')[0] for part in self.script.split('byId("')[1:]}
        assert len(looked_for) > 10
        assert looked_for <= ids

    def test_the_script_is_valid(self, tmp_path: Path) -> None:
        module = tmp_path / "page.mjs"
        shutil.copy(DEMO / "page.js", module)
        subprocess.run(["node", "--check", module], check=True, capture_output=True, timeout=60)

    def test_every_file_is_served(self, visitor: Visitor) -> None:
        for path, name, kind in (
            ("", "page.html", "text/html"),
            ("page.css", "page.css", "text/css"),
            ("page.js", "page.js", "text/javascript"),
        ):
            answer = requests.get(visitor.url + path, timeout=10)
            assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
            assert answer.content == (DEMO / name).read_bytes()


class TestTerminal:
    def test_the_collector_needs_no_more_than_the_exports(
        self, site: Site, local_aws: LocalAws, tmp_path: Path
    ) -> None:
        """Paste the lines into a shell that has nothing else, and run the collector against the simulators."""
        session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        session.client("s3", endpoint_url=local_aws.url).create_bucket(Bucket="demo-ledger")
        secrets = session.client("secretsmanager", endpoint_url=local_aws.url)
        secret = secrets.create_secret(Name="demo-kong-token", SecretString=KONG_TOKEN)["ARN"]
        with site.valkey.client() as client:
            client.execute_command("ACL", "SETUSER", "collector-by-iam", "on", "nopass", "~*", "+@all")
        variables = {name: value for name, value in site.environment.items() if not name.startswith("AWS_")}
        del variables["KONG_ADMIN_TOKEN"], variables["REDIS_PASSWORD"]
        assert site.kong.ca_pem_path is not None
        variables |= {
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": site.cloudtrail.url,
            "KONG_ROOT_CA": site.kong.ca_pem_path.read_text(),
            "KONG_ADMIN_TOKEN_SECRET": secret,
            "REDIS_USERNAME": "collector-by-iam",
            "REDIS_IAM_CACHE": "demo-cache",
            "LEDGER": "s3://demo-ledger/it's here",
            "LOG_LEVEL": "INFO",
        }
        site.kong.add_entries([entry(1, request_timestamp=int(site.kong.now()) - 5)])

        lines = exports(
            function_environment=variables, aws_environment=local_aws.environment(), kong_root_ca=site.kong.ca_pem_path
        )
        program = commands(
            function_name="collector",
            log_group_name="/logs",
            token_header=tmp_path / "header",
            events_url="http://x",
            has_archive=False,
        )
        sync = next(line for line in program if line.endswith(" sync"))
        shell = subprocess.run(
            ["bash", "-euc", "\n".join([*lines, f"{sync} --json"])],
            env={},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert shell.returncode == 0, shell.stderr
        assert json.loads(shell.stdout)["delivered"] == 1
        assert site.cloudtrail.accepted_uids() == [entries(1)[0]["request_id"]]
        assert len(lines) == 4
        for secret_text in (KONG_TOKEN, CACHE_PASSWORD):
            assert secret_text not in "\n".join([*lines, *program])

    def test_lines_are_printed_as_they_are(self) -> None:
        line = "export KONG_ADMIN_TOKEN_SECRET=arn:aws:secretsmanager:us-east-1:0:secret:kong [bold]" + "x" * 200

        with console.capture() as printed:
            console.print(line, soft_wrap=True, markup=False)

        assert printed.get() == line + "\n"


class TestLog:
    def line(self, run_id: str, **fields: Any) -> str:
        return json.dumps({"level": "INFO", "function_request_id": run_id, **fields})

    def ended(self, run_id: str, **report: Any) -> str:
        return self.line(run_id, code="RUN_ENDED", report={"fetched": 5, "finished": True, **report})

    def test_runs_come_from_the_lines_about_their_end(self) -> None:
        log = [
            (1.0, "START RequestId: a Version: $LATEST"),
            (1.1, json.dumps({"_aws": {}, "EntriesFetched": [5.0]})),
            (1.2, self.ended("a", delivered=5)),
            (1.3, "END RequestId: a"),
            (2.0, self.line("b", code="PAGE", fetched=1)),
            (2.1, self.ended("b", delivered=0, finished=False)),
            (2.2, self.line("b", level="ERROR", code="RunFailed", message="Kong did not answer.")),
            (3.0, self.line("c", level="ERROR", code="SettingsError", message="CHANNEL_ARN is not set.")),
            (4.0, self.ended("d", skipped=True, finished=False)),
            (5.0, self.ended("e", delivered=4, quarantined=1)),
            (6.0, self.ended("f", delivered=0)),
            (7.0, self.ended("g", delivered=3, finished=False)),
            (8.0, "[1, 2]"),
        ]

        runs = runs_of_log(log)

        assert [(run.id, run.ended_at, run.outcome) for run in runs] == [
            ("a", 1.2, "delivered"),
            ("b", 2.2, "failed"),
            ("c", 3.0, "failed"),
            ("d", 4.0, "skipped"),
            ("e", 5.0, "quarantined"),
            ("f", 6.0, "nothing new"),
            ("g", 7.0, "unfinished"),
        ]
        assert runs[0].summary() == "The run ended: 5 fetched, 5 delivered."
        assert runs[1].summary() == "The run failed: Kong did not answer."
        assert runs[2].report is None
        assert runs[3].summary() == "The run was skipped: another run is in progress."
