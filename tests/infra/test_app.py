"""The app as a user calls it: through the pinned CDK CLI, without credentials."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from aws_cdk import App

import app
from tests.infra.synthesis import CONTEXT, ROOT

CDK = ROOT / "node_modules" / ".bin" / "cdk"
PLANTED = "planted-Secret-4711"


def synth(tmp_path: Path, **context: str) -> subprocess.CompletedProcess[str]:
    command = [str(CDK), "synth", "--quiet", "--output", str(tmp_path / "cdk.out")]
    for name, value in {**CONTEXT, **context}.items():
        command += ["--context", f"{name}={value}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        # No configuration, no credentials, and no waiting for an instance's.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_CLI_TELEMETRY": "1",
    }
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)


def test_synth_writes_the_template_and_bundles(tmp_path: Path) -> None:
    done = synth(tmp_path, aws_region="eu-central-1", image="kong:latest")
    assert done.returncode == 0, done.stderr
    assert "Bundling asset" in done.stderr
    assert "image: is not needed" in done.stderr
    template = json.loads((tmp_path / "cdk.out" / "KongCloudTrailIntegration.template.json").read_text())
    assert "AWS::Lambda::Function" in {resource["Type"] for resource in template["Resources"].values()}
    (asset,) = (tmp_path / "cdk.out").glob("asset.*")
    assert (asset / "kong_cloudtrail" / "handler.py").is_file()


def test_bad_settings_end_in_one_readable_error(tmp_path: Path) -> None:
    result = synth(
        tmp_path,
        existing_vpc="vpc-x",
        existing_subnet_ids="subnet-0123456789abcdef0",
        kong_admin_api=f"https://kong:{PLANTED}@kong:8444",
        kong_admin_token=PLANTED,
        lambda_env=json.dumps({"KONG_ADMIN_TOKEN": PLANTED, "PAGE_SIZE": "none"}),
        aws_region="us-east-1",
    )
    output = result.stdout + result.stderr
    assert result.returncode == 1
    assert "Traceback" not in output
    assert PLANTED not in output
    assert "7 settings need attention:" in output
    for setting in (
        "existing_vpc",
        "existing_subnet_ids",
        "kong_admin_api",
        "kong_admin_token",
        "lambda_env KONG_ADMIN_TOKEN",
        "lambda_env PAGE_SIZE",
        "channel_arn",
    ):
        assert f"  - {setting}: " in output


@pytest.fixture
def run_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the app in this process, always into the same assembly.

    What the CDK CLI tells it by variables is given by arguments: Node reads those when it starts, which takes seconds.
    """
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDK_"))]:
        monkeypatch.delenv(name)

    def run(**context: object) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(app, "App", partial(App, context={**CONTEXT, **context}, outdir=str(tmp_path)))
            return app.main()

    return run


@pytest.mark.parametrize("name", ["CDK_DEFAULT_REGION", "AWS_REGION"])
def test_the_environments_region_is_read_when_the_app_runs(
    name: str, run_app: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "us-east-1")

    assert run_app() == 1

    assert "the channel is in eu-central-1, the stack in us-east-1" in capsys.readouterr().err


def test_a_trail_that_is_about_to_be_replaced_is_said(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for context in ({}, {"kong_admin_api": "https://other.example.internal:8444"}):
        assert run_app(**context, **{"aws:cdk:bundling-stacks": []}) == 0
        results.append(capsys.readouterr().err)
    assert "was last synthesised for another trail" not in results[0]
    assert (
        "Stack KongCloudTrailIntegration was last synthesised for another trail (kong: https://kong-admin" in results[1]
    )
    assert "give a resource_name of its own" in results[1]
