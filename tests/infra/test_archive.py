"""The archive: its bucket and policy, who may do what, the choice of a destination, and what comes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Duration, Environment, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk.assertions import Annotations, Match

from stacks import Archive, CacheOptions, CloudTrailLake, FunctionOptions, LedgerOptions, NetworkOptions, SettingsError
from stacks.settings.groups import Destination
from stacks.settings.resolved import DeploymentSettings
from tests.infra.synthesis import (
    CHANNEL_ARN,
    CONTEXT,
    KEY_ARN,
    SUBNET_IDS,
    VPC_ID,
    Shaped,
    Synthesis,
    foreign_stack,
    function_environment,
    integrate,
    resource_statements,
    statements,
    synthesise,
    template_of,
)

BUCKET, POLICY, KEY = "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::KMS::Key"
SCHEDULE, CACHE = "AWS::Scheduler::Schedule", "AWS::ElastiCache::ReplicationGroup"
OBJECTS = "<AWS::S3::Bucket.Arn>/archive/*"
OWN_FOLDER = "<AWS::S3::Bucket.Arn>/archive/source=kong/*"

ALONE = {**{name: value for name, value in CONTEXT.items() if name != "channel_arn"}, "aws_region": "eu-central-1"}
"""The example context without a destination."""


def build(tmp_path: Path, *destinations: Any, **properties: Any) -> Synthesis:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, destinations=list(destinations), **properties)
    return template_of(app, stack)


def archive_bucket(synthesis: Synthesis) -> dict[str, Any]:
    """Return the bucket of the archive: the one with Object Lock."""
    (found,) = (bucket for bucket in synthesis.of_type(BUCKET) if "ObjectLockEnabled" in bucket["Properties"])
    return found


def warnings(stack: Stack, pattern: str) -> list[str]:
    found = Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp(pattern))
    return [str(one.entry.data) for one in found]


# -- the choice


def problems(context: Mapping[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        DeploymentSettings.from_context(context)
    return list(raised.value.problems)


def test_without_a_word_about_it_the_choice_is_explained() -> None:
    (problem,) = problems(ALONE)
    assert problem.startswith("destination: is missing; say where the audit trail is to be kept.")
    for part in (
        "in any account and region",
        "only to accounts that used it before 2026-05-31",
        "archive,cloudwatch-logs",
    ):
        assert part in problem


def test_the_construct_explains_the_same_choice(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"  - destinations: is missing; say where .* before 2026-05-31"):
        build(tmp_path)


def test_a_channel_alone_stands_for_cloudtrail_lake() -> None:
    assert DeploymentSettings.from_context(CONTEXT).destinations == ("cloudtrail-lake",)
    in_lambda_env = {**ALONE, "lambda_env": {"CHANNEL_ARN": CHANNEL_ARN}}
    assert DeploymentSettings.from_context(in_lambda_env).destinations == ("cloudtrail-lake",)


@pytest.mark.parametrize(
    ("given", "destinations"),
    [
        ("archive", ("archive",)),
        ("cloudtrail-lake", ("cloudtrail-lake",)),
        (" cloudtrail-lake , ARCHIVE ", ("archive", "cloudtrail-lake")),
        ("archive,", ("archive",)),
    ],
)
def test_destinations_by_context(given: str, destinations: tuple[str, ...]) -> None:
    channel = {} if "lake" not in given else {"channel_arn": CHANNEL_ARN}
    for context in ({"destination": given}, {"lambda_env": {"DESTINATION": given}}):
        assert DeploymentSettings.from_context({**ALONE, **channel, **context}).destinations == destinations


def test_destinations_as_a_list_in_cdk_json() -> None:
    context = {**ALONE, "channel_arn": CHANNEL_ARN, "destination": ["archive", "cloudtrail-lake"]}
    assert DeploymentSettings.from_context(context).destinations == ("archive", "cloudtrail-lake")


def test_nothing_is_remarked_about_a_key_that_is_asked_for() -> None:
    context = {**ALONE, "destination": "archive", "archive_signing_key": "true"}
    assert DeploymentSettings.from_context(context).notes == ()


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"destination": "s3"}, "destination: "),
        ({"destination": "archive", "channel_arn": CHANNEL_ARN}, "channel_arn: is given, and destination leaves"),
        ({"destination": "archive", "external_id": "kong"}, "external_id: is given, and destination leaves"),
        ({"destination": "archive,cloudtrail-lake"}, "channel_arn: is missing; give the ARN of the CloudTrail Lake"),
        ({"destination": "cloudtrail-lake"}, "channel_arn: is missing; give the ARN of the CloudTrail Lake"),
        ({"destination": "archive", "aws_region": None}, "aws_region: is missing"),
        (
            {"destination": "archive", "archive_lock": "legal"},
            "archive_lock: must be one of governance, compliance, none",
        ),
        (
            {"destination": "archive", "archive_retention_days": 0},
            "archive_retention_days: must be a whole number from 1",
        ),
        ({"destination": "archive", "archive_retention_days": "1y"}, "archive_retention_days: must be a whole number"),
        (
            {"destination": "archive", "archive_lock": "none", "archive_retention_days": 30},
            "archive_retention_days: is given, and archive_lock is none",
        ),
        ({"destination": "archive", "archive_format": "parquet"}, "archive_format: must be json or ocsf"),
        ({"destination": "archive", "archive_bucket": "Theirs!"}, "archive_bucket: must be the name of a bucket"),
        (
            {"destination": "archive", "archive_bucket": "theirs", "archive_lock": "governance"},
            "archive_bucket: is given, and with it archive_lock for a new one",
        ),
        ({"destination": "archive", "archive_prefix": "/kong/"}, "archive_prefix: must be letters, digits"),
        ({"destination": "archive", "archive_prefix": "kong*"}, "archive_prefix: must be letters, digits"),
        (
            {"destination": "archive", "existing_subnet_ids": ""},
            "existing_subnet_ids: is missing; give the ids of at least one",
        ),
        ({"destination": ["archive", 1]}, "destination: must be text"),
        ({"destination": "archive", "archive_glacier_ir_after_days": -1}, "archive_glacier_ir_after_days: must be"),
        (
            {"destination": "archive", "archive_scan_limit_gib": 0},
            "archive_scan_limit_gib: must be a whole number from 1",
        ),
        (
            {"destination": "archive", "archive_queries": False, "archive_scan_limit_gib": 5},
            "archive_scan_limit_gib: is given, and there are no queries",
        ),
        ({"destination": "archive", "archive_queries": "maybe"}, "archive_queries: must be true or false"),
        (
            {"destination": "archive", "archive_signing_key": "alias/kong"},
            "archive_signing_key: must be true, for a new",
        ),
        (
            {"destination": "archive", "archive_signing_key": KEY_ARN.replace("key/", "alias/")},
            "archive_signing_key: is an alias",
        ),
        (
            {"destination": "archive", "archive_signing_key": KEY_ARN.replace("eu-central-1", "us-east-1")},
            "archive_signing_key: is in another region than the stack",
        ),
        (
            {"channel_arn": CHANNEL_ARN, "archive_lock": "none"},
            "archive_lock: is given, and destination names no archive",
        ),
        ({"channel_arn": CHANNEL_ARN, "archive_format": "ocsf"}, "archive_format: is given, and destination names no"),
    ],
)
def test_one_problem_of_context(context: dict[str, Any], expected: str) -> None:
    (problem,) = problems({**ALONE, **context})
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"destinations": [Archive(), Archive()]}, "destinations: has archive twice"),
        ({"destinations": [Archive(), "cloudtrail-lake"]}, "destinations: must be a list of Archive"),
        ({"destinations": [Archive()], "channel_arn": CHANNEL_ARN}, "channel_arn: is short for destinations="),
        ({"destinations": [Destination()]}, "destinations: must be a list of Archive"),
        ({"destinations": [Archive(prefix="kong*")]}, "Archive.prefix: must be letters, digits"),
        (
            {"destinations": [Archive(signing_key=KEY_ARN.replace("eu-central-1", "us-east-1"))]},
            "Archive.signing_key: is in another region than the stack; give a key in eu-central-1",
        ),
        ({"destinations": [CloudTrailLake()]}, "CloudTrailLake.channel_arn: is missing"),
        ({"destinations": [Archive(lock="glue")]}, "Archive.lock: must be one of governance, compliance, none"),
        ({"destinations": [Archive(format="csv")]}, "Archive.format: must be json or ocsf"),
        (
            {"destinations": [Archive(retention=Duration.hours(30))]},
            "Archive.retention: must be a Duration of whole days",
        ),
        (
            {"destinations": [Archive(lock="none", retention=Duration.days(1))]},
            "Archive.retention: is given, and lock is none",
        ),
        (
            {"destinations": [Archive(existing_bucket="theirs", lock="none", glacier_ir_after=Duration.days(1))]},
            "Archive: existing_bucket is given, and with it lock, glacier_ir_after for a new one",
        ),
        (
            {"destinations": [Archive(queries=False, scan_limit_gib=1)]},
            "Archive.scan_limit_gib: is given, and there are no queries",
        ),
        ({"destinations": [Archive(signing_key="kong")]}, "Archive.signing_key: must be an asymmetric key"),
        (
            {
                "destinations": [Archive()],
                "function": FunctionOptions(environment={"DESTINATION": "archive,cloudtrail-lake"}),
            },
            "destinations: differs from DESTINATION in function.environment",
        ),
    ],
)
def test_one_problem_of_properties(tmp_path: Path, properties: dict[str, Any], expected: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    with pytest.raises(SettingsError) as raised:
        integrate(stack, vpc=vpc, **properties)
    (problem,) = raised.value.problems
    assert problem.startswith(expected)


def problems_of(stack: Stack, vpc: ec2.IVpc, *destinations: Any, **properties: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        integrate(stack, vpc=vpc, destinations=list(destinations), **properties)
    return list(raised.value.problems)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        (None, None),
        (kms.KeySpec.HMAC_256, kms.KeyUsage.GENERATE_VERIFY_MAC),
        (kms.KeySpec.RSA_3072, kms.KeyUsage.ENCRYPT_DECRYPT),
        (kms.KeySpec.ECC_NIST_P384, kms.KeyUsage.SIGN_VERIFY),
    ],
)
def test_a_key_of_the_app_that_cannot_sign_reports(
    tmp_path: Path, spec: kms.KeySpec | None, usage: kms.KeyUsage | None
) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key(stack, "Key", key_spec=spec, key_usage=usage)
    for name, given in (("ByKey", key), ("ByAlias", key.add_alias("kong"))):
        (problem,) = problems_of(stack, vpc, Archive(signing_key=given), name=name)
        assert problem.startswith("Archive.signing_key: cannot sign with ECDSA_SHA_256")


@pytest.mark.parametrize("spec", [kms.KeySpec.RSA_2048, kms.KeySpec.ECC_NIST_P256])
def test_a_key_of_the_app_that_signs_reports(tmp_path: Path, spec: kms.KeySpec) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key(stack, "Key", key_spec=spec, key_usage=kms.KeyUsage.SIGN_VERIFY)
    trail = integrate(stack, vpc=vpc, destinations=[Archive(signing_key=key)])
    assert trail.archive is not None
    assert trail.archive.signing_key is key


@pytest.mark.parametrize("prefix", ["archive", "archive/ledger"])
def test_a_ledger_where_nothing_can_be_overwritten(tmp_path: Path, prefix: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    bucket = s3.Bucket.from_bucket_name(stack, "Bucket", "theirs")
    for name, given in (("ByBucket", bucket), ("ByName", "theirs")):
        ledger = LedgerOptions(existing_bucket=bucket, prefix=prefix)
        (problem,) = problems_of(stack, vpc, Archive(existing_bucket=given), ledger=ledger, name=name)
        assert problem.startswith("ledger.prefix: is below the archive's, archive/, where")


def test_a_ledger_beside_the_archive_in_one_bucket(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    bucket = s3.Bucket.from_bucket_name(stack, "Bucket", "theirs")
    ledger = LedgerOptions(existing_bucket=bucket, prefix="archive-ledger")
    integrate(stack, vpc=vpc, destinations=[Archive(existing_bucket=bucket)], ledger=ledger)


def test_two_gateways_of_one_name_in_one_archive(tmp_path: Path) -> None:
    """In two accounts, say, where their metrics do not meet."""
    app, stack, vpc = foreign_stack(tmp_path, account="111122223333", region="eu-central-1")
    integrate(stack, vpc=vpc, destinations=[Archive(existing_bucket="theirs")])
    other = Stack(app, "Other", env=Environment(account="444455556666", region="eu-central-1"))
    other_vpc = ec2.Vpc.from_vpc_attributes(
        other, "Vpc", vpc_id=VPC_ID, availability_zones=["a", "b"], private_subnet_ids=list(SUBNET_IDS)
    )
    (problem,) = problems_of(other, other_vpc, Archive(existing_bucket="theirs"), name="Same")
    assert problem.startswith("source_name: is the name of another gateway in the same archive")
    integrate(other, vpc=other_vpc, destinations=[Archive(existing_bucket="theirs", prefix="other")])


def test_a_region_without_cloudtrail_data_will_do_for_an_archive() -> None:
    context = {**ALONE, "aws_region": "il-central-1"}
    assert DeploymentSettings.from_context({**context, "destination": "archive"}).region == "il-central-1"
    with_lake = {**context, "destination": "archive,cloudtrail-lake", "channel_arn": CHANNEL_ARN}
    assert any("channel is in eu-central-1" in problem for problem in problems(with_lake))


def test_the_apps_settings_become_the_archives(tmp_path: Path) -> None:
    synthesis = synthesise(
        tmp_path,
        destination="archive",
        channel_arn=None,
        aws_region="eu-central-1",
        archive_retention_days="2557",
        archive_lock="Compliance",
        archive_prefix="audit",
        archive_format="ocsf",
        archive_signing_key="true",
        archive_glacier_ir_after_days=90,
    )
    bucket = archive_bucket(synthesis)["Properties"]
    rule = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert rule == {"Mode": "COMPLIANCE", "Days": 2557}
    environment = function_environment(synthesis)
    assert environment["ARCHIVE_FORMAT"] == "ocsf"
    assert environment["ARCHIVE"].endswith("/audit")
    assert synthesis.of_type(KEY)
    assert not synthesis.of_type(CACHE)
    assert "CacheEndpoint" not in synthesis.template["Outputs"]


@pytest.mark.parametrize("asked", [{"cache_engine": "redis"}, {"cache_serverless": "true"}])
def test_a_setting_of_the_cache_asks_for_one(asked: dict[str, str]) -> None:
    context = {**ALONE, "destination": "archive"}
    assert DeploymentSettings.from_context(context).cache is None
    assert DeploymentSettings.from_context({**context, **asked}).cache is not None
    assert DeploymentSettings.from_context(CONTEXT).cache is not None


def test_without_a_cache_one_subnet_will_do() -> None:
    one = {"existing_subnet_ids": "subnet-0123456789abcdef0"}
    assert DeploymentSettings.from_context({**ALONE, **one, "destination": "archive"}).subnet_ids
    assert problems({**CONTEXT, **one})


# -- the environment


def test_what_the_function_is_told(shaped: Shaped) -> None:
    alone, both = function_environment(shaped("archive")), function_environment(shaped("archive and Lake"))
    assert alone["DESTINATION"] == "archive"
    assert both["DESTINATION"] == "archive,cloudtrail-lake"
    assert function_environment(shaped("default"))["DESTINATION"] == "cloudtrail-lake"
    assert alone["ARCHIVE"] == both["ARCHIVE"] == "s3://kong-ledger-bucket/archive"
    assert alone["ARCHIVE_FORMAT"] == "json"
    assert not [name for name in alone if name.startswith("REDIS_") or name in ("CHANNEL_ARN", "ARCHIVE_SIGNING_KEY")]
    assert {"REDIS_HOST", "REDIS_DB", "CHANNEL_ARN"} <= both.keys()
    assert not [name for name in function_environment(shaped("default")) if name.startswith("ARCHIVE")]


def test_the_key_that_signs_is_told(shaped: Shaped) -> None:
    assert function_environment(shaped("archive, OCSF, signed"))["ARCHIVE_SIGNING_KEY"] == KEY_ARN
    theirs = function_environment(shaped("archive in a bucket that is there"))
    assert theirs["ARCHIVE_SIGNING_KEY"] == KEY_ARN
    assert theirs["ARCHIVE"] == "s3://their-archive/audit/kong"


def test_an_archive_alone_has_no_cache_unless_asked_for(shaped: Shaped) -> None:
    of_cache = [r["Type"] for r in shaped("archive").template["Resources"].values() if "ElastiCache" in r["Type"]]
    assert of_cache == []
    assert shaped("archive, OCSF, signed").of_type(CACHE)
    assert shaped("archive and Lake").of_type(CACHE)


def test_a_database_without_a_cache_is_remarked(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    function = FunctionOptions(environment={"REDIS_DB": "3"})
    trail = integrate(stack, vpc=vpc, destinations=[Archive()], function=function)
    assert trail.cache is None
    assert warnings(stack, "is not used, as there is no cache")


# -- one schedule for each trail


def test_each_trail_has_a_schedule_of_its_own(shaped: Shaped) -> None:
    for shape, names in {
        "default": ["cloudtrail-lake"],
        "archive": ["archive"],
        "archive and Lake": ["archive", "cloudtrail-lake"],
    }.items():
        targets = [schedule["Properties"]["Target"] for schedule in shaped(shape).of_type(SCHEDULE)]
        assert sorted(json.loads(target["Input"])["destination"] for target in targets) == names
        for target in targets:
            assert set(json.loads(target["Input"])) == {"execution_id", "scheduled_time", "stream", "destination"}
            assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 2}
            assert "DeadLetterConfig" in target
        assert len({str(target["Arn"]) for target in targets}) == 1, "of the same function"


def test_names_of_schedules_do_not_change_when_a_destination_is_added(tmp_path: Path) -> None:
    name = "k" * 64
    lake = CloudTrailLake(channel_arn=CHANNEL_ARN)
    found: dict[str, set[str]] = {}
    for destinations in ([Archive()], [lake], [Archive(), lake]):
        folder = tmp_path / str(len(found))
        synthesis = build(folder, *destinations, resource_name=name)
        for schedule in synthesis.of_type(SCHEDULE):
            destination = json.loads(schedule["Properties"]["Target"]["Input"])["destination"]
            found.setdefault(destination, set()).add(schedule["Properties"]["Name"])
    assert found == {"archive": {"k" * 56 + "-archive"}, "cloudtrail-lake": {name}}


def test_concurrency_for_one_of_two_trails_is_remarked(tmp_path: Path) -> None:
    lake = CloudTrailLake(channel_arn=CHANNEL_ARN)
    for number, (reserved, remarked) in enumerate([(1, True), (2, False)]):
        _, stack, vpc = foreign_stack(tmp_path / str(number))
        function = FunctionOptions(reserved_concurrent_executions=reserved)
        integrate(stack, vpc=vpc, destinations=[Archive(), lake], function=function)
        assert bool(warnings(stack, "is less than the number of trails")) is remarked


def test_metrics_of_several_trails_are_told_apart(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[Archive(), CloudTrailLake(channel_arn=CHANNEL_ARN)])
    dimensions = trail.metric_runs_finished(destination="cloudtrail-lake").dimensions
    assert dimensions == {"source": "kong", "stream": "requests", "destination": "cloudtrail-lake"}
    of_archive = {"source": "kong", "stream": "requests", "destination": "archive"}
    assert trail.metric_parts_damaged().dimensions == of_archive
    with pytest.raises(ValueError, match="there are several trails; give destination"):
        trail.metric_runs_finished()
    with pytest.raises(ValueError, match="there is no such trail; there is requests/archive, requests/cloudtrail-lake"):
        trail.metric("RunsFinished", destination="cloudwatch-logs")
    with pytest.raises(ValueError, match="there is no such trail"):
        trail.metric_parts_damaged(stream="objects")


def test_each_stream_in_each_destination_has_a_schedule_and_renames_none(tmp_path: Path) -> None:
    lake = CloudTrailLake(channel_arn=CHANNEL_ARN)
    synthesis = build(tmp_path, Archive(), lake, streams="objects, requests", resource_name="kong")
    named = {}
    for schedule in synthesis.of_type(SCHEDULE):
        event = json.loads(schedule["Properties"]["Target"]["Input"])
        named[event["stream"], event["destination"]] = schedule["Properties"]["Name"]
    assert named == {
        ("requests", "archive"): "kong-archive",
        ("requests", "cloudtrail-lake"): "kong",
        ("objects", "archive"): "kong-objects-archive",
        ("objects", "cloudtrail-lake"): "kong-objects",
    }
    assert function_environment(synthesis)["STREAMS"] == "requests,objects"


@pytest.mark.parametrize("streams", ["requests,objects", ["requests", "objects"], "Objects , requests"])
def test_streams_by_context(tmp_path: Path, streams: object) -> None:
    context = {**ALONE, "destination": "archive", "aws_region": "eu-central-1", "streams": streams}
    assert DeploymentSettings.from_context(context).integration["streams"].lower().count("requests") == 1
    assert problems({**context, "streams": "audit"}) == [
        "streams: names one that there is not; write requests or objects, or both with a comma between them"
    ]


def test_metrics_of_objects(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[Archive()], streams="requests,objects")
    assert trail.metric_gaps_open().dimensions["stream"] == "requests"  # type: ignore[index]
    assert trail.metric_gaps_open(stream="objects").dimensions["stream"] == "objects"  # type: ignore[index]
    _, stack, vpc = foreign_stack(tmp_path / "alone")
    alone = integrate(stack, vpc=vpc, destinations=[Archive()], streams="objects")
    assert alone.metric_gaps_open().dimensions["stream"] == "objects"  # type: ignore[index]


# -- the bucket


def test_the_bucket_is_versioned_encrypted_private_and_locked(shaped: Shaped) -> None:
    bucket = archive_bucket(shaped("archive"))
    properties = bucket["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["ObjectLockEnabled"] is True
    assert properties["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}},
    }
    encryption = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "BucketName" not in properties, "a name that is taken would keep a deployment from being repeated"
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_a_customers_key_encrypts_the_bucket(shaped: Shaped) -> None:
    synthesis = shaped("archive, OCSF, signed")
    (rule,) = archive_bucket(synthesis)["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["BucketKeyEnabled"] is True


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (Archive(), {"Mode": "GOVERNANCE", "Days": 365}),
        (Archive(retention=Duration.days(2557)), {"Mode": "GOVERNANCE", "Days": 2557}),
        (Archive(lock="compliance", retention=Duration.days(1)), {"Mode": "COMPLIANCE", "Days": 1}),
        (Archive(lock="none"), None),
    ],
)
def test_locks(tmp_path: Path, archive: Archive, rule: dict[str, Any] | None) -> None:
    properties = archive_bucket(build(tmp_path, archive))["Properties"]
    assert properties["ObjectLockEnabled"] is True, "so that legal holds are possible, and a lock later"
    found = properties.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    assert found == rule


def test_compliance_is_said_to_be_irrevocable_before_it_happens(tmp_path: Path) -> None:
    for lock, remarked in (("compliance", True), ("governance", False), ("none", False)):
        _, stack, vpc = foreign_stack(tmp_path / lock)
        integrate(stack, vpc=vpc, destinations=[Archive(lock=lock)])
        found = warnings(stack, r"nobody can delete it.*\(365 days\).*Only closing the account")
        assert bool(found) is remarked


def test_colder_storage_by_choice(shaped: Shaped) -> None:
    def rules(shape: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = archive_bucket(shaped(shape))["Properties"]["LifecycleConfiguration"]["Rules"]
        return found

    assert [rule["Transitions"] for rule in rules("archive, compliance") if "Transitions" in rule] == [
        [{"StorageClass": "GLACIER_IR", "TransitionInDays": 90}]
    ]
    assert not [rule for rule in rules("archive") if "Transitions" in rule]
    assert not [name for rule in rules("archive, compliance") for name in rule if "xpiration" in name], "nothing goes"


# -- what the bucket's policy denies


def policy_of_archive(synthesis: Synthesis) -> list[tuple[str, str, str, str, str]]:
    return [
        statement[1:]
        for statement in resource_statements(synthesis)
        if statement[0] == POLICY and "/archive/*" in statement[4]
    ]


def test_nobody_overwrites_or_deletes_what_is_archived(shaped: Shaped) -> None:
    assert policy_of_archive(shaped("archive")) == [
        ("*", "Deny", "s3:PutObject", OBJECTS, json.dumps({"Null": {"s3:if-none-match": "true"}})),
        ("*", "Deny", "s3:BypassGovernanceRetention s3:DeleteObject s3:DeleteObjectVersion", OBJECTS, ""),
    ]
    assert policy_of_archive(shaped("default")) == []


def test_whoever_owns_the_bucket_can_still_change_its_policy(shaped: Shaped) -> None:
    """A policy that denied that to everybody could be undone by the account's root user alone."""
    denied = " ".join(
        actions for kind, _, effect, actions, _, _ in resource_statements(shaped("archive")) if kind == POLICY
    )
    assert "BucketPolicy" not in denied
    for kind, _, _, actions, _, condition in resource_statements(shaped("archive")):
        # The one that denies everything is about connections without TLS.
        assert kind != POLICY or actions != "s3:*" or "aws:SecureTransport" in condition or "s3:TlsVersion" in condition


def test_connections_without_tls_are_denied(shaped: Shaped) -> None:
    synthesis = shaped("archive")
    conditions = [
        condition
        for kind, principal, effect, actions, _, condition in resource_statements(synthesis)
        if (kind, principal, effect, actions) == (POLICY, "*", "Deny", "s3:*")
    ]
    assert sum("aws:SecureTransport" in condition for condition in conditions) == len(synthesis.of_type(BUCKET))


# -- what the function may


def archive_statements(synthesis: Synthesis, resource: str) -> list[tuple[str, str, str]]:
    """Return what the function may do with the resources of the archive."""
    return [
        (actions, resources, condition)
        for trusted, effect, actions, resources, condition in statements(synthesis)
        if trusted == "lambda.amazonaws.com" and effect == "Allow" and resource in resources
    ]


def test_the_function_may_put_and_get_in_its_own_folder_only(shaped: Shaped) -> None:
    synthesis = shaped("archive")
    assert archive_statements(synthesis, "/archive/") == [
        ("s3:GetObject s3:GetObjectVersion s3:PutObject", OWN_FOLDER, "")
    ]
    listing = {
        actions: json.loads(condition)
        for actions, _, condition in archive_statements(synthesis, "<AWS::S3::Bucket.Arn>")
        if "s3:prefix" in condition
    }
    assert listing == {
        "s3:ListBucketVersions": {"StringLike": {"s3:prefix": "archive/source=kong/*"}},
        "s3:ListBucket": {"StringLikeIfExists": {"s3:prefix": "archive/source=kong/*"}},
    }


def test_only_the_archives_own_statements_are_about_its_bucket(shaped: Shaped) -> None:
    synthesis = shaped("archive and Lake")
    (bucket,) = (
        name
        for name, resource in synthesis.template["Resources"].items()
        if resource["Type"] == BUCKET and "ObjectLockEnabled" in resource["Properties"]
    )
    about = [
        statement["Action"]
        for policy in synthesis.of_type("AWS::IAM::Policy")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if bucket in json.dumps(statement["Resource"])
    ]
    assert about == [
        ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"],
        "s3:ListBucketVersions",
        "s3:ListBucket",
        ["s3:GetBucketObjectLockConfiguration", "s3:GetBucketPolicy", "s3:GetBucketVersioning"],
    ]


FORBIDDEN = ("s3:Delete", "Retention", "LegalHold", "s3:*", "BucketPolicy", "PutBucket", "PutObjectLock", "Bypass")


LEAVES_QUARANTINE = ("s3:DeleteObject", "<AWS::S3::Bucket.Arn>/quarantine/*")
"""What leaves the quarantine is moved within the ledger's bucket, which keeps the earlier version."""


def test_the_function_may_delete_nothing_and_lower_no_retention(shaped: Shaped) -> None:
    for shape in ("archive", "archive and Lake", "archive in a bucket that is there", "archive, OCSF, signed"):
        for trusted, effect, actions, resource, _ in statements(shaped(shape)):
            if trusted == "lambda.amazonaws.com" and effect == "Allow":
                others = [action for action in actions.split() if action != "s3:GetBucketPolicy"]  # it only looks
                if (actions, resource) == LEAVES_QUARANTINE:
                    assert shape == "archive and Lake", "an archive refuses nothing"
                    continue
                assert not [action for action in others if any(part in action for part in FORBIDDEN)]


def test_the_function_may_deliver_to_a_channel_only_where_there_is_one(shaped: Shaped) -> None:
    for shape, expected in {"archive": False, "archive and Lake": True, "default": True}.items():
        actions = " ".join(statement[2] for statement in statements(shaped(shape)))
        assert ("cloudtrail-data:PutAuditEvents" in actions) is expected


def test_an_archive_has_the_rest_of_the_functions_permissions_unchanged(shaped: Shaped) -> None:
    def shape_of(shape: str) -> set[tuple[str, ...]]:
        return {statement for statement in statements(shaped(shape)) if statement[0] == "lambda.amazonaws.com"}

    gone = shape_of("default") - shape_of("archive")
    assert {actions for _, _, actions, _, _ in gone} == {
        "cloudtrail-data:PutAuditEvents cloudtrail:GetChannel",
        "elasticache:Connect",
        "s3:DeleteObject",
    }


def test_the_function_may_sign_with_the_key_that_signs(shaped: Shaped) -> None:
    for shape, resource in {
        "archive, OCSF, signed": "<AWS::KMS::Key.Arn>",
        "archive in a bucket that is there": KEY_ARN,
    }.items():
        signing = [s for s in archive_statements(shaped(shape), resource) if "kms:Sign" in s[0]]
        assert signing == [("kms:GetPublicKey kms:Sign", resource, "")]
    assert "kms:Sign" not in " ".join(statement[2] for statement in statements(shaped("archive")))


def test_a_key_that_signs_is_created_on_request(shaped: Shaped) -> None:
    (key,) = (k for k in shaped("archive, OCSF, signed").of_type(KEY) if k["Properties"].get("KeyUsage"))
    assert (key["Properties"]["KeySpec"], key["Properties"]["KeyUsage"]) == ("RSA_3072", "SIGN_VERIFY")
    assert (key["DeletionPolicy"], key["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert shaped("archive").of_type(KEY) == []


# -- a bucket that is there


def test_what_an_existing_bucket_needs_is_said(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, destinations=[Archive(existing_bucket="theirs", prefix="kong")])
    (said,) = warnings(stack, "how it is set cannot be seen from here")
    for needed in (
        "versioning",
        "Object Lock with a default retention",
        "s3:PutObject without If-None-Match",
        "s3:DeleteObjectVersion",
        "below kong/",
    ):
        assert needed in said


def test_a_bucket_of_the_same_app_gets_the_policy(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    theirs = s3.Bucket(stack, "Theirs", versioned=True)
    integrate(stack, vpc=vpc, destinations=[Archive(existing_bucket=theirs)])
    (said,) = warnings(stack, "how it is set cannot be seen from here")
    assert "a policy that denies" not in said
    denied = [statement[2] for statement in policy_of_archive(template_of(app, stack))]
    assert denied == ["s3:PutObject", "s3:BypassGovernanceRetention s3:DeleteObject s3:DeleteObjectVersion"]


def test_several_gateways_share_a_bucket(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    first = integrate(stack, vpc=vpc, destinations=[Archive()])
    assert first.archive is not None
    integrate(
        stack,
        "Second",
        vpc=vpc,
        source_name="second",
        destinations=[Archive(existing_bucket=first.archive.bucket)],
        ledger=first.ledger,
    )
    assert warnings(stack, "how it is set cannot be seen from here") == []
    synthesis = template_of(app, stack)
    assert len(policy_of_archive(synthesis)) == 2
    folders = {resources for _, resources, _ in archive_statements(synthesis, "/archive/")}
    assert folders == {OWN_FOLDER, OWN_FOLDER.replace("source=kong", "source=second")}


def test_the_bucket_goes_with_the_stack_if_its_owner_says_so(tmp_path: Path) -> None:
    synthesis = build(tmp_path, Archive(removal_policy=RemovalPolicy.DESTROY, bucket_name="kong-archive"))
    bucket = archive_bucket(synthesis)
    assert (bucket["DeletionPolicy"], bucket["Properties"]["BucketName"]) == ("Delete", "kong-archive")


def test_an_auditor_can_be_let_read(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[Archive()])
    trail.grant_read_archive(iam.Role(stack, "Auditor", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com")))
    granted = [s for s in statements(template_of(app, stack)) if s[0] == "ec2.amazonaws.com"]
    assert granted
    assert all("/archive/*" in resources for _, _, _, resources, _ in granted)


def test_without_an_archive_nobody_can_be_let_read_it(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    with pytest.raises(ValueError, match="There is no archive here"):
        integrate(stack, vpc=vpc).grant_read_archive(iam.AccountRootPrincipal())


def test_an_alias_of_a_key_that_signs_is_resolved(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key(stack, "Signing", key_spec=kms.KeySpec.ECC_NIST_P256, key_usage=kms.KeyUsage.SIGN_VERIFY)
    alias = kms.Alias(stack, "Alias", alias_name="alias/kong", target_key=key)
    integrate(stack, vpc=vpc, destinations=[Archive(signing_key=alias)])
    synthesis = template_of(app, stack)
    assert function_environment(synthesis)["ARCHIVE_SIGNING_KEY"] == KEY_ARN


# -- the way to AWS


ENDPOINT = "AWS::EC2::VPCEndpoint"


def endpoints_of(synthesis: Synthesis) -> dict[str, str]:
    return {
        synthesis.flat(endpoint["Properties"]["ServiceName"]).rpartition(".")[2]: endpoint["Properties"][
            "VpcEndpointType"
        ]
        for endpoint in synthesis.of_type(ENDPOINT)
    }


def in_a_vpc_of_its_own(tmp_path: Path, archive: Archive, **properties: Any) -> Synthesis:
    app, stack, _ = foreign_stack(tmp_path)
    vpc = ec2.Vpc(
        stack,
        "Own",
        nat_gateways=0,
        subnet_configuration=[ec2.SubnetConfiguration(name="a", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)],
    )
    subnets = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    integrate(stack, vpc=vpc, subnets=subnets, destinations=[archive], **properties)
    return template_of(app, stack)


@pytest.mark.parametrize(
    ("archive", "properties", "expected"),
    [
        (Archive(), {}, {"s3": "Gateway"}),
        (Archive(), {"kong_superadmin": True}, {"s3": "Gateway", "secretsmanager": "Interface"}),
        (Archive(signing_key=True), {}, {"s3": "Gateway", "kms": "Interface"}),
        (
            Archive(),
            {"cache": CacheOptions(authentication="password")},
            {"s3": "Gateway", "secretsmanager": "Interface"},
        ),
    ],
)
def test_endpoints_are_those_that_the_function_calls(
    tmp_path: Path, archive: Archive, properties: dict[str, Any], expected: dict[str, str]
) -> None:
    network = NetworkOptions(endpoints=True)
    assert endpoints_of(in_a_vpc_of_its_own(tmp_path, archive, network=network, **properties)) == expected


def test_endpoints_are_created_on_request_only(tmp_path: Path) -> None:
    assert endpoints_of(in_a_vpc_of_its_own(tmp_path, Archive(signing_key=True), kong_superadmin=True)) == {}


def test_an_endpoint_that_is_named_as_well_is_created_once(tmp_path: Path) -> None:
    network = NetworkOptions(
        endpoints=True,
        interface_endpoints=[ec2.InterfaceVpcEndpointAwsService.KMS],
        gateway_endpoints=[ec2.GatewayVpcEndpointAwsService.S3, ec2.GatewayVpcEndpointAwsService.DYNAMODB],
    )
    synthesis = in_a_vpc_of_its_own(tmp_path, Archive(signing_key=True), network=network)
    assert len(synthesis.of_type(ENDPOINT)) == 3
    assert endpoints_of(synthesis) == {"s3": "Gateway", "dynamodb": "Gateway", "kms": "Interface"}


def test_isolated_subnets_are_remarked_unless_there_are_endpoints(tmp_path: Path) -> None:
    for number, (network, remarked) in enumerate([(None, True), (NetworkOptions(endpoints=True), False)]):
        synthesis = in_a_vpc_of_its_own(tmp_path / str(number), Archive(), network=network)
        assert bool(warnings(synthesis.stack, "subnets: are isolated. Without endpoints")) is remarked
        assert warnings(synthesis.stack, "nothing will be delivered") == []


def test_endpoints_need_route_tables(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    with pytest.raises(SettingsError, match=r"network.endpoints: the endpoint of S3 goes into the route tables"):
        integrate(stack, vpc=vpc, destinations=[Archive()], network=NetworkOptions(endpoints=True))


def test_endpoints_by_context(tmp_path: Path) -> None:
    context = {"destination": "archive", "channel_arn": None, "aws_region": "eu-central-1", "vpc_endpoints": "true"}
    synthesis = synthesise(tmp_path, **context, existing_route_table_ids="rtb-0123456789abcdef0")
    assert endpoints_of(synthesis) == {"s3": "Gateway"}
    assert synthesis.only(ENDPOINT)["Properties"]["RouteTableIds"] == ["rtb-0123456789abcdef0"]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"vpc_endpoints": True}, "existing_route_table_ids: is missing"),
        ({"vpc_endpoints": "perhaps"}, "vpc_endpoints: must be true or false"),
        ({"existing_route_table_ids": "rtb-0123456789abcdef0"}, "existing_route_table_ids: is given without"),
        ({"vpc_endpoints": True, "existing_route_table_ids": "rtb-1"}, "existing_route_table_ids: number 1 is no id"),
        (
            {"vpc_endpoints": True, "existing_route_table_ids": ["rtb-0123456789abcdef0"] * 3},
            "existing_route_table_ids: 3 given for 2 subnets",
        ),
    ],
)
def test_one_problem_of_endpoints(context: dict[str, Any], expected: str) -> None:
    (problem,) = problems({**ALONE, "destination": "archive", **context})
    assert problem.startswith(expected)
