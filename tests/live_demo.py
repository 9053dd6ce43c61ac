"""A demo to look at, without AWS: the site of the tests, and the collector in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from kong_cloudtrail.assembly import Assembly, SystemClock, UnlimitedTime
from kong_cloudtrail.errors import RunFailed
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from sandbox.demo.live import LiveDemo
from sandbox.demo.page import DemoPage
from sandbox.demo.parts import CachePart
from sandbox.demo.runs import Run
from sandbox.demo.watch import Watch
from sandbox.machinery.certificates import Certificates
from tests.conftest import KONG_TOKEN, Site
from tests.fakes import Telemetry
from tests.helpers import wait_until

ALICE_TOKEN = "t0ken-of-alice"
SECRETS = (KONG_TOKEN, ALICE_TOKEN, "s3cret-in-a-payload", "s3cret-in-a-query")


@dataclass
class FunctionInProcess:
    """The collector, whose runs are remembered as the function's log would tell of them."""

    environment: dict[str, str]
    ended: list[Run] = field(default_factory=list)

    def runs(self) -> list[Run]:
        return list(self.ended)

    def invoke(self) -> None:
        assembly = Assembly(Settings.from_mapping(self.environment), Redactor())
        error = None
        try:
            report = assembly.collector(assembly.trails[0], Telemetry(), UnlimitedTime()).run().summary()
        except RunFailed as failure:
            report, error = dict(failure.summary), str(failure)
        finally:
            assembly.close()
        self.ended.append(Run(str(len(self.ended) + 1), time.time(), report, error))


class Folder:
    """A ledger in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> Iterator[str]:
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(self._folder).as_posix()

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


@dataclass(frozen=True)
class Visitor:
    """Somebody at the page of a demo, with the keys to what is behind it."""

    demo: LiveDemo
    function: FunctionInProcess
    site: Site
    url: str

    def state(self) -> dict[str, Any]:
        return self._get("api/state")

    def entry(self, request_id: str) -> dict[str, Any]:
        return self._get("api/entry", id=request_id)

    def post(self, button: str, **arguments: Any) -> requests.Response:
        headers = {"Origin": self.url.rstrip("/")}
        return requests.post(f"{self.url}api/{button}", json=arguments, headers=headers, timeout=10)

    def press(self, button: str, **arguments: Any) -> None:
        answer = self.post(button, **arguments)
        assert answer.status_code == 200, answer.text

    def run(self) -> None:
        """Run the collector, and wait until the run has ended."""
        self.press("run")
        wait_until(lambda: self.state()["running_since"] is None, timeout_seconds=60)

    def _get(self, path: str, **arguments: str) -> dict[str, Any]:
        answer = requests.get(self.url + path, params=arguments, timeout=10)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result


@contextmanager
def live_demo(site: Site, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    """Run the page of a demo on a site. Its cache is reached by a way of its own, which can be cut.

    Every look is a new one, and the collector waits for nothing.
    """
    monkeypatch.setattr("sandbox.demo.watch.PICTURE_SECONDS", 0)
    monkeypatch.setattr(SystemClock, "sleep", staticmethod(lambda seconds: None))
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    site.kong.add_user("alice", ALICE_TOKEN)

    def use_admin_api(calls: int) -> None:
        for number in range(calls):
            response = requests.post(
                f"{site.kong.url}/services?key=s3cret-in-a-query",
                json={"name": f"service-{number}", "key": "s3cret-in-a-payload"},
                headers={"Kong-Admin-Token": ALICE_TOKEN},
                verify=str(site.kong.ca_pem_path),
                timeout=10,
            )
            response.raise_for_status()

    with CachePart(site.valkey, certificates) as cache:
        function = FunctionInProcess(site.environment | {"REDIS_HOST": f"localhost:{cache.port}"})
        watch = Watch(
            kong=site.kong,
            kong_token=KONG_TOKEN,
            cloudtrail=site.cloudtrail,
            valkey=site.valkey,
            ledger=Folder(site.ledger),
            runs=function.runs,
        )
        demo = LiveDemo(
            watch=watch,
            kong=site.kong,
            cloudtrail=site.cloudtrail,
            cache=cache,
            invoke=function.invoke,
            use_admin_api=use_admin_api,
            commands=("aws lambda invoke --function-name collector report.json",),
        )
        with DemoPage(demo) as page:
            yield Visitor(demo, function, site, page.url)
