"""Servers and templates that several tests share.

They are made once in each process that runs tests. What one test leaves in a server is gone before the next; nobody
changes a template.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
import pytest
from botocore.loaders import Loader
from hypothesis import settings

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.cloudwatch_logs.emulator import LogsEmulator
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.valkey import TlsProxy, Valkey

if TYPE_CHECKING:
    from tests.infra.synthesis import Shaped, Synthesis

# What is compiled once is not compiled again, by this process or by one that a test starts: to compile the CDK takes
# seconds, each time. Some machines (containers, often) tell Python to keep nothing.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Before anybody imports the CDK, whose kernel starts then; also for the apps that tests start.
os.environ.setdefault("JSII_NODE", str(Path(__file__).with_name("node")))

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

CACHE_USERNAME = "collector"
CACHE_PASSWORD = "cache password/+\"'%&"
KONG_TOKEN = 't0ken-of/the+"collector"'


@pytest.fixture(scope="session", autouse=True)
def descriptions_of_services() -> Iterator[None]:
    """What botocore knows about AWS is read once, and not for each session: that takes a fifth of a second."""
    make = cache(botocore.session.create_loader)

    def shared_loader(data_path: str | None = None) -> Loader:
        loader = make(data_path)
        loader.search_paths[:] = dict.fromkeys(loader.search_paths)  # each session of boto3 appends a place of its own
        return loader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", shared_loader)
        yield


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A private CA, and certificates of it for localhost."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with Valkey(username=CACHE_USERNAME, password=CACHE_PASSWORD) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """A real Valkey with an ACL user and a password, running and empty."""
    valkey_server.start()
    valkey_server.flush()
    return valkey_server


@pytest.fixture(scope="session")
def valkey_tls(valkey_server: Valkey, certificates: Certificates) -> Iterator[TlsProxy]:
    """The TLS in front of `valkey`."""
    with TlsProxy(target_port=valkey_server.port, certificates=certificates) as proxy:
        yield proxy


@pytest.fixture
def cloudtrail() -> Iterator[CloudTrailEmulator]:
    """A CloudTrail that accepts what the documented limits allow."""
    with CloudTrailEmulator() as emulator:
        yield emulator


@pytest.fixture
def logs() -> Iterator[LogsEmulator]:
    """A CloudWatch Logs with one log group, which keeps events for ever."""
    with LogsEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def local_aws() -> Iterator[LocalAws]:
    """S3, Secrets Manager and the like."""
    with LocalAws() as aws:
        yield aws


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own settings: no profile, no proxy, no CA bundle, none of our variables."""
    kept = {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH"}
    for name in set(os.environ) - kept:
        if name.startswith(("AWS_", "KONG_", "REDIS_", "POWERTOOLS_", "LOG_LEVEL", "LEDGER", "CHANNEL_ARN")) or (
            name.upper() in {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
            or name in {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers credentials


@pytest.fixture
def aws_credentials(bare_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that only the emulators take, on a machine without settings of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@dataclass
class Site:
    """Everything that a run needs, as it is in production: TLS with private CAs, a token, a user of the cache."""

    kong: KongSimulator
    cloudtrail: CloudTrailEmulator
    valkey: Valkey
    ledger: Path
    environment: dict[str, str]


@pytest.fixture
def site(
    certificates: Certificates,
    valkey: Valkey,
    valkey_tls: TlsProxy,
    cloudtrail: CloudTrailEmulator,
    tmp_path: Path,
) -> Iterator[Site]:
    with KongSimulator(certificates=certificates, base_path="/kong", token=KONG_TOKEN) as kong:
        environment = {
            "KONG_ADMIN_API": kong.url,
            "KONG_SUPERADMIN": "true",
            "KONG_ADMIN_TOKEN": KONG_TOKEN,
            "KONG_ROOT_CA": str(kong.ca_pem_path),
            "CHANNEL_ARN": cloudtrail.channel_arn,
            "REDIS_HOST": f"localhost:{valkey_tls.port}",
            "REDIS_TLS": "true",
            "REDIS_USERNAME": CACHE_USERNAME,
            "REDIS_PASSWORD": CACHE_PASSWORD,
            "SSL_CERT_FILE": str(valkey_tls.ca_pem_path),
            "SOURCE_NAME": "kong-eu",
            "LEDGER": str(tmp_path / "ledger"),
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": cloudtrail.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield Site(kong, cloudtrail, valkey, tmp_path / "ledger", environment)


# The CDK is imported by those who ask for a template: its kernel takes seconds to start, and 300 MB.


@pytest.fixture(scope="session")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Shaped:
    """Somebody else's app, with the construct in one of the shapes that it can take."""
    from tests.infra.synthesis import synthesise_shape

    return cache(lambda shape: synthesise_shape(tmp_path_factory.mktemp("shape"), shape))


@pytest.fixture(scope="session")
def synthesis(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """The stack from nothing but the required settings."""
    from tests.infra.synthesis import synthesise

    return synthesise(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def with_new_token(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """The stack that creates the secret for Kong's token."""
    from tests.infra.synthesis import synthesise

    return synthesise(tmp_path_factory.mktemp("token"), kong_superadmin="true")
