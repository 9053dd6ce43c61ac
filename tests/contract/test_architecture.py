"""Who may import whom: what keeps the domain testable without the world, and the world replaceable."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

PACKAGE = REPOSITORY / "lambda_src" / "kong_cloudtrail"
ROOT = "kong_cloudtrail"

CORE = (
    "collector",
    "plan",
    "reading",
    "intake",
    "delivery",
    "shipment",
    "workers",
    "progress",
    "indicators",
    "ledger",
    "guard",
    "pace",
    "backoff",
)
COMPOSITION_ROOTS = ("handler", "__main__")
LIBRARIES = frozenset({"boto3", "botocore", "redis", "requests", "urllib3", "aws_lambda_powertools"})
LIBRARIES_OF_ADAPTERS = {
    "cloudtrail": {"boto3", "botocore", "mypy_boto3_cloudtrail_data"},
    "elasticache_iam": {"boto3", "botocore", "redis"},
    "folder_store": set[str](),
    "kong": set[str](),
    "kong_api": set[str](),
    "kong_checks": set[str](),
    "kong_http": {"requests", "urllib3"},
    "kong_offsets": set[str](),
    "kong_poison": set[str](),
    "kong_reading": set[str](),
    "kong_scan": set[str](),
    "kong_window": set[str](),
    "processes": set[str](),
    "redaction": set[str](),
    "s3_store": {"boto3", "botocore", "mypy_boto3_s3"},
    "secrets": {"boto3", "botocore", "aws_lambda_powertools"},
    "telemetry": {"aws_lambda_powertools"},
    "valkey": {"redis"},
}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> set[str]:
    """Return the full names of the modules that a file imports, at its top or anywhere within."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` may import a module x of the package.
            submodules = {f"{target}.{alias.name}" for alias in node.names if is_module(f"{target}.{alias.name}", root)}
            found |= submodules or {target}
    return found


def is_module(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def modules() -> dict[str, set[str]]:
    """Return the imports of every module of the collector, the modules without the package's name."""
    root = PACKAGE.parent
    return {
        module_name(path, root).removeprefix(ROOT).removeprefix("."): imports_of(path, root)
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def ours(imports: set[str]) -> set[str]:
    return {name.removeprefix(ROOT).removeprefix(".") for name in imports if name.partition(".")[0] == ROOT}


def foreign(imports: set[str]) -> set[str]:
    """Return the top-level packages that are neither ours nor of the standard library."""
    tops = {name.partition(".")[0] for name in imports}
    return tops - {ROOT, "__future__"} - sys.stdlib_module_names


def within(prefix: str) -> list[str]:
    return [name for name in MODULES if name == prefix or name.startswith(f"{prefix}.")]


def test_the_graph_is_the_real_one() -> None:
    # The rules below would hold of an empty graph too.
    assert set(CORE) | set(COMPOSITION_ROOTS) <= MODULES.keys()
    assert len(within("domain")) >= 8
    assert {f"adapters.{name}" for name in LIBRARIES_OF_ADAPTERS} | {"adapters"} == set(within("adapters"))
    assert "domain.entry" in ours(MODULES["domain.event"])
    assert "adapters.kong" in ours(MODULES["assembly"])
    assert "requests" in foreign(MODULES["adapters.kong_http"])


@pytest.mark.parametrize("module", within("domain"))
def test_domain_knows_the_standard_library_and_errors(module: str) -> None:
    assert foreign(MODULES[module]) == set()
    assert all(name == "errors" or name.startswith("domain") for name in ours(MODULES[module]))


def test_errors_know_the_standard_library() -> None:
    assert foreign(MODULES["errors"]) == ours(MODULES["errors"]) == set()


def test_ports_know_domain_and_errors() -> None:
    assert foreign(MODULES["ports"]) == set()
    assert all(name == "errors" or name.startswith("domain") for name in ours(MODULES["ports"]))


@pytest.mark.parametrize("module", CORE)
def test_core_knows_no_library_and_no_adapter(module: str) -> None:
    known = {"", "errors", "ports", *CORE, *within("domain")}

    assert foreign(MODULES[module]) == set()
    assert ours(MODULES[module]) <= known


@pytest.mark.parametrize("adapter", LIBRARIES_OF_ADAPTERS)
def test_adapter_knows_its_own_library_and_no_other_adapter(adapter: str) -> None:
    imports = MODULES[f"adapters.{adapter}"]

    assert foreign(imports) <= LIBRARIES_OF_ADAPTERS[adapter]
    allowed = {"", "errors", "ports", *within("domain")}
    if adapter == "s3_store":
        allowed |= {"backoff"}
    if adapter.partition("_")[0] == "kong":
        # Kong's client has several modules. It waits between its own tries, by the rule that deliveries follow too.
        allowed |= {"backoff", *(name for name in MODULES if name.startswith("adapters.kong"))}
    assert ours(imports) <= allowed


@pytest.mark.parametrize("module", [name for name in MODULES if name not in COMPOSITION_ROOTS])
def test_only_the_composition_roots_and_assembly_know_adapters(module: str) -> None:
    uses_adapters = any(name.startswith("adapters") for name in ours(MODULES[module]))

    # What adapters may know of each other is said above.
    assert not uses_adapters or module == "assembly" or module.startswith("adapters.")


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_a_composition_root(module: str) -> None:
    assert not set(COMPOSITION_ROOTS) & ours(MODULES[module])


def names_used(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_only_the_composition_roots_read_the_environment(module: str) -> None:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py") if module else PACKAGE / "__init__.py"
    path = path if path.exists() else path.with_suffix("") / "__init__.py"

    reads = {"os.environ", "os.environb", "os.getenv", "os.getenvb"} & set(names_used(path))

    assert not reads or module in COMPOSITION_ROOTS


def tree(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", [*tree("stacks"), REPOSITORY / "app.py"], ids=lambda path: path.name)
def test_stacks_refer_to_the_function_by_path_only(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports_of(path, REPOSITORY)}

    assert not tops & {ROOT, "lambda_src", *LIBRARIES}


@pytest.mark.parametrize("path", [*tree("lambda_src", "stacks"), REPOSITORY / "app.py"], ids=lambda path: path.stem)
def test_nothing_that_is_deployed_imports_sandbox_torture_benchmarks_or_tests(path: Path) -> None:
    root = PACKAGE.parent if PACKAGE in path.parents else REPOSITORY
    tops = {name.partition(".")[0] for name in imports_of(path, root)}

    assert not tops & {"sandbox", "torture", "benchmarks", "tests"}


@pytest.mark.parametrize("path", tree("sandbox"), ids=lambda path: path.stem)
def test_sandbox_does_not_import_torture_benchmarks_or_tests(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports_of(path, REPOSITORY)}

    assert not tops & {"torture", "benchmarks", "tests"}


OPEN_TO_THE_COMMAND_LINE = {
    "",
    "adapters",
    "adapters.redaction",
    "assembly",
    "domain.report",
    "errors",
    "ledger",
    "settings",
}
"""`adapters` for `processes` alone, which is imported from the package."""


@pytest.mark.parametrize("path", tree("cli"), ids=lambda path: path.stem)
def test_command_line_starts_what_the_assembly_puts_together(path: Path) -> None:
    imports = imports_of(path, REPOSITORY)

    assert ours(imports) <= OPEN_TO_THE_COMMAND_LINE
    assert not {name.partition(".")[0] for name in imports} & {
        "stacks",
        "sandbox",
        "torture",
        "benchmarks",
        "tests",
        "aws_cdk",
    }


@pytest.mark.parametrize("path", tree("lambda_src", "stacks", "sandbox"), ids=lambda path: path.stem)
def test_nobody_imports_the_command_line(path: Path) -> None:
    root = PACKAGE.parent if PACKAGE in path.parents else REPOSITORY

    assert "cli" not in {name.partition(".")[0] for name in imports_of(path, root)}
