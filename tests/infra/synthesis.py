"""Synthesises the app's stack inside the test process, without bundling: neither pip nor network is needed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import App, Stack

from stacks import DeploymentOptions, IntegrationStack

ROOT = Path(__file__).parents[2]
CDK_JSON = json.loads((ROOT / "cdk.json").read_text("utf-8"))

VPC_ID = "vpc-0123456789abcdef0"
SUBNET_IDS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1")
CHANNEL_ARN = "arn:aws:cloudtrail:eu-central-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"
CONTEXT: Mapping[str, Any] = {
    "existing_vpc": VPC_ID,
    "existing_subnet_ids": ",".join(SUBNET_IDS),
    "kong_admin_api": "https://kong-admin.example.internal:8444",
    "channel_arn": CHANNEL_ARN,
}

# What stands for a value that CloudFormation fills in, by the type of the resource and the attribute.
_SAMPLES = {
    ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Address"): "master.kong.abc123.euc1.cache.amazonaws.com",
    ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Port"): "6380",
    ("AWS::SecretsManager::Secret", "Ref"): "arn:aws:secretsmanager:eu-central-1:111122223333:secret:Password-a1B2c3",
    ("AWS::S3::Bucket", "Ref"): "kong-ledger-bucket",
}


@dataclass(frozen=True)
class Synthesis:
    """A synthesised stack and its template."""

    stack: Any
    template: dict[str, Any]

    def of_type(self, resource_type: str) -> list[dict[str, Any]]:
        return [r for r in self.template["Resources"].values() if r["Type"] == resource_type]

    def only(self, resource_type: str) -> dict[str, Any]:
        (resource,) = self.of_type(resource_type)
        return resource

    def flat(self, value: Any) -> str:
        """Write CloudFormation's references as ``<type.attribute>``, which does not change with logical ids."""
        if isinstance(value, str):
            return value
        ((function, argument),) = value.items()
        if function == "Fn::Join":
            return argument[0].join(self.flat(part) for part in argument[1])
        name, attribute = (argument, "Ref") if function == "Ref" else argument
        if name.startswith("AWS::"):
            return f"<{name}>"
        return f"<{self.template['Resources'][name]['Type']}.{attribute}>"


def new_app(outdir: Path, **context: Any) -> App:
    """Return an app with this repository's feature flags, which bundles nothing."""
    return App(
        auto_synth=False,
        analytics_reporting=False,
        outdir=str(outdir),
        context={**CDK_JSON["context"], "aws:cdk:bundling-stacks": [], **context},
    )


def synthesise(outdir: Path, **context: Any) -> Synthesis:
    """Synthesise the app's stack from the example context and the given values."""
    app = new_app(outdir, **context)
    options = DeploymentOptions.from_context({**CONTEXT, **context})
    stack = IntegrationStack(app, "KongCloudTrailIntegration", options=options)
    return template_of(app, stack)


def template_of(app: App, stack: Stack) -> Synthesis:
    """Synthesise any app and take out one stack's template."""
    return Synthesis(stack, app.synth().get_stack_by_name(stack.stack_name).template)


def function_environment(synthesis: Synthesis) -> dict[str, str]:
    """Return the function's variables, with a sample where CloudFormation fills in the value.

    This is one side of the contract with `kong_cloudtrail.settings`, which neither side can import.
    """
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    return {name: _sampled(synthesis, value) for name, value in variables.items()}


def _sampled(synthesis: Synthesis, value: Any) -> str:
    text = synthesis.flat(value)
    for (resource_type, attribute), sample in _SAMPLES.items():
        text = text.replace(f"<{resource_type}.{attribute}>", sample)
    assert "<" not in text, f"no sample for {text}"
    return text


def statements(synthesis: Synthesis) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield every policy statement of a role: role, effect, actions, resources, condition."""
    for resource in synthesis.template["Resources"].values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::Policy":
            roles = [synthesis.template["Resources"][role["Ref"]] for role in properties["Roles"]]
            policies = [properties]
        elif resource["Type"] == "AWS::IAM::Role":
            roles, policies = [resource], properties.get("Policies", [])
        else:
            continue
        for policy in policies:
            for statement in policy["PolicyDocument"]["Statement"]:
                for role in roles:
                    trusted = role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
                    yield (
                        trusted,
                        statement["Effect"],
                        " ".join(_list(statement["Action"])),
                        " ".join(synthesis.flat(arn) for arn in _list(statement["Resource"])),
                        json.dumps(statement["Condition"]) if "Condition" in statement else "",
                    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
