"""The function's code as a CDK asset, bundled by pip instead of Docker.

pip installs wheels for a platform other than its own, so the function's architecture and Python version do not have
to be those of the machine that deploys. The lock file pins every package by hash, which makes the bundle a function of
the files hashed by `fingerprint`: the same sources give the same asset in any checkout, at any time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsii
from aws_cdk import BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_
from packaging.markers import InvalidMarker, Marker

PACKAGE = "kong_cloudtrail"

# Where the wheel carries the function's source (in this package), and where the repository has it (beside it).
_SOURCE_PLACES = tuple(Path(__file__).parents[level] / "lambda_src" for level in (1, 2))

_WHEEL_ARCHITECTURES = {lambda_.Architecture.ARM_64.name: "aarch64", lambda_.Architecture.X86_64.name: "x86_64"}

# botocore carries the API definitions of every AWS service, 30 MB that a cold start would have to unpack. The function
# calls these; the files beside the services' folders (endpoints, partitions, retry rules) serve all of them.
_BOTOCORE_SERVICES = frozenset({"cloudtrail", "cloudtrail-data", "kms", "logs", "s3", "secretsmanager", "sts"})

# Records of pip about its own work. They differ between versions of pip, and nothing reads them in Lambda; METADATA
# stays, since redis-py asks it for its version, and so do the licences.
_PIP_RECORDS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")


class BundlingError(RuntimeError):
    """The function's code could not be bundled; the message says what to do."""


def source_directory() -> Path:
    """Return the directory that holds the function's package and its lock file."""
    for place in _SOURCE_PLACES:
        if (place / PACKAGE).is_dir():
            return place
    raise BundlingError(
        f"The function's source is missing; looked for {PACKAGE} in {_SOURCE_PLACES[0]}. Install again."
    )


class LambdaAsset:
    """The function's code for one architecture and Python version.

    CDK bundles it while it synthesises, and only when the assembly's directory does not hold this very asset yet.

    Parameters
    ----------
    architecture, runtime
        What the function runs on.
    source : Path, optional
        Directory with the package and its ``requirements.txt``. By default the one that belongs to this module.

    Attributes
    ----------
    code : lambda_.AssetCode
        What a function takes as its code.
    failure : BundlingError or None
        Why bundling failed, if it did. CDK passes on an error of its own making.

    Raises
    ------
    BundlingError
        If the source is missing.
    """

    def __init__(
        self, architecture: lambda_.Architecture, runtime: lambda_.Runtime, source: Path | None = None
    ) -> None:
        source = source or source_directory()
        self._local = _PipBundling(source, architecture, runtime)
        self.code = lambda_.Code.from_asset(
            str(source),
            asset_hash=fingerprint(source, architecture, runtime),
            bundling=BundlingOptions(
                # Required by CDK, and never used: local bundling either succeeds or raises.
                image=DockerImage.from_registry("unused"),
                local=self._local,
            ),
        )

    @property
    def failure(self) -> "BundlingError | None":  # noqa: D102 - documented above
        return self._local.failure


def fingerprint(source: Path, architecture: lambda_.Architecture, runtime: lambda_.Runtime) -> str:
    """Hash everything the bundle follows from, and nothing else (no path, no time, no cache).

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    for part in (architecture.name.encode(), runtime.name.encode(), Path(__file__).read_bytes()):
        digest.update(b"%d\0%b" % (len(part), part))
    for file in [source / "requirements.txt", *_source_files(source)]:
        for part in (file.relative_to(source).as_posix().encode(), file.read_bytes()):
            digest.update(b"%d\0%b" % (len(part), part))
    return digest.hexdigest()


def bundle(source: Path, architecture: lambda_.Architecture, runtime: lambda_.Runtime, directory: Path) -> None:
    """Fill a directory with what Lambda unpacks: the locked packages and the function's own.

    Parameters
    ----------
    source : Path
        Directory with the package and its ``requirements.txt``.
    architecture, runtime
        What the function runs on.
    directory : Path
        An existing, empty directory.

    Raises
    ------
    BundlingError
        If pip is missing or fails.
    """
    _install_packages(source / "requirements.txt", architecture, runtime, directory)
    _prune(directory)
    for file in _source_files(source):
        target = directory / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for path in directory.rglob("*"):
        # Lambda runs the code as another user, so a strict umask here would make it unreadable there.
        path.chmod(0o755 if path.is_dir() else 0o644)


@jsii.implements(ILocalBundling)
class _PipBundling:
    def __init__(self, source: Path, architecture: lambda_.Architecture, runtime: lambda_.Runtime) -> None:
        self._arguments = source, architecture, runtime
        self.failure: BundlingError | None = None

    # jsii hands over the options by the names in this signature.
    def try_bundle(self, output_dir: str, *, image: DockerImage, **_options: Any) -> bool:
        try:
            bundle(*self._arguments, Path(output_dir))
        except BundlingError as failure:
            self.failure = failure
            raise
        return True


def _source_files(source: Path) -> Iterator[Path]:
    files = (path for path in (source / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return iter(sorted(files, key=lambda path: path.relative_to(source).as_posix()))


def _install_packages(
    lock: Path, architecture: lambda_.Architecture, runtime: lambda_.Runtime, directory: Path
) -> None:
    """Install the locked wheels. They are kept, so that only a changed lock needs the network again."""
    python_version, wheels = runtime.name.removeprefix("python"), _WHEEL_ARCHITECTURES[architecture.name]
    requirements = _requirements_for(lock.read_text("utf-8"), python_version)
    platform = ["--platform", f"manylinux2014_{wheels}", "--implementation", "cp", "--python-version", python_version]
    kept = _cache_directory() / hashlib.sha256("\0".join([requirements, *platform]).encode()).hexdigest()
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "requirements.txt")
        file.write_text(requirements, "utf-8")
        # The lock names every package, so nothing is resolved; pip would resolve for the Python that runs it.
        what = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", str(file), *platform]
        install = [
            "install",
            *what,
            "--no-index",
            "--find-links",
            str(kept),
            "--no-compile",
            "--target",
            str(directory),
        ]
        damaged = kept.is_dir()
        if damaged and not _pip(install):
            return
        problem = _pip(["download", *what, "--dest", str(Path(temporary, "wheels"))])
        if not problem:
            _keep(Path(temporary, "wheels"), kept, replace=damaged)
            problem = _pip(install)
    if "No module named pip" in problem:
        raise BundlingError(
            f"The function's code is bundled with pip, which {sys.executable} does not have; "
            f"run '{sys.executable} -m ensurepip' (or 'uv pip install pip') and try again."
        )
    if problem:
        raise BundlingError(
            f"pip could not fetch the function's packages for Python {python_version} on {wheels}. Check that this "
            f"machine reaches its package index (pip config list). pip said:\n{problem[-2000:]}"
        )


def _pip(arguments: list[str]) -> str:
    """Run pip; return what it complained about, and nothing if it did its work."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-input", "--no-color"]
    command += ["--disable-pip-version-check"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return "" if finished.returncode == 0 else finished.stderr.strip() or f"exit code {finished.returncode}"


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kong-cloudtrail-integration"


def _keep(wheels: Path, kept: Path, *, replace: bool) -> None:
    """Put downloaded wheels into the cache, in one step: another synthesis may be at work with the same ones."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if replace:
            shutil.rmtree(kept, ignore_errors=True)
        moved = Path(tempfile.mkdtemp(dir=kept.parent))
        shutil.copytree(wheels, moved, dirs_exist_ok=True)
        try:
            moved.rename(kept)
        except OSError:
            shutil.rmtree(moved)
            if not kept.is_dir():
                raise
            # Another synthesis was faster. Its wheels have the same hashes, and it may be installing them now.
    except OSError as error:
        raise BundlingError(
            f"Downloaded packages cannot be kept in {kept.parent} ({error.strerror}); "
            "set XDG_CACHE_HOME to a directory that can be written."
        ) from error


def _requirements_for(lock: str, python_version: str) -> str:
    """Decide the lock's environment markers for the function's Python; pip would decide them for its own."""
    function = {
        "python_version": python_version,
        "python_full_version": f"{python_version}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    lines: list[str] = []
    applies = True
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            pin, _, marker = line.removesuffix("\\").partition(";")
            try:
                applies = not marker or Marker(marker).evaluate(function)
            except InvalidMarker as error:
                raise BundlingError(f"The lock file has a marker that cannot be read: {line}") from error
            line = f"{pin.strip()} \\" if line.endswith("\\") else pin.strip()
        if applies:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _prune(directory: Path) -> None:
    shutil.rmtree(directory / "bin", ignore_errors=True)  # command-line scripts of packages
    for service in (directory / "botocore" / "data").iterdir():
        if service.is_dir() and service.name not in _BOTOCORE_SERVICES:
            shutil.rmtree(service)
    for metadata in directory.glob("*.dist-info"):
        for name in _PIP_RECORDS:
            (metadata / name).unlink(missing_ok=True)
