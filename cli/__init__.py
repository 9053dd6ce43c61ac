"""The command line ``kong-cloudtrail``.

It is not part of the function's asset, so that a changed help text does not redeploy any function. In a checkout,
``python -m kong_cloudtrail`` loads it from here; the wheel installs it as ``kong_cloudtrail_cli``. So its modules use
relative imports.
"""

import importlib.util
import sys
from pathlib import Path


def _find_collector() -> None:
    """Make `kong_cloudtrail` importable. In a wheel, it is in the construct's package."""
    if importlib.util.find_spec("kong_cloudtrail") is not None:
        return
    parent = Path(__file__).resolve().parents[1]
    for folder in (parent / "lambda_src", parent / "kong_cloudtrail_integration" / "lambda_src"):
        if (folder / "kong_cloudtrail").is_dir():
            sys.path.append(str(folder))
            return


_find_collector()


def run() -> int:
    """Run the command in the arguments of the process, for the console script. Returns the exit status."""
    from .main import main

    return main()
