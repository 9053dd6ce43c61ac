"""The choices of cache, from the function's side: signing in by IAM, as a user with few rights, in cluster mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import kong_cloudtrail.handler as module
import pytest
import redis
from botocore.credentials import Credentials
from botocore.exceptions import CredentialRetrievalError
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import SecretUnavailable, SettingsError
from kong_cloudtrail.settings import Settings
from kong_cloudtrail.state.elasticache_iam import ElastiCacheIam

from sandbox.machinery.certificates import Certificates
from sandbox.machinery.processes import free_port
from sandbox.machinery.valkey import TlsProxy, Valkey
from stacks.parts.cache_access import ACCESS_STRING
from tests.conftest import Site
from tests.helpers import NOW, entry, wait_until
from tests.infra.synthesis import CHANNEL_ARN, SHAPES, Shaped, function_environment

USER = "kong-audit-user"
IAM = {
    "CHANNEL_ARN": CHANNEL_ARN,
    "REDIS_TLS": "true",
    "REDIS_USERNAME": USER,
    "REDIS_IAM_CACHE": "kong-audit-cache",
}


class ClusterValkey(Valkey):
    """A Valkey in cluster mode that owns every slot: how ElastiCache Serverless looks to a client."""

    def __init__(self) -> None:
        super().__init__()
        self._settings += ["cluster-enabled yes", f"cluster-port {free_port()}"]

    def start(self) -> None:
        super().start()
        with self.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: "cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))


@pytest.fixture(scope="module", params=[Valkey, ClusterValkey], ids=["replication group", "cluster mode"])
def caches(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[tuple[Valkey, TlsProxy]]:
    with request.param() as server, TlsProxy(target_port=server.port, certificates=certificates) as proxy:
        yield server, proxy


@pytest.fixture
def cache(caches: tuple[Valkey, TlsProxy]) -> tuple[Valkey, TlsProxy]:
    """A cache whose only user is the one that the stack creates. It takes any token, as nobody here can check one."""
    server, _ = caches
    server.flush()
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", USER, "reset", "nopass", *ACCESS_STRING.split())
        admin.execute_command("ACL", "LOG", "RESET")
    return caches


class Context:
    function_name = "collector"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:collector"
    aws_request_id = "52fdfc07-2182-154f-163f-5f0f9a621d72"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 300_000


@pytest.mark.usefixtures("bare_environment")
def test_runs_and_verbs_need_no_more_rights_than_the_users(
    cache: tuple[Valkey, TlsProxy], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = cache
    changes = {
        **IAM,
        "CHANNEL_ARN": site.environment["CHANNEL_ARN"],
        "REDIS_HOST": f"localhost:{proxy.port}",
        "REDIS_PASSWORD": "",
        "SSL_CERT_FILE": str(proxy.ca_pem_path),
    }
    for name, value in {**site.environment, **changes}.items():
        monkeypatch.setenv(name, value)
    site.kong.set_clock(frozen_at=NOW)
    site.kong.add_entries([entry(number, request_timestamp=NOW - 60 - 40 * number) for number in range(250)])
    invocations: list[Any] = [{"execution_id": "tick-1"}, {"execution_id": "tick-1"}, {"execution_id": "tick-2"}, {}]
    bounds = {"after": utc(NOW - 7200), "before": utc(NOW - 3600)}
    verbs: list[Any] = [{"verb": "preview"}, {"verb": "backfill", **bounds}]
    module.assembly.cache_clear()
    try:
        reports = [module.handler(event, Context()) for event in invocations]  # type: ignore[arg-type]
        answers = [module.handler(event, Context()) for event in verbs]  # type: ignore[arg-type]
    finally:
        module.assembly().close()
        module.assembly.cache_clear()

    assert [report["delivered"] for report in reports] == [250, 250, 0, 0]
    assert reports[1]["repeated"], "the same tick twice is processed once"
    preview, backfill = (answer["document"] for answer in answers)
    assert (preview["trails"][0]["found"], backfill["finished"]) == (0, True)
    with server.client() as admin:
        refused = admin.execute_command("ACL", "LOG")
        assert refused == [], "the client asked for more than the user may do"
        assert all(key.startswith("kong-cloudtrail:{kong-eu/requests/cloudtrail-lake}") for key in admin.scan_iter())


@pytest.mark.parametrize(
    "command",
    [("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("GET", "other"), ("ACL", "LIST"), ("SCRIPT", "FLUSH")],
    ids=" ".join,
)
def test_the_user_may_do_nothing_else(cache: tuple[Valkey, TlsProxy], command: tuple[str, ...]) -> None:
    server, _ = cache
    with redis.Redis(port=server.port, username=USER, password="any") as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("serverless", [False, True])
def test_a_token_is_signed_for_this_cache_and_user_and_for_a_quarter_of_an_hour(serverless: bool) -> None:
    provider = ElastiCacheIam(USER, "kong-audit-cache", "eu-central-1", serverless=serverless)

    user, token = provider.get_credentials()

    assert user == USER
    assert not token.startswith("http")
    parts = urlsplit(f"http://{token}")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (parts.hostname, parts.path) == ("kong-audit-cache", "/")
    assert (query["Action"], query["User"], query["X-Amz-Expires"]) == ("connect", USER, "900")
    assert query["X-Amz-Credential"].startswith("local/")
    assert query["X-Amz-Credential"].endswith("/eu-central-1/elasticache/aws4_request")
    assert len(query["X-Amz-Signature"]) == 64
    # A token for the one kind of cache is refused by the other.
    assert query.get("ResourceType") == ("ServerlessCache" if serverless else None)


@pytest.mark.usefixtures("aws_credentials")
def test_credentials_are_asked_for_at_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = ElastiCacheIam(USER, "cache", "eu-central-1", serverless=False)
    given = iter(["first", "second"])
    session = boto3.Session

    def credentials(self: Any) -> Any:
        return session(aws_access_key_id=next(given), aws_secret_access_key="s")._session.get_credentials()

    monkeypatch.setattr(boto3.Session, "get_credentials", credentials)

    assert "Credential=first" in provider.get_credentials()[1]
    assert "Credential=second" in provider.get_credentials()[1]


@pytest.mark.usefixtures("bare_environment")
def test_without_credentials_the_advice_is_to_give_some() -> None:
    with pytest.raises(SecretUnavailable, match="Give the process a role, or use a password"):
        ElastiCacheIam(USER, "cache", "eu-central-1", serverless=False).get_credentials()


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("where", ["get_credentials", "get_frozen_credentials"])
def test_credentials_that_cannot_be_fetched_are_a_failure_that_says_so(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(self: Any) -> None:
        raise CredentialRetrievalError(provider="container-role", error_msg="planted")

    monkeypatch.setattr(boto3.Session if where == "get_credentials" else Credentials, where, fail)

    with pytest.raises(SecretUnavailable, match="could not be fetched") as unavailable:
        ElastiCacheIam(USER, "cache", "eu-central-1", serverless=False).get_credentials()

    assert "planted" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"REDIS_USERNAME": ""}, "needs REDIS_USERNAME"),
        ({"REDIS_TLS": "false"}, "REDIS_TLS=true"),
        ({"REDIS_PASSWORD": "planted"}, "signs in without a password"),
        ({"REDIS_PASSWORD_SECRET": "name"}, "signs in without a password"),
        ({"REDIS_IAM_CACHE": "https://planted"}, "REDIS_IAM_CACHE: "),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, str], problem: str) -> None:
    Settings.from_mapping(IAM)
    with pytest.raises(SettingsError, match=problem) as raised:
        Settings.from_mapping({**IAM, **changes})
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "imported"])
def test_the_function_understands_the_environment_of_every_shape(shaped: Shaped, shape: str) -> None:
    environment = function_environment(shaped(shape))
    settings = Settings.from_mapping(environment)

    if "REDIS_HOST" not in environment:
        assert settings.destinations == ("archive",)
        return
    assert settings.redis_tls
    assert settings.redis_serverless == (shape == "serverless")
    assert (settings.redis_iam_cache is None) == ("password" in shape)
    assert (settings.redis_password_secret is not None) == ("password" in shape)
    assert (settings.redis_username is None) == (shape == "password")
