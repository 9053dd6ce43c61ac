"""The function's table of variables, read from the function's own source by its path.

So the deployment runs the very checks that the function runs, and nothing of the function is imported: neither its
package nor its libraries have to be installed.
"""

import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from ..parts.lambda_asset import PACKAGE, source_directory


def _load() -> Any:
    name = f"{__name__}_of_the_function"
    specification = spec_from_file_location(name, source_directory() / PACKAGE / "variables.py")
    if specification is None or specification.loader is None:
        raise ImportError("The function's table of variables cannot be loaded. Install again.")
    module = sys.modules[name] = module_from_spec(specification)  # its dataclasses look their module up there
    specification.loader.exec_module(module)
    return module


table: Any = _load()
"""The module: checks for single kinds (`table.boolean`, `table.url`, …) and `table.TABLE`."""

VARIABLES: Mapping[str, Any] = {variable.name: variable for variable in table.TABLE}
"""Every variable by its name."""

SETTINGS: tuple[str, ...] = tuple(name for name, variable in VARIABLES.items() if variable.setting)
"""What a caller may set. The same names in lower case are the settings."""

SECRETS: tuple[str, ...] = tuple(name for name, variable in VARIABLES.items() if variable.secret)
"""What holds a secret and is never taken."""

BY_DEPLOYMENT: tuple[str, ...] = tuple(name for name in VARIABLES if name not in {*SETTINGS, *SECRETS})
"""What follows from the resources of the deployment."""

REQUIRED: Mapping[str, str] = {name: VARIABLES[name].missing for name in SETTINGS if VARIABLES[name].missing}
"""What to give where a setting without a default is missing."""

DEFAULTS: Mapping[str, str] = {
    name: variable.default for name, variable in VARIABLES.items() if variable.default is not None
}
"""What the function goes by where a variable is not given."""
