"""Findings of cdk-nag that were looked at and accepted, each with its reason, beside the resource it is about.

They use CDK's own acknowledgements, so the construct needs no rule pack, and an app that runs one finds the reasons.
"""

import json
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct


def accept(scope: IConstruct, finding: str, reason: str) -> None:
    """Accept one finding about a resource.

    Parameters
    ----------
    scope : IConstruct
        The resource, or the construct that holds it.
    finding : str
        Id of the rule, with the finding in brackets where the rule has several.
    reason : str
        Why the rule does not apply, for a reviewer.
    """
    Validations.of(scope).acknowledge(Acknowledgment(id=finding, reason=reason))


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
