"""mypy sees the types of every module of the CDK that is used here; it reads no others, as that takes minutes."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "aws_cdk":
            found |= {f"aws_cdk.{name.name}" for name in node.names if name.name.startswith("aws_")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aws_cdk."):
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("aws_cdk.")}
    return found


def test_every_module_of_the_cdk_that_is_imported_is_read() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    read = {
        module
        for override in settings["overrides"]
        if override.get("follow_imports") == "silent"
        for module in override["module"]
    }
    places = [ROOT / place for place in settings["files"]]
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]

    used = {module for file in files for module in imported(file)}

    assert "aws_cdk.aws_lambda" in used
    assert used - read == set(), "add them to the list in pyproject.toml"
