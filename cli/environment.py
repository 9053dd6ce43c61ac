"""Where a command's settings come from: the process's environment, a file, a deployed function."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from kong_cloudtrail.errors import SettingsError

from .files import read_text
from .terminal import say

if TYPE_CHECKING:
    from kong_cloudtrail.domain.report_chain import IsSignedBy
    from kong_cloudtrail.settings import StoredTrails

_Command = TypeVar("_Command", bound=Callable[..., Any])

_ALTERNATIVES = (
    ("KONG_ADMIN_TOKEN", "KONG_ADMIN_TOKEN_SECRET"),
    ("REDIS_PASSWORD", "REDIS_PASSWORD_SECRET", "REDIS_IAM_CACHE"),
)
"""If one of these is set, the others in a source of lower precedence are ignored: a token in the shell is used."""


class Name(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """A name, which may not be empty: without one, something else would be done than was asked for."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if not str(value).strip():
            self.fail("It is empty. Is a variable of your shell not set?", param, ctx)
        return str(value)


env_file_option = click.option(
    "--env-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read environment variables from a file, NAME=value on each line.",
)


def settings_options(command: _Command) -> _Command:
    """Add the options that say where the settings come from: `env_file`, `function`, `stack`, as in `read`."""
    for option in (
        click.option(
            "--stack",
            type=Name(),
            metavar="NAME",
            help="Use the settings of the function of this CloudFormation stack.",
        ),
        click.option(
            "--function", type=Name(), metavar="NAME", help="Use the settings of this Lambda function (name or ARN)."
        ),
        env_file_option,
    ):
        command = option(command)
    return command


def public_key_option(command: _Command) -> _Command:
    """Add the option `public_key` of a command that checks the signatures of run reports."""
    return click.option(
        "--public-key",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Check signatures with this key (PEM) instead of asking KMS for the key of ARCHIVE_SIGNING_KEY.",
    )(command)


def signature_check(settings: StoredTrails, public_key: Path | None) -> IsSignedBy | None:
    """Return the check of the signatures of run reports; ``None``: there is no key to check them with.

    Raises
    ------
    SettingsError, LedgerError
        If there is one, and it is none, or cannot be had.
    """
    if public_key is None and settings.archive_signing_key is None:
        return None
    from .signatures import check_with_file, check_with_kms

    if public_key is not None:
        return check_with_file(public_key)
    return check_with_kms(settings.archive_signing_key or "")


def read(env_file: Path | None, function: str | None, stack: str | None) -> Mapping[str, str]:
    """Return the environment variables that a command works with.

    The process's environment overrides the file, and the file overrides the function. Variables of the file also become
    part of the process's environment, because AWS's libraries and OpenSSL read theirs there.

    Parameters
    ----------
    env_file
        A file of variables.
    function
        Name or ARN of a deployed function.
    stack
        Name of the CloudFormation stack of a deployed function.

    Raises
    ------
    SettingsError
        If one of these cannot be read. The message never contains a value.
    """
    if function and stack:
        raise click.UsageError("Give either --function or --stack: a stack is looked up to find its function.")
    own = dict(os.environ)
    of_file = {} if env_file is None else _read_file(env_file)
    for name, value in of_file.items():
        os.environ.setdefault(name, value)
    of_function: Mapping[str, str] = {}
    if function or stack:
        from . import deployed

        of_function = deployed.variables(function=function, stack=stack)
    weaker, merged = _overlay((of_function, of_file)), _overlay((of_function, of_file, own))
    overridden = sorted(name for name, value in weaker.items() if merged.get(name) != value)
    if overridden:
        say(f"The environment overrides {', '.join(overridden)}.")
    return merged


def _overlay(sources: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Merge sources of variables. Later ones take precedence."""
    merged: dict[str, str] = {}
    for source in sources:
        for names in _ALTERNATIVES:
            if any(source.get(name) for name in names):
                merged = {name: value for name, value in merged.items() if name not in names}
        merged |= source
    return merged


def _read_file(path: Path) -> dict[str, str]:
    from dotenv.parser import parse_stream

    variables: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(read_text(path))):
        if binding.error or (binding.key is not None and binding.value is None):
            # The message does not quote the line: it may contain a secret.
            line = binding.original.line + _blank_lines_before(binding.original.string)
            problems.append(f"{path}, line {line}: is not NAME=value")
        elif binding.key is not None and binding.value is not None:
            variables[binding.key] = binding.value
    if problems:
        raise SettingsError(problems)
    return variables


def _blank_lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")
