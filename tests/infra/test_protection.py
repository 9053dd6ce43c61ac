"""Nothing secret leaves, and the other tests are awake: each protection that is taken out is noticed by one of them."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infra.synthesis import (
    SHAPES,
    Shaped,
    Synthesis,
    resource_statements,
    statements,
    synthesise_shape,
)
from tests.infra.test_policies import (
    LEAVE_QUARANTINE,
    LEDGER_POLICY,
    QUEUE_POLICY,
    REVIEWED,
    USE_LEDGER,
    ledger_below,
    named,
)
from tests.infra.test_template import CHECKS, NAME, REQUIRED, value_at

PLANTED = "planted-Secret-4711"

CACHE = "AWS::ElastiCache::ReplicationGroup"
BUCKET = "AWS::S3::Bucket"
QUEUE = "AWS::SQS::Queue"
FUNCTION = "AWS::Lambda::Function"
INVOKE = "AWS::Lambda::EventInvokeConfig"
SCHEDULE = "AWS::Scheduler::Schedule"


# -- secrets


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_is_in_anything_that_synthesis_writes(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wherever a value could be picked up from: the environment of the process, and the folder that it runs in.
    for name in ("KONG_ADMIN_TOKEN", "REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, PLANTED)
    (tmp_path / ".env").write_text(f"KONG_ADMIN_TOKEN={PLANTED}\n")
    (tmp_path / "cdk.context.json").write_text(json.dumps({"kong_admin_token": PLANTED}))
    monkeypatch.chdir(tmp_path)
    synthesise_shape(tmp_path / "cdk.out", shape)
    written = [file for file in (tmp_path / "cdk.out").rglob("*") if file.is_file()]
    assert any(file.name.endswith(".template.json") for file in written)
    assert [file.name for file in written if PLANTED in file.read_text("utf-8", "replace")] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_are_generated_or_empty_and_used_by_reference_alone(shaped: Shaped, shape: str) -> None:
    synthesis = shaped(shape)
    assert not any(
        "SecretString" in secret["Properties"] for secret in synthesis.of_type("AWS::SecretsManager::Secret")
    )
    references = re.findall(r"[^\"]*\{\{resolve:[^\"]*", json.dumps(synthesis.template))
    with_password = [*synthesis.of_type(CACHE), *synthesis.of_type("AWS::ElastiCache::User")]
    # In the cache's own property, and nowhere else: neither in an environment nor in an output.
    assert len(references) == len(re.findall(r"\{\{resolve:", json.dumps(with_password))) <= 1
    for function in synthesis.of_type(FUNCTION):
        variables = function["Properties"]["Environment"]["Variables"]
        assert not {"KONG_ADMIN_TOKEN", "REDIS_PASSWORD"} & variables.keys()


# -- mutations


def properties(synthesis: Synthesis, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = synthesis.only(kind)["Properties"]
    return found


def collector_statements(synthesis: Synthesis) -> list[dict[str, Any]]:
    (policy,) = (
        policy["Properties"]
        for policy in synthesis.of_type("AWS::IAM::Policy")
        if "cloudtrail-data" in json.dumps(policy)
    )
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def statement_of(synthesis: Synthesis, action: str) -> dict[str, Any]:
    (found,) = (one for one in collector_statements(synthesis) if action in one["Action"])
    return found


MUTATIONS: dict[str, Callable[[Synthesis], Any]] = {
    "cache not encrypted at rest": lambda s: properties(s, CACHE).update(AtRestEncryptionEnabled=False),
    "cache not encrypted in transit": lambda s: properties(s, CACHE).update(TransitEncryptionEnabled=False),
    "cache lets plaintext in as well": lambda s: properties(s, CACHE).update(TransitEncryptionMode="preferred"),
    "cache lets anybody in": lambda s: properties(s, CACHE).pop("UserGroupIds"),
    "user of the cache needs no proof": lambda s: properties(s, "AWS::ElastiCache::User").update(
        AuthenticationMode={"Type": "no-password-required"}
    ),
    "user of the cache may do anything": lambda s: properties(s, "AWS::ElastiCache::User").update(
        AccessString="on ~* +@all"
    ),
    "cache evicts": lambda s: properties(s, "AWS::ElastiCache::ParameterGroup").update(
        Properties={"maxmemory-policy": "allkeys-lru"}
    ),
    "cache without failover": lambda s: properties(s, CACHE).update(AutomaticFailoverEnabled=False),
    "function speaks plaintext to the cache": lambda s: properties(s, FUNCTION)["Environment"]["Variables"].update(
        REDIS_TLS="false"
    ),
    "bucket not encrypted": lambda s: properties(s, BUCKET).update(
        BucketEncryption={"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {}}]}
    ),
    "bucket public": lambda s: properties(s, BUCKET)["PublicAccessBlockConfiguration"].update(BlockPublicPolicy=False),
    "bucket not versioned": lambda s: properties(s, BUCKET).update(VersioningConfiguration={}),
    "bucket goes with the stack": lambda s: s.only(BUCKET).update(DeletionPolicy="Delete"),
    "bucket takes plaintext": lambda s: properties(s, "AWS::S3::BucketPolicy")["PolicyDocument"].update(Statement=[]),
    "bucket takes old TLS": lambda s: properties(s, "AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"].pop(1),
    "queue not encrypted": lambda s: properties(s, QUEUE).pop("SqsManagedSseEnabled"),
    "queue takes plaintext": lambda s: properties(s, "AWS::SQS::QueuePolicy")["PolicyDocument"].update(Statement=[]),
    "failures are not kept": lambda s: properties(s, INVOKE).update(DestinationConfig={}),
    "missed ticks are not kept": lambda s: properties(s, SCHEDULE)["Target"].update(DeadLetterConfig={}),
    "failed runs pile up": lambda s: properties(s, INVOKE).update(MaximumRetryAttempts=2),
    "any channel": lambda s: statement_of(s, "cloudtrail-data:PutAuditEvents").update(Resource="*"),
    "any cache": lambda s: statement_of(s, "elasticache:Connect").update(Resource="*"),
    "any object": lambda s: statement_of(s, "s3:PutObject").update(Resource="*"),
    "objects can be deleted": lambda s: statement_of(s, "s3:PutObject")["Action"].append("s3:DeleteObject"),
    "any log": lambda s: statement_of(s, "logs:PutLogEvents").update(Resource="*"),
    "interfaces are not denied": lambda s: collector_statements(s).__delitem__(
        next(i for i, one in enumerate(collector_statements(s)) if one["Effect"] == "Deny")
    ),
    "one more statement": lambda s: collector_statements(s).append(
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    ),
    "logs go with the stack": lambda s: s.only("AWS::Logs::LogGroup").update(DeletionPolicy="Delete"),
    "logs are kept for ever": lambda s: properties(s, "AWS::Logs::LogGroup").pop("RetentionInDays"),
}


def complaints(synthesis: Synthesis) -> list[str]:
    """Return what the fine-grained tests have to say, without the snapshot."""
    found = []
    for kind, path, expected in REQUIRED:
        try:
            if value_at(synthesis, kind, path) != expected:
                found.append(f"{kind} {path}")
        except (AttributeError, IndexError, KeyError, TypeError):
            found.append(f"{kind} {path}")
    found += [name for name, (holds, _) in CHECKS.items() if not holds(synthesis)]
    if set(statements(synthesis)) != set(REVIEWED) - {USE_LEDGER, LEAVE_QUARANTINE} | set(ledger_below(NAME)):
        found.append("statements of roles")
    if named(resource_statements(synthesis)) != sorted([*LEDGER_POLICY, *QUEUE_POLICY]):
        found.append("statements of resources")
    return found


def test_nothing_to_complain_about(synthesis: Synthesis) -> None:
    assert complaints(synthesis) == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_protection_that_is_taken_out_is_noticed(synthesis: Synthesis, name: str) -> None:
    broken = Synthesis(synthesis.stack, copy.deepcopy(synthesis.template))
    MUTATIONS[name](broken)
    assert broken.template != synthesis.template
    assert complaints(broken) != []
