"""Translates the Terraform variables of Kong's proof of concept into context of the CDK app.

Every variable of the proof of concept becomes a context value or a remark. Nothing that may be secret is printed: not
the token, not the credentials in a URL, not the value of an unknown name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from kong_cloudtrail.errors import SettingsError

from . import variables_file
from .variables_file import Assignment, Value

TOKEN_SECRET = "kong-admin-token"  # noqa: S105 - a secret's name
"""Name of the secret that the printed command creates."""

_ContextValue = str | bool | list[str] | dict[str, str]
_T = TypeVar("_T")

_NO_CA = ("null", "none", "disabled")
_SHORTEST_TOKEN = 8  # a shorter one occurs in other values by chance

_REQUIRED = {
    "existing_vpc": "the id of the VPC where Kong's control plane runs",
    "existing_subnet_ids": "the ids of at least two of its subnets, in two zones",
    "channel_arn": "the ARN of the CloudTrail Lake channel",
    "kong_admin_api": "the URL of Kong's Admin API, with protocol and port",
}
"""Context values that the app requires, and what they are."""

_STAYS_BEHIND = {
    "image": "is not needed: the function's code is bundled with the app.",
    "cloudtrail_retention": "belongs to the event data store, which the deployment does not change. If your version of "
    "the script created that store, remove it from Terraform's state before you destroy anything.",
    "lambda_env REDIS_HOST": "is not needed: the deployment creates its own cache.",
}


@dataclass(frozen=True)
class Translation:
    """A variables file, translated for the CDK app.

    Attributes
    ----------
    context : mapping
        Context values by their names.
    remarks : tuple of str
        What was not translated and why, and what is still missing. No remark repeats a value.
    """

    context: Mapping[str, _ContextValue]
    remarks: tuple[str, ...]

    def as_json(self) -> str:
        """Return the ``context`` object of ``cdk.json``."""
        return json.dumps({"context": self.context}, indent=2)

    def as_arguments(self) -> str:
        """Return the context as ``-c`` arguments of ``cdk deploy``, quoted for a shell, one per line."""
        lines = [f"-c {name}={shlex.quote(_argument(value))}" for name, value in self.context.items()]
        return " \\\n".join(["cdk deploy", *(f"  {line}" for line in lines)])


def read(path: Path) -> Translation:
    """Translate a variables file.

    Parameters
    ----------
    path
        A ``.tfvars`` or ``.tfvars.json`` file.

    Raises
    ------
    SettingsError
        If the file cannot be read or understood. The message has the line of each problem, and no value.
    """
    variables = variables_file.read(path)
    translator = _Translator(variables)
    translation = translator.translate()
    if translator.problems:
        raise SettingsError(
            [
                f"{path}, line {line}: {problem}" if line else f"{path}: {problem}"
                for line, problem in translator.problems
            ]
        )
    return translation


def _place(line: int) -> str:
    """Return the line of something in the file; nothing for JSON, as its parser does not say."""
    return f" (line {line})" if line else ""


def _argument(value: _ContextValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _Translator:
    """Removes variables from the file one by one; those that are left in the end are unknown."""

    def __init__(self, variables: Mapping[str, Assignment]) -> None:
        self.problems: list[tuple[int, str]] = []
        self._remarks: list[str] = []
        self._left = dict(variables)
        given = self._left.pop("lambda_env", Assignment(None, 0))
        if isinstance(given.value, dict):
            self._left |= {f"lambda_env {name}": entry for name, entry in given.value.items()}
        elif given.value is not None:
            self._problem(given.line, "lambda_env must be a map, as in {KONG_ADMIN_API = …}")

    def translate(self) -> Translation:
        token_line, token = self._line("lambda_env KONG_ADMIN_TOKEN"), self._text("lambda_env KONG_ADMIN_TOKEN")
        superadmin = self._take("lambda_env KONG_SUPERADMIN", _boolean, "true or false")
        everything: dict[str, _ContextValue | None] = {
            "aws_region": self._text("aws_region"),
            "existing_vpc": self._text("existing_vpc"),
            "existing_subnet_ids": self._take("existing_subnet_ids", _texts, "a list of text"),
            "channel_arn": self._channel_arn(),
            "kong_admin_api": self._admin_api(),
            "kong_superadmin": superadmin,
            "kong_admin_token_secret": TOKEN_SECRET if token and superadmin is not False else None,
            "kong_root_ca": self._root_ca(),
            "redis_db": self._text("lambda_env REDIS_DB"),
            "resource_name": self._text("resource_name"),
            "security_group": self._text("security_group"),
            "resource_tags": self._take("resource_tags", _text_map, "a map of text"),
        }
        context = {name: value for name, value in everything.items() if value is not None and value not in ("", [], {})}
        for name in [name for name, value in context.items() if token and _holds(value, token)]:
            del context[name]
            self._remarks.append(f"{name}: is left out, as its value contains the token; add it by hand.")
        if token:
            self._remark_on_token(token_line, superadmin, context.get("aws_region"))
        elif superadmin:
            self._remarks.append(
                "lambda_env KONG_ADMIN_TOKEN: is not in the file; the deployment creates an empty secret, and its "
                "output FillKongAdminToken shows the command that fills it."
            )
        self._remark_on_names(context)
        self._remark_on_rest()
        return Translation(context, tuple(self._remarks))

    def _problem(self, line: int, problem: str) -> None:
        self.problems.append((line, problem))

    def _line(self, name: str) -> int:
        return self._left[name].line if name in self._left else 0

    def _take(self, name: str, convert: Callable[[Value], _T | None], what: str) -> _T | None:
        """Return a variable's value, or None if it is absent, null or wrong."""
        given = self._left.pop(name, None)
        if given is None or given.value is None:
            return None
        value = convert(given.value)
        if value is None:
            self._problem(given.line, f"{name} must be {what}")
        return value

    def _text(self, name: str) -> str | None:
        return self._take(name, _text, "text")

    def _channel_arn(self) -> str | None:
        """Return the channel. The proof of concept has two variables for it: for its policy and its function."""
        lines = self._line("channel_arn"), self._line("lambda_env CHANNEL_ARN")
        of_policy, of_function = self._text("channel_arn"), self._text("lambda_env CHANNEL_ARN")
        if of_policy and of_function and of_policy != of_function:
            self._problem(
                lines[0],
                f"channel_arn differs from CHANNEL_ARN of lambda_env{_place(lines[1])}; write the same channel in both "
                "places",
            )
        return of_policy or of_function

    def _admin_api(self) -> str | None:
        name = "lambda_env KONG_ADMIN_API"
        line, url = self._line(name), self._text(name)
        if url and not _is_plain_url(url):
            self._problem(
                line,
                f"{name} must be protocol, host and port, without credentials and without a query, e.g. "
                "https://kong-admin.example.com:8444",
            )
        return url

    def _root_ca(self) -> str | None:
        name = "lambda_env KONG_ROOT_CA"
        line, pem = self._line(name), self._text(name)
        if pem and "PRIVATE KEY-----" in pem:
            self._problem(line, f"{name} contains a private key; write only the CA's certificate")
        return None if pem and pem.strip().lower() in _NO_CA else pem

    def _remark_on_token(self, line: int, superadmin: bool | None, region: _ContextValue | None) -> None:
        what = f"lambda_env KONG_ADMIN_TOKEN{_place(line)}"
        if superadmin is False:
            self._remarks.append(f"{what}: is left out: it was not used, as KONG_SUPERADMIN is false.")
            return
        regional = f" --region {shlex.quote(region)}" if isinstance(region, str) else ""
        self._remarks.append(
            f"{what}: is not printed. Store it before you deploy; this command waits until you paste it:\n"
            f'    read -rs TOKEN; printf %s "$TOKEN" | aws secretsmanager create-secret{regional} '
            f"--name {TOKEN_SECRET} --secret-string file:///dev/stdin\n"
            "  It was in this file, in Terraform's state and in the old function's environment, so issue a new one in "
            "Kong."
        )

    def _remark_on_names(self, context: Mapping[str, object]) -> None:
        if not self.problems:
            self._remarks += [
                f"{name}: is not in the file; add {what}." for name, what in _REQUIRED.items() if name not in context
            ]
        self._remarks.append(
            "resource_name: the old function has this name until it is removed. Choose another one now, and keep it: "
            "it is part of the checkpoint's key."
        )

    def _remark_on_rest(self) -> None:
        for name, given in self._left.items():
            if name in _STAYS_BEHIND:
                reason = _STAYS_BEHIND[name]
            elif name.startswith("lambda_env "):
                reason = "is left out: the script never passed it to the function."
            else:
                reason = "is left out: it is not a variable of the proof of concept."
            self._remarks.append(f"{name}{_place(given.line)}: {reason}")


def _text(value: Value) -> str | None:
    """Convert as Terraform does where a variable's type is ``string``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _texts(value: Value) -> list[str] | None:
    texts = [_text(item) for item in value] if isinstance(value, list) else [None]
    return None if None in texts else [text for text in texts if text]


def _text_map(value: Value) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    texts = {name: _text(item.value) for name, item in value.items() if item.value is not None}
    return None if None in texts.values() else {name: text for name, text in texts.items() if text is not None}


def _boolean(value: Value) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(_text(value) or "")


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.netloc) and "@" not in url and not parts.query and not parts.fragment


def _holds(value: _ContextValue, token: str) -> bool:
    if len(token) < _SHORTEST_TOKEN or isinstance(value, bool):
        return False
    texts = [value] if isinstance(value, str) else [*value, *(value.values() if isinstance(value, dict) else [])]
    return any(token in text for text in texts)
