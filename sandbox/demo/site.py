"""Everything that runs for the demo: starts and deploys it, and uses AWS and Kong as their users would."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import requests
from botocore.config import Config
from rich.console import Console

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.cloudwatch_logs.emulator import LogsEmulator
from sandbox.demo.parts import CachePart
from sandbox.demo.runs import Run, runs_of_log
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.processes import PROJECT_DIRECTORY
from sandbox.machinery.valkey import Valkey

STACK = "KongCloudTrailIntegration"
ARCHIVE, LAKE, LOGS = "archive", "cloudtrail-lake", "cloudwatch-logs"
REQUESTS, OBJECTS = "requests", "objects"
ID_FIELDS = {REQUESTS: "request_id", OBJECTS: "id"}
"""What identifies an entry of Kong's audit log, by stream."""
CDK_TIMEOUT_SECONDS = 300
_RUN_HISTORY_SECONDS = 3600

# On a terminal as wide as it is; in a pipe or a file, wide enough for the tables. Without emoji: an ARN has `:secret:`.
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)


class DemoError(Exception):
    """The demo had an unexpected result; the message says which."""


class RunFailed(DemoError):
    """A run of the function failed; the message says why."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show a title while something is done, and then how long it took."""
    started = time.monotonic()
    with console.status(f"{title} ..."):
        yield
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")


@dataclass(frozen=True)
class Trail:
    """One of the streams, in one of the destinations."""

    stream: str
    destination: str


@dataclass(frozen=True)
class Lake:
    """What only a trail into CloudTrail Lake needs."""

    cloudtrail: CloudTrailEmulator
    cache: CachePart


@dataclass(frozen=True)
class Logs:
    """What only a trail into CloudWatch Logs needs. The local AWS's own takes whatever it is sent."""

    emulator: LogsEmulator
    cache: CachePart


@dataclass(frozen=True)
class Site:
    """Everything that runs for the demo, besides what is deployed to it."""

    kong: KongSimulator
    kong_token: str
    alice_token: str
    lake: Lake | None
    logs: Logs | None
    aws: LocalAws
    directory: Path

    @property
    def cache(self) -> CachePart | None:
        """The cache, if a destination needs one."""
        of_it = self.lake or self.logs
        return None if of_it is None else of_it.cache

    def client(self, service: str) -> Any:
        """Return a boto3 client of the local AWS."""
        session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        config = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 1})
        return session.client(service, endpoint_url=self.aws.url, config=config)

    def use_admin_api(self, objects: Sequence[str]) -> None:
        """Let alice create objects, each given as `kind/name`."""
        with requests.Session() as session:
            session.headers["Kong-Admin-Token"] = self.alice_token
            for path in objects:
                kind, _, name = path.partition("/")
                response = session.post(
                    f"{self.kong.url}/{kind}",
                    json={"name": name, "tags": ["demo"]},
                    verify=str(self.kong.ca_pem_path),
                    timeout=10,
                )
                response.raise_for_status()


@contextmanager
def running_site(destinations: Sequence[str]) -> Iterator[Site]:
    """Start everything that these destinations need; stop it all at the end, whatever happens."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kong-cloudtrail-demo-")))
        kong_token, alice_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        with step("Starting Kong's Admin API (simulated; HTTPS with a private CA, RBAC token)"):
            certificates = Certificates(directory / "kong-ca")
            # As recommended for production, the collector's own reads are kept out of the audit log.
            kong = stack.enter_context(
                KongSimulator(version="3.10", token=kong_token, certificates=certificates, self_audit=False)
            )
            kong.add_user("alice", alice_token)
        cache = _start_cache(stack, directory) if {LAKE, LOGS} & set(destinations) else None
        lake = _start_lake(stack, cache) if cache is not None and LAKE in destinations else None
        logs = _start_logs(stack, cache) if cache is not None and LOGS in destinations else None
        with step("Starting the rest of AWS (ministack; S3 and Athena among it)"):
            log_path = directory / "ministack.log"
            if cache is None:
                aws = stack.enter_context(LocalAws(log_path=log_path))
            else:
                aws = stack.enter_context(LocalAws(redis_host=cache.host, redis_port=cache.port, log_path=log_path))
        stack.callback(console.print, "Stopping everything.")
        yield Site(kong, kong_token, alice_token, lake, logs, aws, directory)


def _start_cache(stack: ExitStack, directory: Path) -> CachePart:
    with step("Starting Valkey (real), and TLS in front of it"):
        valkey = stack.enter_context(Valkey(password=secrets.token_urlsafe(24)))
        return stack.enter_context(CachePart(valkey, Certificates(directory / "cache-ca")))


def _start_lake(stack: ExitStack, cache: CachePart) -> Lake:
    with step("Starting CloudTrail's data plane (emulated; as strict as the documented limits)"):
        return Lake(stack.enter_context(CloudTrailEmulator()), cache)


def _start_logs(stack: ExitStack, cache: CachePart) -> Logs:
    with step("Starting CloudWatch Logs' PutLogEvents (emulated; as strict as the documented limits)"):
        return Logs(stack.enter_context(LogsEmulator()), cache)


# -- the deployment


class Deployment:
    """What `cdk deploy` made.

    Parameters
    ----------
    site
        Where it is deployed.
    function_name, log_group_name
        From the stack's outputs.
    """

    def __init__(self, site: Site, function_name: str, log_group_name: str) -> None:
        self._logs = site.client("logs")
        self._lambda = site.client("lambda")
        self._s3 = site.client("s3")
        self.function_name = function_name
        self.log_group_name = log_group_name
        configuration = self._lambda.get_function_configuration(FunctionName=function_name)
        self.environment: Mapping[str, str] = configuration["Environment"]["Variables"]
        """The function's settings."""
        self._targets = _schedule_targets(site, function_name)
        self._archive = urlsplit(self.environment.get("ARCHIVE", ""))
        ledger = urlsplit(self.environment["LEDGER"])
        self._bucket, self._prefix = ledger.netloc, f"{ledger.path.strip('/')}/"

    @property
    def has_archive(self) -> bool:
        """Whether there is an archive."""
        return "ARCHIVE" in self.environment

    def invoke(self, trail: Trail) -> dict[str, Any]:
        """Invoke the function as the schedule of a trail would: the same target, the same payload.

        Returns
        -------
        dict
            The run's report.

        Raises
        ------
        RunFailed
            If the run failed.
        """
        target = self._targets[trail]
        payload = (
            target["Input"]
            .replace("<aws.scheduler.execution-id>", str(uuid.uuid4()))
            .replace("<aws.scheduler.scheduled-time>", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        )
        answer = self._lambda.invoke(FunctionName=target["Arn"], Payload=payload.encode())
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise RunFailed(f"the function failed: {result.get('errorMessage', result)}")
        return result

    def runs(self) -> list[Run]:
        """Return the runs of the last hour in the function's log, oldest first."""
        since = int((time.time() - _RUN_HISTORY_SECONDS) * 1000)
        answer = self._logs.filter_log_events(logGroupName=self.log_group_name, startTime=since)
        return runs_of_log((event["timestamp"] / 1000, event["message"]) for event in answer["events"])

    # -- the archive

    def archived_ids(self, stream: str) -> list[str]:
        """Return the id of each line of a stream in the archive, read without the collector's code."""
        return [
            json.loads(line)["entry"][ID_FIELDS[stream]]
            for name in self._part_names()
            if f"/stream={stream}/" in name
            for line in gzip.decompress(self._part(name)).splitlines()
        ]

    def newest_part(self) -> tuple[str, bytes]:
        """Return name and content of the part with the latest hour, of requests if there are any."""
        name = max(self._part_names(), key=lambda name: (f"/stream={REQUESTS}/" in name, name))
        return name, self._part(name)

    def write_part(self, name: str, body: bytes) -> str:
        """Write a part as somebody would who may do anything in the account; return the new version."""
        version: str = self._s3.put_object(Bucket=self._archive.netloc, Key=name, Body=body)["VersionId"]
        return version

    def remove_version(self, name: str, version: str) -> None:
        """Remove a version of a part."""
        self._s3.delete_object(Bucket=self._archive.netloc, Key=name, VersionId=version)

    def _part_names(self) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._archive.netloc, Prefix=f"{self._archive.path.strip('/')}/source="
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def _part(self, name: str) -> bytes:
        body: bytes = self._s3.get_object(Bucket=self._archive.netloc, Key=name)["Body"].read()
        return body

    # -- the ledger, as `watch.LedgerObjects`

    def names(self) -> Iterator[str]:
        """Return the names of the ledger's objects."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", []):
                yield item["Key"].removeprefix(self._prefix)

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        content: bytes = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        return content


def deploy(site: Site, trails: Sequence[Trail], further: Mapping[str, str]) -> Deployment:
    """Deploy the real stack by `cdk deploy`.

    Parameters
    ----------
    site
        Where to.
    trails
        The trails.
    further
        Further settings of the app.

    Raises
    ------
    DemoError
        If that fails; the message holds the end of what the CDK CLI wrote.
    """
    with step("Making a VPC, two subnets and the secret with Kong's token"):
        ec2 = site.client("ec2")
        vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet_ids = [
            ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for index, zone in enumerate("ab")
        ]
        token_secret = site.client("secretsmanager").create_secret(
            Name="kong-admin-token", SecretString=site.kong_token
        )["ARN"]
    with step("cdk bootstrap"):
        # In another directory: bootstrapping needs neither the app nor its settings.
        _cdk(site, "bootstrap", "aws://000000000000/us-east-1", directory=site.directory)
    outputs = site.directory / "outputs.json"
    lake = site.lake
    # Only in the demo: the emulators' addresses, and the CA of the local cache's certificate.
    addresses: dict[str, str] = {}
    if site.cache is not None:
        addresses["SSL_CERT_FILE"] = str(site.cache.ca_pem_path)
    if lake is not None:
        addresses["AWS_ENDPOINT_URL_CLOUDTRAIL_DATA"] = lake.cloudtrail.url
    if site.logs is not None:
        addresses["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] = site.logs.emulator.url
    context = {
        "existing_vpc": vpc_id,
        "existing_subnet_ids": ",".join(subnet_ids),
        "destination": ",".join(dict.fromkeys(trail.destination for trail in trails)),
        "streams": ",".join(dict.fromkeys(trail.stream for trail in trails)),
        **({} if lake is None else {"channel_arn": lake.cloudtrail.channel_arn}),
        **({"archive_signing_key": "true"} if any(trail.destination == ARCHIVE for trail in trails) else {}),
        # The local CloudFormation does not know saved queries.
        **({} if site.logs is None else {"log_group_queries": "false"}),
        "aws_region": "us-east-1",
        "kong_admin_api": site.kong.url,
        "kong_superadmin": "true",
        "kong_admin_token_secret": token_secret,
        "kong_root_ca": str(site.kong.ca_pem_path),
        "lambda_env": json.dumps(addresses),
        **further,
    }
    with step("cdk deploy: synth, bundling of the function, CloudFormation"):
        arguments = [argument for name, value in context.items() for argument in ("-c", f"{name}={value}")]
        _cdk(site, "deploy", STACK, "--require-approval", "never", "--outputs-file", str(outputs), *arguments)
    values = json.loads(outputs.read_text())[STACK]
    deployment = Deployment(site, values["FunctionName"], values["LogGroupName"])
    if site.cache is not None:
        _let_function_into_cache(site, site.cache, deployment.environment)
    if site.logs is not None:
        site.logs.emulator.create_group(deployment.environment["LOG_GROUP"].partition(":log-group:")[2])
    return deployment


def _cdk(site: Site, *arguments: str, directory: Path = PROJECT_DIRECTORY) -> None:
    """Run the pinned CDK CLI, in a process group of its own so that nothing of it outlives the demo."""
    environment = os.environ | site.aws.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [str(PROJECT_DIRECTORY / "node_modules/.bin/cdk"), *arguments, "--ci", "--no-color"]
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=CDK_TIMEOUT_SECONDS)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        raise DemoError(f"`cdk {arguments[0]}` ended with status {process.returncode}:\n{output[-4000:]}")


def _schedule_targets(site: Site, function_name: str) -> dict[Trail, dict[str, Any]]:
    """Return the target of each trail's schedule."""
    scheduler = site.client("scheduler")
    targets = [
        scheduler.get_schedule(Name=summary["Name"])["Target"]
        for summary in scheduler.list_schedules()["Schedules"]
        if summary["Target"]["Arn"].endswith(f":{function_name}")
    ]
    if not targets:
        raise DemoError(f"No schedule has {function_name} as its target.")
    events = [json.loads(target["Input"]) for target in targets]
    return {Trail(event["stream"], event["destination"]): target for event, target in zip(events, targets, strict=True)}


def _let_function_into_cache(site: Site, cache: CachePart, variables: Mapping[str, str]) -> None:
    """Create the stack's cache user in the local Valkey, as ElastiCache would do by itself."""
    with cache.valkey.client() as client:
        if "REDIS_IAM_CACHE" in variables:
            (user,) = site.client("elasticache").describe_users(UserId=variables["REDIS_USERNAME"])["Users"]
            # With exactly the rights that the stack gives it. Only AWS could check the token that the function signs.
            client.execute_command("ACL", "SETUSER", user["UserName"], "nopass", *user["AccessString"].split())
        else:
            secret = site.client("secretsmanager").get_secret_value(SecretId=variables["REDIS_PASSWORD_SECRET"])
            client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=[f"+{secret['SecretString']}"])
