"""Keys of KMS: the key behind an alias, and what a key's own policy has to say."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aws_cdk import Annotations, ArnFormat, Stack, Token
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import IConstruct


def resolved(key: kms.IKey) -> kms.IKey:
    """Return the key itself where an alias of it was given: policies and most services know no aliases.

    Raises
    ------
    ValueError
        If nothing but the alias is known.
    """
    if not hasattr(key, "alias_name"):
        return key
    try:
        target: kms.IKey = key.alias_target_key
    except RuntimeError:
        # Not chained: it is about the CDK's inside.
        raise ValueError(
            "is an alias known by its name alone, and policies name the key itself; give that, e.g. by "
            "kms.Key.from_lookup(…, alias_name=…) or kms.Key.from_key_arn(…)"
        ) from None
    return target


def problems(name: str, key: kms.IKey | None) -> Iterator[str]:
    """Say what is wrong with a key."""
    if key is not None and hasattr(key, "key_arn"):
        try:
            resolved(key)
        except ValueError as problem:
            yield f"{name}: {problem}"


def can_sign(key: kms.IKey) -> bool:
    """Say whether a key signs with what the function asks for, as far as it can be seen: of a key of this app."""
    try:
        made = resolved(key).node.default_child
    except ValueError:
        return True
    if not isinstance(made, kms.CfnKey):
        return True
    spec, usage = made.key_spec or "SYMMETRIC_DEFAULT", made.key_usage or "ENCRYPT_DECRYPT"
    if Token.is_unresolved(spec) or Token.is_unresolved(usage):
        return True
    return usage == "SIGN_VERIFY" and (spec.startswith("RSA_") or spec in ("ECC_NIST_P256", "ECC_SECG_P256K1"))


def allow_service(
    scope: IConstruct,
    setting: str,
    key: kms.IKey,
    service: str,
    actions: Sequence[str],
    *,
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Let a service use a key, by the key's policy; where that is out of reach, warn.

    Parameters
    ----------
    scope : IConstruct
        What the service uses the key for.
    setting : str
        Where the key was given.
    key : kms.IKey
        The key.
    service : str
        The service's principal.
    actions : sequence of str
        What it has to do with the key.
    conditions : Mapping, optional
        Under which conditions. Default: none.
    """
    statement = iam.PolicyStatement(
        principals=[iam.ServicePrincipal(service)], actions=list(actions), resources=["*"], conditions=conditions
    )
    if not key.add_to_resource_policy(statement).statement_added:
        Annotations.of(scope).add_warning_v2(
            f"kong-cloudtrail:{setting}:{service}",
            f"{setting}: is a key from elsewhere, whose policy is out of reach. The policy has to let {service} use "
            f"{', '.join(actions)}; see docs/construct.md.",
        )


def allow_log_groups(scope: IConstruct, key: kms.IKey) -> None:
    """Let CloudWatch Logs use a key for the log groups of this account and region, by the key's policy."""
    groups = Stack.of(scope).format_arn(
        service="logs", resource="log-group", resource_name="*", arn_format=ArnFormat.COLON_RESOURCE_NAME
    )
    allow_service(
        scope,
        "encryption_key",
        key,
        "logs.amazonaws.com",
        ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
        conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
    )


def allow_s3_tables(scope: IConstruct, key: kms.IKey) -> None:
    """Let CloudWatch write tables of S3 Tables that a key encrypts, and S3 Tables maintain them, by the key's policy.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/s3-tables-integration.html
    """
    stack = Stack.of(scope)
    tables = stack.format_arn(service="s3tables", resource="bucket", resource_name="aws-cloudwatch/*")
    for service, actions, conditions in (
        (
            "systemtables.cloudwatch.amazonaws.com",
            ["kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt"],
            {"StringEquals": {"aws:SourceAccount": stack.account}},
        ),
        (
            "maintenance.s3tables.amazonaws.com",
            ["kms:GenerateDataKey", "kms:Decrypt"],
            {"StringLike": {"kms:EncryptionContext:aws:s3:arn": tables}},
        ),
    ):
        allow_service(scope, "encryption_key", key, service, actions, conditions=conditions)
