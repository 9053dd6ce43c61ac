"""The main job on one machine: deploy the real stack to a local AWS, and watch audit entries arrive in CloudTrail.

``make demo`` runs it. Nothing is pretended but the three things that nobody can run at home: Kong Gateway Enterprise,
CloudTrail Lake and AWS's control plane. The stack is deployed by ``cdk deploy``, the function is the bundled one, the
cache is a real Valkey behind TLS, and every address is on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from sandbox.certificates import Certificates
from sandbox.cloudtrail import CloudTrailEmulator
from sandbox.cloudtrail_records import AcceptedEvent
from sandbox.control import ControlServer
from sandbox.kong import KongSimulator
from sandbox.local_aws import LocalAws
from sandbox.processes import PROJECT_DIRECTORY
from sandbox.valkey import TlsProxy, Valkey

STACK = "KongCloudTrailIntegration"
HISTORY_ENTRIES = 250
HISTORY_DAYS = 7
SHOWN_EVENTS = 12
CDK_TIMEOUT_SECONDS = 300

# On a terminal as wide as it is; in a pipe or a file, wide enough for the tables.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class DemoError(Exception):
    """Something did not come out as it has to; the message says what."""


@dataclass(frozen=True)
class Sandbox:
    """Everything that runs for the demo."""

    kong: KongSimulator
    kong_token: str
    alice_token: str
    cloudtrail: CloudTrailEmulator
    valkey: Valkey
    cache: TlsProxy
    aws: LocalAws
    directory: Path

    def client(self, service: str) -> Any:
        """Return a boto3 client of the local AWS."""
        session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        config = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 1})
        return session.client(service, endpoint_url=self.aws.url, config=config)


def main() -> int:
    """Run the demo; return 0 only if both sides agree."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, until Ctrl-C")
    keep = parser.parse_args().keep
    # A terminated demo leaves its `with` blocks as an interrupted one does, and so stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        with _sandbox() as sandbox:
            deployment = _deploy(sandbox)
            _prove(sandbox, deployment)
            console.print(f"\n[bold green]All of it is right.[/] {time.monotonic() - started:.0f} s in all.")
            if keep:
                _wait_for_visitors(sandbox, deployment)
    except DemoError as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is stopped.")
        return 130
    return 0


# -- the machine room


@contextmanager
def _sandbox() -> Iterator[Sandbox]:
    """Start everything; stop it all at the end, whatever happens."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kong-cloudtrail-demo-")))
        kong_token, alice_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        with _step("Starting Kong's Admin API (simulated; HTTPS with a private CA, RBAC token)"):
            certificates = Certificates(directory / "kong-ca")
            # As recommended for production, the collector's own reads are kept out of the audit log.
            kong = stack.enter_context(
                KongSimulator(version="3.10", token=kong_token, certificates=certificates, self_audit=False)
            )
            kong.add_user("alice", alice_token)
        with _step("Starting CloudTrail's data plane (emulated; as strict as the documented limits)"):
            cloudtrail = stack.enter_context(CloudTrailEmulator())
        with _step("Starting Valkey (real), and TLS in front of it"):
            valkey = stack.enter_context(Valkey(password=secrets.token_urlsafe(24)))
            cache = stack.enter_context(
                TlsProxy(target_port=valkey.port, certificates=Certificates(directory / "cache-ca"))
            )
        with _step("Starting the rest of AWS (ministack)"):
            aws = stack.enter_context(
                LocalAws(redis_host=cache.host, redis_port=cache.port, log_path=directory / "ministack.log")
            )
        yield Sandbox(kong, kong_token, alice_token, cloudtrail, valkey, cache, aws, directory)
        console.print("Stopping everything.")


@contextmanager
def _step(title: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{title} ..."):
        yield
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")


# -- the deployment


@dataclass(frozen=True)
class Deployment:
    """What `cdk deploy` made."""

    function_name: str
    cache_endpoint: str
    log_group_name: str
    schedule_name: str


def _deploy(sandbox: Sandbox) -> Deployment:
    with _step("Making a VPC, two subnets and the secret with Kong's token"):
        ec2 = sandbox.client("ec2")
        vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet_ids = [
            ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for index, zone in enumerate("ab")
        ]
        token_secret = sandbox.client("secretsmanager").create_secret(
            Name="kong-admin-token", SecretString=sandbox.kong_token
        )["ARN"]
    with _step("cdk bootstrap"):
        # Away from the app, which needs no settings to be bootstrapped for.
        _cdk(sandbox, "bootstrap", "aws://000000000000/us-east-1", directory=sandbox.directory)
    outputs = sandbox.directory / "outputs.json"
    context = {
        "existing_vpc": vpc_id,
        "existing_subnet_ids": ",".join(subnet_ids),
        "channel_arn": sandbox.cloudtrail.channel_arn,
        "kong_admin_api": sandbox.kong.url,
        "kong_superadmin": "true",
        "kong_admin_token_secret": token_secret,
        "kong_root_ca": str(sandbox.kong.ca_pem_path),
        # Only here: where the emulator is, and whose certificate the local cache shows.
        "lambda_env": json.dumps(
            {
                "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": sandbox.cloudtrail.url,
                "SSL_CERT_FILE": str(sandbox.cache.ca_pem_path),
            }
        ),
    }
    with _step("cdk deploy: synth, bundling of the function, CloudFormation"):
        arguments = [argument for name, value in context.items() for argument in ("-c", f"{name}={value}")]
        _cdk(sandbox, "deploy", STACK, "--require-approval", "never", "--outputs-file", str(outputs), *arguments)
    values = json.loads(outputs.read_text())[STACK]
    schedule_name = _schedule_of(sandbox, values["FunctionName"])
    _let_function_into_cache(sandbox, values["FunctionName"])
    return Deployment(values["FunctionName"], values["CacheEndpoint"], values["LogGroupName"], schedule_name)


def _cdk(sandbox: Sandbox, *arguments: str, directory: Path = PROJECT_DIRECTORY) -> None:
    """Run the pinned CDK CLI, in a process group of its own so that nothing of it outlives the demo."""
    environment = os.environ | sandbox.aws.environment()
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


def _schedule_of(sandbox: Sandbox, function_name: str) -> str:
    scheduler = sandbox.client("scheduler")
    for summary in scheduler.list_schedules()["Schedules"]:
        if summary["Target"]["Arn"].endswith(f":{function_name}"):
            return str(summary["Name"])
    raise DemoError(f"No schedule has {function_name} as its target.")


def _let_function_into_cache(sandbox: Sandbox, function_name: str) -> None:
    """Let the local Valkey admit whom the stack lets in: ElastiCache would have done so by itself."""
    function = sandbox.client("lambda").get_function_configuration(FunctionName=function_name)
    variables = function["Environment"]["Variables"]
    with sandbox.valkey.client() as client:
        if "REDIS_IAM_CACHE" in variables:
            (user,) = sandbox.client("elasticache").describe_users(UserId=variables["REDIS_USERNAME"])["Users"]
            # With just the rights that the stack gives it. The token that the function signs only AWS could check.
            client.execute_command("ACL", "SETUSER", user["UserName"], "nopass", *user["AccessString"].split())
        else:
            secret = sandbox.client("secretsmanager").get_secret_value(SecretId=variables["REDIS_PASSWORD_SECRET"])
            client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=[f"+{secret['SecretString']}"])


# -- the proof


def _prove(sandbox: Sandbox, deployment: Deployment) -> None:
    now = int(time.time())
    sandbox.kong.seed_entries(
        HISTORY_ENTRIES, seed=1, first_timestamp=now - HISTORY_DAYS * 86_400, last_timestamp=now - 60
    )
    _use_admin_api(sandbox, ["services/billing", "services/search", "consumers/mobile-app"])
    console.print(
        f"\nKong holds {HISTORY_ENTRIES} audit entries of the last {HISTORY_DAYS} days; alice just made three more."
    )

    expected = len(_ids_at_kong(sandbox))
    first = _tick(sandbox, deployment, "First run")
    _expect("the first run delivers everything", expected, first["delivered"])
    _show_events(sandbox)

    second = _tick(sandbox, deployment, "Second run")
    _expect("the second run delivers nothing", 0, second["delivered"])

    _use_admin_api(sandbox, ["services/billing", "plugins/rate-limiting"])
    third = _tick(sandbox, deployment, "Third run, after alice made two calls more")
    _expect("the third run delivers the two new ones", 2, third["delivered"])

    at_kong, at_cloudtrail = _ids_at_kong(sandbox), sandbox.cloudtrail.accepted_uids()
    _expect("no entry was delivered twice", len(set(at_cloudtrail)), len(at_cloudtrail))
    if at_kong != set(at_cloudtrail):
        raise DemoError(f"Kong and CloudTrail differ in {len(at_kong ^ set(at_cloudtrail))} entries.")
    table = Table("", "entries", title="Counted on both sides", title_justify="left")
    table.add_row("Kong's audit log, read page by page", str(len(at_kong)))
    table.add_row("CloudTrail, events accepted", str(len(at_cloudtrail)))
    table.add_row("in both, by request id", str(len(at_kong & set(at_cloudtrail))))
    console.print()
    console.print(table)


def _use_admin_api(sandbox: Sandbox, objects: list[str]) -> None:
    for path in objects:
        kind, _, name = path.partition("/")
        response = requests.post(
            f"{sandbox.kong.url}/{kind}",
            json={"name": name, "tags": ["demo"]},
            headers={"Kong-Admin-Token": sandbox.alice_token},
            verify=str(sandbox.kong.ca_pem_path),
            timeout=10,
        )
        response.raise_for_status()


def _ids_at_kong(sandbox: Sandbox) -> set[str]:
    """Read the audit log as an auditor would who trusts nobody: page by page, with another client than the function."""
    ids: set[str] = set()
    parameters: dict[str, str] = {"size": "100"}
    while True:
        response = requests.get(
            f"{sandbox.kong.url}/audit/requests",
            params=parameters,
            headers={"Kong-Admin-Token": sandbox.kong_token},
            verify=str(sandbox.kong.ca_pem_path),
            timeout=10,
        )
        response.raise_for_status()
        page = response.json()
        ids.update(entry["request_id"] for entry in page["data"])
        if "offset" not in page:
            return ids
        parameters["offset"] = page["offset"]


def _tick(sandbox: Sandbox, deployment: Deployment, title: str) -> dict[str, Any]:
    """Invoke the function as its schedule would: the same target, the same payload."""
    target = sandbox.client("scheduler").get_schedule(Name=deployment.schedule_name)["Target"]
    payload = (
        target["Input"]
        .replace("<aws.scheduler.execution-id>", str(uuid.uuid4()))
        .replace("<aws.scheduler.scheduled-time>", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    )
    with _step(title):
        answer = sandbox.client("lambda").invoke(FunctionName=target["Arn"], Payload=payload.encode())
        result: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise DemoError(f"The function failed: {result.get('errorMessage', result)}")
    console.print(
        f"  fetched {result['fetched']}, known {result['duplicates']}, delivered [bold]{result['delivered']}[/], "
        f"failed {result['failed']} [dim]({result['run_seconds']} s in the function)[/]"
    )
    return result


def _expect(what: str, expected: int, actual: int) -> None:
    if actual != expected:
        raise DemoError(f"expected that {what}: {expected} expected, {actual} seen.")
    console.print(f"  [green]✓[/] {what}: {actual}")


def _show_events(sandbox: Sandbox) -> None:
    events = sorted(
        (accepted.event for accepted in sandbox.cloudtrail.accepted()), key=lambda event: event["eventTime"]
    )
    table = Table(title=f"The newest {SHOWN_EVENTS} events in CloudTrail", title_justify="left")
    for column in ("eventTime", "eventName", "user", "sourceIPAddress", "status"):
        table.add_column(column, no_wrap=True)
    for event in events[-SHOWN_EVENTS:]:
        identity = event["userIdentity"]
        table.add_row(
            event["eventTime"],
            event["eventName"][:44],
            identity.get("details", {}).get("userName") or identity["principalId"][:24],
            event.get("sourceIPAddress", "-"),
            str(event["additionalEventData"].get("status", "-")),
        )
    console.print()
    console.print(table)
    console.print()


# -- KEEP=1


def _wait_for_visitors(sandbox: Sandbox, deployment: Deployment) -> None:
    table = Table("what", "where", title="Still running, until Ctrl-C", title_justify="left", show_lines=False)
    token_file = sandbox.directory / "kong-token.txt"
    token_file.write_text(sandbox.kong_token)
    token_file.chmod(0o600)
    kong = f'curl -s --cacert {sandbox.kong.ca_pem_path} -H "Kong-Admin-Token: $(cat {token_file})"'
    aws = " ".join(f"{name}={value}" for name, value in sandbox.aws.environment().items() if name.startswith("AWS_"))
    table.add_row("Kong's Admin API", sandbox.kong.url)
    table.add_row("CloudTrail's data plane", sandbox.cloudtrail.url)
    table.add_row("the cache, TLS", f"{sandbox.cache.host}:{sandbox.cache.port}")
    table.add_row("the local AWS", sandbox.aws.url)
    console.print()
    console.print(table)
    control = ControlServer(sandbox.cloudtrail, (AcceptedEvent,))
    lines = [
        "# an Admin API call to be audited, and the audit log",
        f"{kong} {sandbox.kong.url}/services -d name=mine",
        f"{kong} '{sandbox.kong.url}/audit/requests?size=3'",
        "# what CloudTrail accepted",
        f"curl -s -X POST {control.url}accepted",
        "# the AWS CLI; then run the function once more, and look at its logs",
        f"export {aws}",
        f"aws lambda invoke --function-name {deployment.function_name} /dev/stdout",
        f"aws logs filter-log-events --output text --log-group-name {deployment.log_group_name}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    control.start()
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print()
    finally:
        control.stop()


if __name__ == "__main__":
    sys.exit(main())
