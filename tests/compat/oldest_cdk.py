"""The construct with the oldest CDK that the wheel allows: ``make compat``, as it fetches a CDK of its own."""

import re
import sys
import venv
import zipfile
from pathlib import Path

from tests.infra.test_packaging import PACKAGE, copy, requirements_of, run, wheel

__all__ = ["copy", "wheel"]  # fixtures

OLDEST = f"""
from aws_cdk import App, Stack
from aws_cdk import aws_ec2 as ec2
from {PACKAGE} import CacheOptions, CloudTrailLake, EventStoreOptions, ServerlessOptions
from {PACKAGE} import KongCloudTrailIntegration, KongOptions

app = App(context={{"aws:cdk:bundling-stacks": []}})
stack = Stack(app, "Stack")
vpc = ec2.Vpc(stack, "Vpc")
shapes = (
    {{"channel_arn": "arn:aws:cloudtrail:eu-central-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"}},
    {{
        "destinations": [CloudTrailLake(event_store=EventStoreOptions())],
        "cache": CacheOptions(serverless=ServerlessOptions()),
    }},
)
for number, shape in enumerate(shapes):
    KongCloudTrailIntegration(
        stack,
        f"Trail{{number}}",
        vpc=vpc,
        kong=KongOptions(admin_api="https://kong.example.internal:8444"),
        source_name=f"kong-{{number}}",
        **shape,
    )
app.synth()
print("synthesised")
"""


def test_the_oldest_cdk_of_the_range_will_do(wheel: Path, tmp_path: Path) -> None:
    requirements = [it for it in requirements_of(wheel) if it.marker is None]
    oldest = [
        f"{requirement.name}=={bound.version}"
        for requirement in requirements
        for bound in requirement.specifier
        if bound.operator == ">="
    ]
    assert len(oldest) == len(requirements)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--ignore-installed"]
    run(*pip, "--target", packages, *oldest, cwd=tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A CDK of that age loads the modules of all services at once, and compiling them takes half a minute.
    root = packages / "aws_cdk" / "__init__.py"
    root.write_text(re.sub(r"^from \. import \w+$", "", root.read_text("utf-8"), flags=re.MULTILINE), "utf-8")

    assert "synthesised" in run(python, "-c", OLDEST, cwd=tmp_path, PYTHONPATH=str(packages))
