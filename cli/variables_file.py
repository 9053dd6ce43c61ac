"""Terraform's variables files, ``*.tfvars`` and ``*.tfvars.json``: names and plain values.

Terraform allows neither references nor functions in them. python-hcl2 parses HCL into a tree; anything but a plain
value is refused here. Messages name the line but do not quote it, as it may contain a token.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kong_cloudtrail.errors import SettingsError
from lark import Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

from .files import read_text

_DEEPEST = 20  # nested maps and lists; each level is a level of recursion
_MOST_DIGITS = 40
_NO_EXPRESSIONS = "a variables file has plain values only (text in double quotes): no references, functions or ${…}"

_NOT_CLOSED = {
    '"': "unexpected double quotes; perhaps a text before them is not closed",
    "<<": "the text that begins here with << is not closed by its word on a line of its own",
    "/*": "the comment that begins here is not closed by */",
}
"""Why parsing stops at text that begins like this."""

_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\"": '"', r"\\": "\\"}
_TEMPLATE = re.compile(r"(?P<escaped>\$\$\{|%%\{)|[$%]\{")
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}

Value = str | int | float | bool | None | list["Value"] | dict[str, "Assignment"]


@dataclass(frozen=True)
class Assignment:
    """The value of a name.

    Attributes
    ----------
    value : str, int, float, bool, None, list or dict
        A list has values, a map has assignments.
    line : int
        The line of the file, counted from 1; 0 if it is not known, as in JSON.
    """

    value: Value
    line: int


def read(path: Path) -> dict[str, Assignment]:
    """Read a variables file.

    Parameters
    ----------
    path
        A ``.tfvars`` file, or a JSON file if its name ends with ``.json``.

    Returns
    -------
    dict of str to Assignment
        The variables, in the order of the file.

    Raises
    ------
    SettingsError
        If the file cannot be read or is not a variables file.
    """
    text = read_text(path)
    try:
        return _of_json(text) if path.suffix == ".json" else _of_hcl(text)
    except _NotReadable as error:
        raise SettingsError([f"{path}{error}"]) from None


class _NotReadable(Exception):
    """The text is not a variables file. The message begins with the line."""


def _fail(line: int, problem: str) -> NoReturn:
    raise _NotReadable(f", line {line}: {problem}" if line else f": {problem}")


# -- JSON


def _of_json(text: str) -> dict[str, Assignment]:
    try:
        value = _from_json(json.loads(text, object_pairs_hook=_Pairs, parse_int=_integer, parse_constant=_no_number))
    except json.JSONDecodeError as error:
        _fail(error.lineno, "is not JSON")
    except RecursionError:
        _fail(0, "lists and maps are nested too deeply")
    if not isinstance(value, dict):
        _fail(1, 'expected a map, as in {"NAME": "value"}')
    return value


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, of which two may have the same name."""


def _from_json(value: Any) -> Value:
    if isinstance(value, _Pairs):
        assignments: dict[str, Assignment] = {}
        for name, member in value:
            _add(assignments, name, Assignment(_from_json(member), 0))
        return assignments
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        _fail(0, "a number is too large")
    plain: Value = value
    return plain


def _no_number(_: str) -> NoReturn:
    _fail(0, "NaN and Infinity are not JSON")


def _integer(text: str, line: int = 0) -> int:
    if len(text) > _MOST_DIGITS:
        _fail(line, "the number is too long")
    return int(text)


def _add(assignments: dict[str, Assignment], name: str, assignment: Assignment) -> None:
    if name in assignments:
        first = assignments[name].line
        where = f"; the first time is in line {first}" if first else ""
        _fail(assignment.line, f"a name is set a second time{where}")
    assignments[name] = assignment


# -- HCL


def _of_hcl(text: str) -> dict[str, Assignment]:
    from hcl2 import parses_to_tree

    try:
        tree = parses_to_tree(text)
    except UnexpectedInput as error:
        _fail(max(error.line, 1), _reason(text, error))
    assignments: dict[str, Assignment] = {}
    (body,) = _trees(tree)
    for statement in _trees(body):
        line = statement.meta.line
        if statement.data != "attribute":
            _fail(line, "a variables file has no blocks; write NAME = value")
        name, value = _trees(statement)
        _add(assignments, _text_of(name), Assignment(_value(value), line))
    return assignments


def _reason(text: str, error: UnexpectedInput) -> str:
    """Return what is wrong at the place where parsing stopped, without quoting it."""
    place = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    for beginning, reason in _NOT_CLOSED.items():
        if text.startswith(beginning, place):
            return reason
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return "the file ends in the middle of a value; a text, a list or a map is not closed"
    column = f" from column {error.column} on" if error.column > 0 else ""
    return (
        f"cannot be read{column}; write NAME = value on each line, the value as text in double quotes, a number, true, "
        "false, null, [a, list] or {a = map}"
    )


def _trees(parent: Tree[Token]) -> Iterator[Tree[Token]]:
    """Return the subtrees of a tree, without punctuation, line breaks and comments."""
    return (child for child in parent.children if isinstance(child, Tree) and child.data != "new_line_or_comment")


def _text_of(leaf: Tree[Token]) -> str:
    return "".join(str(child) for child in leaf.children)


def _value(tree: Tree[Token], depth: int = 0) -> Value:
    line = tree.meta.line
    if depth > _DEEPEST:
        _fail(line, "lists and maps are nested too deeply")
    if tree.data == "unary_op" and str(tree.children[0]) == "-":
        (operand,) = _trees(tree)
        number = _value(operand, depth)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number
    if tree.data == "expr_term" and isinstance(tree.children[0], Tree):
        return _term(tree.children[0], depth)
    _fail(line, _NO_EXPRESSIONS)


def _term(tree: Tree[Token], depth: int) -> Value:
    line = tree.meta.line
    match tree.data:
        case "string":
            return _string(tree)
        case "literal_value":
            return _WORDS[_text_of(tree)]
        case "int_lit":
            return _integer(_text_of(tree), line)
        case "float_lit":
            return _float(_text_of(tree), line)
        case "tuple":
            return [_value(item, depth + 1) for item in _trees(tree)]
        case "object":
            return _map(tree, depth)
        case "heredoc_template" | "heredoc_template_trim":
            return _heredoc(_text_of(tree), line, flush=tree.data == "heredoc_template_trim")
    _fail(line, _NO_EXPRESSIONS)


def _float(text: str, line: int) -> float:
    value = float(text)
    if not math.isfinite(value):
        _fail(line, "the number is too large")
    return value


def _map(tree: Tree[Token], depth: int) -> dict[str, Assignment]:
    entries: dict[str, Assignment] = {}
    for element in _trees(tree):
        key, value = _trees(element)
        _add(entries, _key(key), Assignment(_value(value, depth + 1), element.meta.line))
    return entries


def _key(tree: Tree[Token]) -> str:
    """Return a key: a name, or text in quotes."""
    (content,) = _trees(tree)
    while content.data == "expr_term" and isinstance(content.children[0], Tree):
        content = content.children[0]
    if content.data == "string":
        return _string(content)
    if content.data in ("identifier", "keyword", "literal_value", "int_lit"):
        return _text_of(content)
    _fail(tree.meta.line, _NO_EXPRESSIONS)


def _string(tree: Tree[Token]) -> str:
    line = tree.meta.line
    parts = []
    for part in _trees(tree):
        (content,) = part.children
        if not isinstance(content, Token):
            _fail(line, f"{_NO_EXPRESSIONS}. A literal ${{ is written $${{")
        if "\n" in content:
            _fail(line, "the text that begins here is not closed by double quotes on the same line")
        escaped = content.type in ("ESCAPED_INTERPOLATION", "ESCAPED_DIRECTIVE")
        text = content[1:] if escaped else str(content)
        parts.append(_ESCAPE.sub(lambda escape: _unescaped(escape[0], line), text))
    return "".join(parts)


def _unescaped(escape: str, line: int) -> str:
    if escape in _ESCAPED:
        return _ESCAPED[escape]
    if escape[1] not in "uU" or len(escape) == 2:
        _fail(line, r"unknown escape in this text; the known ones are \n \r \t \" \\ \uNNNN and \UNNNNNNNN")
    code = int(escape[2:], 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        _fail(line, "an escape in this text stands for no character")
    return chr(code)


def _heredoc(text: str, line: int, *, flush: bool) -> str:
    lines = text.rstrip("\n").split("\n")[1:-1]  # without the marks
    for number, content in enumerate(lines, line + 1):
        if any(not found["escaped"] for found in _TEMPLATE.finditer(content)):
            _fail(number, f"{_NO_EXPRESSIONS}. A literal ${{ is written $${{")
    if flush:
        indents = [len(content) - len(content.lstrip(" \t")) for content in lines if content.strip()]
        lines = [content[min(indents, default=0) :] for content in lines]
    body = "".join(f"{content}\n" for content in lines)
    return _TEMPLATE.sub(lambda found: found[0][1:], body)
