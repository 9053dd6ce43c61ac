"""``python -m kong_cloudtrail``: starts the command line, which is in the folder ``cli`` or installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

_COMMAND_LINE = "kong_cloudtrail_cli"
"""The package's name in a wheel. In a checkout it is the folder ``cli``, a name that other packages may use as well."""

_USAGE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of the process; return its exit status.

    It differs from ``kong-cloudtrail`` in one way: a run that put entries into quarantine ends with status 0. Scripts
    that call it this way only distinguish a failed run from a successful one.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python should get a message instead of a traceback
        version = ".".join(map(str, sys.version_info[:3]))
        print(f"kong-cloudtrail: Python 3.11 or later is needed; this is Python {version}.", file=sys.stderr)
        return _USAGE
    try:
        _load_from_checkout()
        command_line = importlib.import_module(f"{_COMMAND_LINE}.main")
    except ModuleNotFoundError as error:
        print(
            f"kong-cloudtrail: The command line is not installed (no package {error.name}). Install "
            "kong-cloudtrail-integration[cli], or in a checkout: pip install -r cli/requirements.txt",
            file=sys.stderr,
        )
        return _USAGE
    status: int = command_line.main(arguments, program_name="python -m kong_cloudtrail", quarantine_is_success=True)
    return status


def _load_from_checkout() -> None:
    """Import the command line of the same checkout, if this is one."""
    folder = Path(__file__).resolve().parents[2] / "cli"
    spec = importlib.util.spec_from_file_location(
        _COMMAND_LINE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "main.py").is_file():
        return
    package = importlib.util.module_from_spec(spec)
    sys.modules[_COMMAND_LINE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while the program is being loaded
        sys.exit(_INTERRUPTED)
