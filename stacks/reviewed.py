"""Findings of cdk-nag that were looked at and accepted, each with its reason, beside the resource it is about.

They use CDK's own acknowledgements, so the construct needs no rule pack, and an app that runs one finds the reasons.
CDK has them since 2.255, and takes ids with brackets since 2.269. With an older one the construct works, and an app
that runs a rule pack has to give reasons of its own.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from aws_cdk import Stack
from constructs import IConstruct

_TAKES_REASONS = tuple(int(part) for part in version("aws-cdk-lib").split(".")[:2]) >= (2, 269)
if _TAKES_REASONS:
    from aws_cdk import Acknowledgment, Validations

_PACKS = ("NIST.800.53.R5", "NIST.800.53.R4", "HIPAA.Security", "PCI.DSS.321")
"""cdk-nag's packs of rules that share names: one reason answers all of them."""


def controls(*rules: str) -> tuple[str, ...]:
    """Return the ids that rules have in the packs after NIST 800-53, HIPAA and PCI DSS."""
    return tuple(f"{pack}-{rule}" for rule in rules for pack in _PACKS)


def accept(scope: IConstruct, findings: str | Sequence[str], reason: str) -> None:
    """Accept findings about a resource that have one reason.

    Parameters
    ----------
    scope : IConstruct
        The resource, or the construct that holds it.
    findings : str or sequence of str
        Ids of rules, each with the finding in brackets where the rule has several.
    reason : str
        Why the rule does not apply, for a reviewer.
    """
    if not _TAKES_REASONS:
        return
    for finding in [findings] if isinstance(findings, str) else findings:
        Validations.of(scope).acknowledge(Acknowledgment(id=finding, reason=reason))


def accept_amazons_key(scope: IConstruct, finding: str) -> None:
    """Accept that a resource is encrypted by a key of AWS, as nobody gave another."""
    accept(
        scope,
        controls(finding),
        "Encrypted at rest with a key that AWS manages. The property encryption_key puts a customer's key in its "
        "place, here and everywhere else in the construct.",
    )


def accept_own_policy(role: IConstruct) -> None:
    """Accept that a role's permissions are a policy of that role alone."""
    accept(
        role,
        controls("IAMNoInlinePolicy"),
        "The permissions fit this one role and no other. As a managed policy they could be attached elsewhere, and "
        "would outlive the role.",
    )


def accept_wildcard(scope: IConstruct, resource: str, reason: str) -> None:
    """Accept a wildcard in the resource of a policy statement (AwsSolutions-IAM5).

    Parameters
    ----------
    scope : IConstruct
        The role.
    resource : str
        The resource as the statement has it, tokens included.
    reason : str
        Why no resource can take the wildcard's place.
    """
    accept(scope, f"AwsSolutions-IAM5[Resource::{_flat(Stack.of(scope).resolve(resource))}]", reason)


def _flat(value: Any) -> str:
    """Write CloudFormation's references as cdk-nag does in the ids of its findings."""
    if not isinstance(value, dict):
        return str(value)
    if "Ref" in value:
        return f"<{value['Ref']}>"
    if "Fn::GetAtt" in value:
        return f"<{'.'.join(value['Fn::GetAtt'])}>"
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(_flat(part) for part in parts)
    return json.dumps(value)
