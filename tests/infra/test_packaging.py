"""The construct as a package: installed where no checkout is in sight, it builds the same function."""

import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail import __version__
from packaging.requirements import Requirement

import stacks
from tests.infra.synthesis import ROOT, Synthesis

EXAMPLES = ROOT / "examples"
PACKAGE = "kong_cloudtrail_integration"
COMMAND_LINE = "kong_cloudtrail_cli"

# What the interpreter of an installed package sees of the world.
LOOK = f"""
import json, sys
import {PACKAGE} as package
from {PACKAGE}.parts import lambda_asset
from aws_cdk import aws_lambda
exported = {{}}
exec("from {PACKAGE} import *", exported)
json.dump({{
    "path": sys.path,
    "files": [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)],
    "package": package.__file__,
    "source": str(lambda_asset.source_directory()),
    "exported": sorted(name for name in exported if not name.startswith("__")),
    "fingerprint": lambda_asset.fingerprint(
        lambda_asset.source_directory(), aws_lambda.Architecture.ARM_64, aws_lambda.Runtime.PYTHON_3_14
    ),
}}, sys.stdout)
"""


def packages_in(root: Path) -> set[str]:
    """Return the packages that a wheel of this tree must hold."""
    found = {PACKAGE, f"{PACKAGE}.lambda_src"}
    for folder, name in (("stacks", PACKAGE), ("lambda_src", f"{PACKAGE}.lambda_src"), ("cli", COMMAND_LINE)):
        for module in (root / folder).rglob("*.py"):
            found.add(".".join([name, *module.parent.relative_to(root / folder).parts]))
    return found


def listed_packages() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return set(project["tool"]["setuptools"]["packages"])


def clean_environment() -> dict[str, str]:
    """Return the environment without this checkout's import path, and without anybody's AWS account."""
    without = ("PYTHON", "AWS_", "CDK_", "JSII_")
    return {name: text for name, text in os.environ.items() if name == "JSII_NODE" or not name.startswith(without)}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def distributions_for(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return distributions with all that they depend on."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        if found.setdefault(distribution.name, distribution) is distribution:
            needed = map(Requirement, distribution.requires or [])
            waiting += [it.name for it in needed if it.marker is None or it.marker.evaluate({"extra": ""})]
    return found


# The build's own tool is in the environment that runs the tests: an isolated build would download it each time.
BUILD = ("--quiet", "--no-deps", "--no-build-isolation")


def bare_python(directory: Path, *further: str) -> Path:
    """Make a virtual environment with the CDK, pip, setuptools, perhaps further distributions, and nothing else.

    They are links into the environment that runs the tests: the CDK alone is 200 MB. The links are on `sys.path`, the
    place that they lead to is not.
    """
    venv.create(directory, symlinks=True, with_pip=False)
    (site_packages,) = (directory / "lib").glob("python*/site-packages")
    names = ["aws-cdk-lib", "constructs", "packaging", "pip", "setuptools", *further]
    for distribution in distributions_for(names).values():
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            place = site_packages / top
            if not place.exists():
                place.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return directory / "bin" / "python"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, elsewhere: building in the checkout itself would leave files there."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("stacks", "lambda_src", "cli"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / file, root)
    return root


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", *BUILD, "--wheel-dir", directory, copy, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built


def requirements_of(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and the checkout nowhere."""
    directory = tmp_path_factory.mktemp("installed")
    python = bare_python(directory)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=directory)
    run(python, "-m", "pip", "check", cwd=directory)
    return python


@cache
def look(python: Path) -> dict[str, Any]:
    return dict(json.loads(run(python, "-I", "-c", LOOK, cwd=python.parent)))


def test_every_package_of_the_tree_is_listed(tmp_path: Path) -> None:
    assert listed_packages() == packages_in(ROOT)

    shutil.copytree(ROOT / "stacks", tmp_path / "stacks")
    (tmp_path / "stacks" / "forgotten").mkdir()
    (tmp_path / "stacks" / "forgotten" / "__init__.py").touch()
    assert f"{PACKAGE}.forgotten" in packages_in(tmp_path) - listed_packages()


def test_the_wheel_holds_every_file(wheel: Path, copy: Path) -> None:
    expected = {f"{PACKAGE}/lambda_src/requirements.txt"}
    expected |= {f"{PACKAGE}/{file.relative_to(copy / 'stacks')}" for file in (copy / "stacks").rglob("*.*")}
    cli = [*(copy / "cli").rglob("*.py"), *(copy / "cli" / "report").glob("page.*")]
    expected |= {f"{COMMAND_LINE}/{file.relative_to(copy / 'cli')}" for file in cli}
    source = copy / "lambda_src" / "kong_cloudtrail"
    expected |= {f"{PACKAGE}/lambda_src/kong_cloudtrail/{file.relative_to(source)}" for file in source.rglob("*.*")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert f"{PACKAGE}/py.typed" in held


def test_the_ranges_are_wide_and_take_what_is_pinned(wheel: Path) -> None:
    ranges = [it for it in requirements_of(wheel) if it.marker is None]
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    assert {it.name for it in ranges} == {"aws-cdk-lib", "constructs", "packaging"}
    for it in ranges:
        # The major versions of packaging are years, and say nothing of what works.
        bounds = {">="} if it.name == "packaging" else {">=", "<"}
        assert {bound.operator for bound in it.specifier} == bounds
        assert pins[it.name] in it.specifier


def test_the_wheel_brings_the_command(wheel: Path, tmp_path: Path) -> None:
    extra = [it.name for it in requirements_of(wheel) if it.marker is not None and it.marker.evaluate({"extra": "cli"})]
    python = bare_python(tmp_path / "environment", *extra)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    command = python.parent / "kong-cloudtrail"
    (tmp_path / "my.tfvars").write_text('aws_region = "us-east-1"')

    assert run(command, "--version", cwd=tmp_path).split() == ["kong-cloudtrail", __version__]
    assert f"-{__version__}-" in wheel.name
    assert '"aws_region": "us-east-1"' in run(command, "tfvars", "my.tfvars", cwd=tmp_path)
    finished = subprocess.run(
        [command, "verify"],
        env={"LEDGER": ".", "DESTINATION": "archive", "ARCHIVE": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, "Nothing to verify" in finished.stderr) == (6, True), finished.stderr


def test_nothing_of_the_checkout_is_on_the_path(installed: Path) -> None:
    seen = look(installed)
    environment = installed.parents[1]
    assert Path(seen["package"]).is_relative_to(environment)
    assert Path(seen["source"]).is_relative_to(environment)
    assert [entry for entry in seen["path"] if Path(entry).resolve().is_relative_to(ROOT)] == []
    ours = (ROOT / "stacks", ROOT / "lambda_src")
    assert [file for file in seen["files"] if any(Path(file).resolve().is_relative_to(folder) for folder in ours)] == []


def test_the_public_names(installed: Path) -> None:
    assert look(installed)["exported"] == sorted(stacks.__all__)
    pages = [ROOT / "README.md", *EXAMPLES.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    guide = "".join(page.read_text("utf-8") for page in pages)
    for name in stacks.__all__:
        value = getattr(stacks, name)
        assert value.__doc__ or not inspect.isclass(value), f"{name} has no docstring"
        assert f"`{name}`" in guide, f"{name} is documented nowhere; add it to the table of examples/README.md"


def test_an_app_of_ones_own_builds_the_repositorys_function(
    installed: Path, synthesis: Synthesis, tmp_path: Path
) -> None:
    app = Path(shutil.copytree(EXAMPLES / "own_app", tmp_path / "own_app"))
    assembly = tmp_path / "cdk.out"
    # As the CDK CLI runs it: feature flags aside, which an app of one's own may have or not.
    run(installed, "app.py", cwd=app, CDK_OUTDIR=str(assembly))

    resources = json.loads((assembly / "Audit.template.json").read_text())["Resources"].values()
    functions = [it for it in resources if it.get("Properties", {}).get("Handler") == "kong_cloudtrail.handler.handler"]
    assert len(functions) == 2
    (key,) = {function["Properties"]["Code"]["S3Key"] for function in functions}
    assert key == synthesis.only("AWS::Lambda::Function")["Properties"]["Code"]["S3Key"]
    assert all({"Key": "cost-center", "Value": "4711"} in function["Properties"]["Tags"] for function in functions)

    bundle, source = assembly / f"asset.{key.removesuffix('.zip')}", ROOT / "lambda_src"
    modules = [file.relative_to(source) for file in (source / "kong_cloudtrail").rglob("*.py")]
    assert [it for it in modules if (bundle / it).read_bytes() != (source / it).read_bytes()] == []
    assert (bundle / "redis").is_dir()


def test_an_editable_install_uses_the_checkout(copy: Path, installed: Path, tmp_path: Path) -> None:
    checkout = Path(shutil.copytree(copy, tmp_path / "checkout", ignore=shutil.ignore_patterns("build", "*.egg-info")))
    python = bare_python(tmp_path / "environment")
    run(python, "-m", "pip", "install", *BUILD, "--editable", checkout, cwd=tmp_path)
    seen = look(python)
    assert Path(seen["package"]) == checkout / "stacks" / "__init__.py"
    assert Path(seen["source"]) == checkout / "lambda_src"
    assert seen["fingerprint"] == look(installed)["fingerprint"]
