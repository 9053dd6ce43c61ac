"""The function's bundle: reproducible, complete, for another platform than this one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aws_cdk.aws_lambda import Architecture, Runtime

from stacks import BundlingError
from stacks.parts import lambda_asset
from tests.infra.synthesis import ROOT, synthesise

SOURCE = ROOT / "lambda_src"
ARM, X86 = Architecture.ARM_64, Architecture.X86_64


def fingerprint(source: Path, architecture: Architecture = ARM, runtime: Runtime = Runtime.PYTHON_3_14) -> str:
    return lambda_asset.fingerprint(source, architecture, runtime)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("__pycache__")))


def test_same_sources_elsewhere_have_the_same_fingerprint(copied: Path) -> None:
    cache = copied / "kong_cloudtrail" / "__pycache__"
    cache.mkdir()
    (cache / "handler.cpython-311.pyc").write_bytes(b"anything")
    os.utime(copied / "kong_cloudtrail" / "handler.py", (0, 0))
    (copied / "notes.txt").write_text("not part of the function")
    assert fingerprint(copied) == fingerprint(SOURCE)


@pytest.mark.parametrize("changed", ["requirements.txt", "kong_cloudtrail/handler.py"])
def test_a_changed_file_changes_the_fingerprint(copied: Path, changed: str) -> None:
    with (copied / changed).open("a") as file:
        file.write("#\n")
    assert fingerprint(copied) != fingerprint(SOURCE)


def test_a_moved_file_changes_the_fingerprint(copied: Path) -> None:
    (copied / "kong_cloudtrail" / "handler.py").rename(copied / "kong_cloudtrail" / "handler2.py")
    assert fingerprint(copied) != fingerprint(SOURCE)


def test_architecture_and_python_change_the_fingerprint() -> None:
    variants = [(ARM, Runtime.PYTHON_3_14), (X86, Runtime.PYTHON_3_14), (ARM, Runtime.PYTHON_3_13)]
    assert len({fingerprint(SOURCE, *variant) for variant in variants}) == 3


def test_markers_of_the_lock_are_decided_for_the_functions_python() -> None:
    lock = "a==1 ; python_full_version < '3.11.3' \\\n    --hash=sha256:0\n# via b\nb==2 \\\n    --hash=sha256:1\n"
    assert "a==1" not in lambda_asset._requirements_for(lock, "3.14")
    assert "sha256:0" not in lambda_asset._requirements_for(lock, "3.14")
    assert lambda_asset._requirements_for(lock, "3.11").startswith("a==1 \\\n    --hash=sha256:0\n")
    assert lambda_asset._requirements_for("a==1 ; sys_platform == 'win32' \\\n", "3.14") == "\n"
    with pytest.raises(BundlingError, match="a marker that cannot be read"):
        lambda_asset._requirements_for("a==1 ; planted \\\n", "3.14")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kong-cloudtrail-integration"


@pytest.mark.usefixtures("empty_cache")
def test_a_failing_pip_is_explained(tmp_path: Path, copied: Path) -> None:
    (copied / "requirements.txt").write_text("boto3==1.44.5\n")  # no hash: refused before anything is downloaded
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BundlingError, match="pip could not fetch the function's packages") as raised:
        lambda_asset.bundle(copied, ARM, Runtime.PYTHON_3_14, tmp_path / "bundle")
    assert "hash" in str(raised.value)


@pytest.mark.usefixtures("empty_cache")
def test_a_missing_pip_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BundlingError, match="-m ensurepip"):
        lambda_asset.bundle(SOURCE, ARM, Runtime.PYTHON_3_14, tmp_path / "bundle")


def test_only_the_first_bundling_needs_the_network(
    tmp_path: Path, empty_cache: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The smallest package of the lock will do. The pruning, which wants to see botocore, is tested with all of them.
    lines = (SOURCE / "requirements.txt").read_text().split("\njmespath==")[1]
    (copied / "requirements.txt").write_text("jmespath==" + lines.split("\n    # via")[0] + "\n")
    monkeypatch.setattr(lambda_asset, "_prune", lambda _: None)
    (tmp_path / "first").mkdir()
    lambda_asset.bundle(copied, ARM, Runtime.PYTHON_3_14, tmp_path / "first")
    (kept,) = empty_cache.iterdir()

    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/none")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "second").mkdir()
    lambda_asset.bundle(copied, ARM, Runtime.PYTHON_3_14, tmp_path / "second")
    first, second = (
        {p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()}
        for d in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second

    next(kept.iterdir()).write_bytes(b"tampered with")
    (tmp_path / "third").mkdir()
    with pytest.raises(BundlingError):
        lambda_asset.bundle(copied, ARM, Runtime.PYTHON_3_14, tmp_path / "third")


@pytest.mark.usefixtures("empty_cache")
def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(BundlingError, match="set XDG_CACHE_HOME"):
        lambda_asset._keep(tmp_path, lambda_asset._cache_directory() / "0", replace=False)


def test_two_bundlings_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wheel").write_text(name)

    lambda_asset._keep(tmp_path / "first", tmp_path / "cache" / "hash", replace=False)
    lambda_asset._keep(tmp_path / "second", tmp_path / "cache" / "hash", replace=False)

    # The first one may be reading its wheels, and they are the same ones; nothing is left over of the second's.
    assert (tmp_path / "cache" / "hash" / "wheel").read_text() == "first"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["hash"]

    lambda_asset._keep(tmp_path / "second", tmp_path / "cache" / "hash", replace=True)
    assert (tmp_path / "cache" / "hash" / "wheel").read_text() == "second"


def test_a_missing_source_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lambda_asset, "_SOURCE_PLACES", (tmp_path,))
    with pytest.raises(BundlingError, match="source is missing"):
        lambda_asset.source_directory()


def test_the_real_bundle(tmp_path: Path) -> None:
    """Slow (pip installs the locked wheels), and the only proof that the bundle is what Lambda needs."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    previous = os.umask(0o077)
    try:
        lambda_asset.bundle(SOURCE, ARM, Runtime.PYTHON_3_14, bundle)
    finally:
        os.umask(previous)

    libraries = {path.name for path in bundle.rglob("*.so")}
    assert any(name.startswith("orjson.") for name in libraries)
    assert all("aarch64" in name and "314" in name for name in libraries)
    services = {path.name for path in (bundle / "botocore" / "data").iterdir() if path.is_dir()}
    assert services == {"cloudtrail", "cloudtrail-data", "kms", "logs", "s3", "secretsmanager", "sts"}
    called = {
        name
        for path in (SOURCE / "kong_cloudtrail").rglob("*.py")
        for name in re.findall(r'boto3\.client\(\s*"([a-z0-9-]+)"', path.read_text("utf-8"))
    }
    assert called == services - {"sts"}, "sts is what boto3 itself calls, for a role's credentials"
    assert not list(bundle.rglob("__pycache__"))
    assert not list(bundle.rglob("RECORD"))
    assert list(bundle.glob("redis-*.dist-info/licenses/LICENSE*"))
    assert {path.stat().st_mode & 0o777 for path in bundle.rglob("*")} == {0o755, 0o644}
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) < 40_000_000

    # The libraries' Python parts run here too; the compiled ones have pure twins.
    script = (
        "import json, sys; import boto3, redis, requests, aws_lambda_powertools, kong_cloudtrail.handler;"
        "names = ('cloudtrail', 'cloudtrail-data', 'logs', 's3', 'secretsmanager');"
        "[boto3.client(name, region_name='us-east-1') for name in names];"
        "print(json.dumps([m.__file__ for m in (boto3, redis, requests, kong_cloudtrail.handler)]))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(bundle), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(name.startswith(str(bundle)) for name in json.loads(ran.stdout))


def test_an_assembly_that_holds_the_bundle_is_not_bundled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled: list[Path] = []

    def bundle(_source: Path, _architecture: Architecture, _runtime: Runtime, directory: Path) -> None:
        bundled.append(directory)
        (directory / "handler.py").touch()

    monkeypatch.setattr(lambda_asset, "bundle", bundle)
    for _ in range(2):
        synthesise(tmp_path, **{"aws:cdk:bundling-stacks": ["**"]})

    assert len(bundled) == 1
    (asset,) = tmp_path.glob("asset.*")
    assert (asset / "handler.py").is_file()


def test_a_failed_bundling_says_why_and_not_how_cdk_called_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BundlingError("no way to the package index")

    monkeypatch.setattr(lambda_asset, "bundle", fail)
    with pytest.raises(BundlingError, match=r"^no way to the package index$"):
        synthesise(tmp_path, **{"aws:cdk:bundling-stacks": ["**"]})
