"""The reasons for what cdk-nag 2 finds: ``make compat``, as it fetches a cdk-nag of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.infra.synthesis import ROOT

OLDER = """
import json, sys, tempfile
from importlib.metadata import version
from pathlib import Path
from aws_cdk import Aspects
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks, NIST80053R5Checks, PCIDSS321Checks, ServerlessChecks
from tests.infra.synthesis import SHAPES, foreign_stack, integrate, new_app
from tests.infra.test_nag import PLACES, place_in

def found(app, trail):
    for pack in (AwsSolutionsChecks, HIPAASecurityChecks, NIST80053R5Checks, PCIDSS321Checks, ServerlessChecks):
        Aspects.of(app).add(pack())
    try:
        app.synth()
    except RuntimeError:
        pass  # a finding is an error, and what it is about is asked for below
    return sorted(
        str(entry.data).partition(":")[0]
        for node in trail.node.find_all()
        for entry in node.node.metadata
        if entry.type in ("aws:cdk:error", "aws:cdk:warning")
        and str(entry.data).startswith(("AwsSolutions", "HIPAA", "NIST", "PCI", "Serverless"))
    )

result = {}
for shape in SHAPES:
    app, stack, vpc = foreign_stack(Path(tempfile.mkdtemp()))
    trail = integrate(stack, vpc=vpc, **SHAPES[shape](stack))
    result[shape] = found(app, trail)
for place in PLACES:
    app = new_app(Path(tempfile.mkdtemp()))
    result[place] = found(app, place_in(app, PLACES[place]))
json.dump({"version": version("cdk-nag"), "found": result}, sys.stdout)
"""


def test_the_older_cdk_nag_finds_nothing_unexplained(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    subprocess.run([*install, "cdk-nag==2.38.2"], check=True, capture_output=True)

    ran = subprocess.run(
        [sys.executable, "-c", OLDER],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{packages}:{ROOT}:{ROOT / 'lambda_src'}", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert ran.returncode == 0, ran.stderr[-4000:]
    result = json.loads(ran.stdout)
    assert result["version"].startswith("2.")
    # The older Python is what that shape is about.
    assert set(result["found"].pop("invocation")) == {"AwsSolutions-L1", "Serverless-LambdaLatestVersion"}
    assert {place: found for place, found in result["found"].items() if found} == {}
