"""Findings of rule packs that were looked at and accepted, each with its reason, beside the resource it is about.

Those of checkov and cfn-lint are in the template's metadata, where the two read them. Those of cdk-nag use CDK's own
acknowledgements, which cdk-nag 3 reads, so the construct needs no rule pack. CDK has them since 2.255, and takes ids
with brackets since 2.269. Where cdk-nag 2 is installed, the reasons are also written as that one reads them: into the
resources' metadata.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jsii
from aws_cdk import Aspects, CfnResource, IAspect, Stack
from constructs import IConstruct, IValidation

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
        Ids of rules, each with the finding in brackets where the rule has several. Those of checkov begin with CKV.
    reason : str
        Why the rule does not apply, for a reviewer.
    """
    given = [findings] if isinstance(findings, str) else findings
    ids = [finding for finding in given if not finding.startswith("CKV")]
    _skip_in_checkov(scope, [finding for finding in given if finding not in ids], reason)
    if _TAKES_REASONS and ids:
        Validations.of(scope).acknowledge(*(Acknowledgment(id=finding, reason=reason) for finding in ids))
    if _has_cdk_nag_2():
        _suppress(scope, ids, reason)


def accept_of_cfn_lint(scope: IConstruct, rule: str, reason: str) -> None:
    """Accept a finding of cfn-lint about a resource; it takes no reasons, so that stands beside it."""
    resource: Any = scope.node.default_child or scope
    resource.add_metadata("cfn-lint", {"config": {"ignore_checks": [rule]}})
    resource.add_metadata("cfn-lint-reason", f"{rule}: {reason}")


def accept_amazons_key(scope: IConstruct, finding: str, *others: str) -> None:
    """Accept that a resource is encrypted by a key of AWS, as nobody gave another."""
    accept(
        scope,
        (*controls(finding), *others),
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
    finding = _Wildcard(scope, resource)
    accept(scope, finding.id, reason)
    # What is of another stack is written otherwise as soon as CDK has made an import of it, which is when cdk-nag 3
    # looks. CDK asks for validation just before that.
    if _TAKES_REASONS:
        scope.node.add_validation(_AcceptAsImported(finding, reason))


class _Wildcard:
    """A finding about a resource with a wildcard, by its id at the moment."""

    def __init__(self, scope: IConstruct, resource: str) -> None:
        self.scope = scope
        self._resource = resource

    @property
    def id(self) -> str:
        return f"AwsSolutions-IAM5[Resource::{_flat(Stack.of(self.scope).resolve(self._resource))}]"


@jsii.implements(IValidation)
class _AcceptAsImported:
    def __init__(self, finding: _Wildcard, reason: str) -> None:
        self._finding, self._reason = finding, reason
        self._known = finding.id

    def validate(self) -> list[str]:
        if (found := self._finding.id) != self._known:
            self._known = found
            accept(self._finding.scope, found, self._reason)
        return []


def _skip_in_checkov(scope: IConstruct, ids: Sequence[str], reason: str) -> None:
    if ids:
        resource: Any = scope.node.default_child or scope
        before = (resource.get_metadata("checkov") or {}).get("skip", [])
        resource.add_metadata("checkov", {"skip": [*before, *({"id": each, "comment": reason} for each in ids)]})


@cache
def _has_cdk_nag_2() -> bool:
    try:
        return version("cdk-nag").partition(".")[0] == "2"
    except PackageNotFoundError:
        return False


def _suppress(scope: IConstruct, findings: Sequence[str], reason: str) -> None:
    """Write reasons into the metadata of every resource below, before cdk-nag 2 looks at it."""
    from aws_cdk import AspectPriority  # as old a CDK as ours can be does not have it, nor can it have cdk-nag 2

    Aspects.of(scope).add(_Suppress([_rule(finding, reason) for finding in findings]), priority=AspectPriority.MUTATING)


def _rule(finding: str, reason: str) -> Mapping[str, Any]:
    name, _, detail = finding.rstrip("]").partition("[")
    rule = {"id": name, "reason": reason}
    return {**rule, "applies_to": [detail]} if detail else rule


@jsii.implements(IAspect)
class _Suppress:
    def __init__(self, rules: Sequence[Mapping[str, Any]]) -> None:
        self._rules = list(rules)

    def visit(self, node: IConstruct) -> None:
        if CfnResource.is_cfn_resource(node):
            resource: Any = node
            before = (resource.get_metadata("cdk_nag") or {}).get("rules_to_suppress", [])
            rules = [*before, *(rule for rule in self._rules if rule not in before)]
            resource.add_metadata("cdk_nag", {"rules_to_suppress": rules})


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
    if "Fn::ImportValue" in value:
        return _flat(value["Fn::ImportValue"])
    return json.dumps(value, separators=(",", ":"))
