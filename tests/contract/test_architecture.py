"""Who may import whom: what keeps the domain testable without the world, and the world replaceable."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

PACKAGE = REPOSITORY / "lambda_src" / "kong_cloudtrail"
ROOT = "kong_cloudtrail"

COMPOSITION_ROOTS = ("handler", "__main__")
LIBRARIES = frozenset({"boto3", "botocore", "redis", "requests", "urllib3", "aws_lambda_powertools"})
LIBRARIES_OF_MODULES = {
    "destinations.archive.checkup": {"boto3", "botocore", "mypy_boto3_s3"},
    "destinations.archive.s3": {"boto3", "botocore", "mypy_boto3_s3"},
    "destinations.cloudtrail.checkup": {"boto3", "botocore"},
    "destinations.cloudtrail.destination": {"boto3", "botocore", "mypy_boto3_cloudtrail_data"},
    "destinations.cloudtrail.inventory": {"boto3", "botocore", "mypy_boto3_cloudtrail"},
    "destinations.cloudwatch_logs.checkup": {"boto3", "botocore"},
    "destinations.cloudwatch_logs.destination": {"boto3", "botocore", "mypy_boto3_logs"},
    "sources.kong.http": {"requests", "urllib3"},
    "assembly.connections": {"botocore", "redis", "mypy_boto3_logs"},
    "domain.jsontext": {"orjson"},
    "handler": {"aws_lambda_powertools", "botocore", "redis"},
    "state.elasticache_iam": {"boto3", "botocore", "redis"},
    "runtime.aws_clock": {"boto3", "botocore"},
    "runtime.signing": {"boto3", "botocore", "mypy_boto3_kms"},
    "state.cache_checkup": {"redis"},
    "state.ledger_checkup": {"botocore"},
    "state.s3_store": {"boto3", "botocore", "mypy_boto3_s3"},
    "state.valkey": {"redis"},
    "runtime.secrets": {"boto3", "botocore", "aws_lambda_powertools"},
    "runtime.telemetry": {"aws_lambda_powertools"},
}
"""Everything else does with the standard library."""

ROOMS = ("run", "sources", "destinations", "state", "runtime", "operations", "domain")
CORE = frozenset({"", "errors", "ports"})


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path, root: Path) -> frozenset[str]:
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
    return frozenset(found)


def is_module(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def modules() -> dict[str, frozenset[str]]:
    """Return the imports of every module of the collector, the modules without the package's name."""
    root = PACKAGE.parent
    return {
        module_name(path, root).removeprefix(ROOT).removeprefix("."): imports_of(path, root)
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def ours(imports: Set[str]) -> set[str]:
    return {name.removeprefix(ROOT).removeprefix(".") for name in imports if name.partition(".")[0] == ROOT}


def foreign(imports: Set[str]) -> set[str]:
    """Return the top-level packages that are neither ours nor of the standard library."""
    tops = {name.partition(".")[0] for name in imports}
    return tops - {ROOT, "__future__"} - sys.stdlib_module_names


def within(*rooms: str) -> list[str]:
    return [name for name in MODULES if any(name == room or name.startswith(f"{room}.") for room in rooms)]


def house(module: str) -> str:
    """Return the part of the tree whose modules may import each other: a room, or one source or destination."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ("sources", "destinations") else parts[0]


def test_the_graph_is_the_real_one() -> None:
    # The rules below would hold of an empty graph too.
    assert set(COMPOSITION_ROOTS) | LIBRARIES_OF_MODULES.keys() <= MODULES.keys()
    assert all(len(within(room)) > 1 for room in ROOMS)
    assert {name.partition(".")[0] for name in MODULES} == {
        *ROOMS,
        *CORE,
        *COMPOSITION_ROOTS,
        "assembly",
        "settings",
        "variables",
    }
    assert "sources.kong.requests_stream" in ours(MODULES["assembly.runs"])
    assert "requests" in foreign(MODULES["sources.kong.http"])


@pytest.mark.parametrize("module", MODULES)
def test_module_knows_its_own_library_and_no_other(module: str) -> None:
    assert foreign(MODULES[module]) <= LIBRARIES_OF_MODULES.get(module, set())


@pytest.mark.parametrize("module", ["errors", *within("domain"), "ports"])
def test_shared_words_know_nothing_but_each_other(module: str) -> None:
    known = {"errors": set[str](), "ports": {"errors", *within("domain")}}.get(module, {"errors", *within("domain")})

    assert ours(MODULES[module]) <= known


@pytest.mark.parametrize(("module", "known"), [("variables", set[str]()), ("settings", {"variables", "errors"})])
def test_settings_rest_on_the_table_of_variables_and_that_on_nothing(module: str, known: set[str]) -> None:
    # The construct reads the table alone, without the package around it.
    assert ours(MODULES[module]) == known


@pytest.mark.parametrize("module", within("run", "sources", "destinations", "state", "runtime"))
def test_room_knows_the_shared_words_and_itself(module: str) -> None:
    assert ours(MODULES[module]) <= {*CORE, *within("domain"), *within(house(module))}


@pytest.mark.parametrize("module", within("operations"))
def test_operations_know_runs_and_shared_words(module: str) -> None:
    assert ours(MODULES[module]) <= {*CORE, *within("domain", "run", "operations")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "run").glob("*.py")), ids=lambda path: path.name)
def test_a_run_names_neither_a_source_nor_a_destination(path: Path) -> None:
    text = path.read_text(encoding="utf-8").lower()

    assert not [name for name in ("kong", "cloudtrail", "putauditevents") if name in text]


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
    "assembly",
    "assembly.examination",
    "domain.finding",
    "domain.moment",
    "domain.report",
    "domain.report_chain",
    "domain.trail",
    "domain.window",
    "operations.doctor",
    "operations.verb",
    "ports",
    "runtime.cpu",
    "runtime.garbage",
    "runtime.redaction",
    "runtime.signing",
    "errors",
    "settings",
}


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
