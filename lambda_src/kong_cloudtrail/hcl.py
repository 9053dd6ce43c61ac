"""The part of HCL that a Terraform variables file (``*.tfvars``) is made of: names and plain values.

Terraform allows neither references nor functions there, so this is all there is to read. A parser of one's own costs
less than a library here: whatever the function's package imports is locked, bundled and audited with it, and a
library's errors quote the line they stumble over, which may hold a token. Ours name the line and quote nothing.

Grammar: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from .errors import KongCloudTrailError

# Within a line: blanks and comments. Between lines: line breaks as well.
_BLANKS = re.compile(r"(?:[ \t]|(?:\#|//)[^\n]*|/\*.*?\*/)*", re.DOTALL)
_BLANKS_AND_BREAKS = re.compile(r"(?:\s|(?:\#|//)[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w-]*")
_NUMBER = re.compile(r"-?[ \t]*[0-9]+(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][+-]?[0-9]+)?")
_STRING = re.compile(r'"(?P<text>(?:[^"\\\n]|\\[^\n])*)"')
_HEREDOC = re.compile(r"<<(?P<flush>-?)(?P<mark>[^\W\d][\w-]*)[ \t]*\n")
_ESCAPE = re.compile(r"\$\$\{|%%\{|[$%]\{|\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_TEMPLATE = re.compile(r"\$\$\{|%%\{|[$%]\{")

_ESCAPED = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\"": '"', r"\\": "\\", "$${": "${", "%%{": "%{"}
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}

_MOST_DIGITS = 40
_DEEPEST = 20  # maps and lists in one another; each level is a level of recursion

_NO_EXPRESSIONS = "a variables file holds plain values only: no references, functions or ${…}"

Value = str | int | float | bool | None | list["Value"] | dict[str, "Assignment"]


@dataclass(frozen=True)
class Assignment:
    """What a name was set to.

    Attributes
    ----------
    value : str, int, float, bool, None, list or dict
        A list holds values, a map holds assignments.
    line : int
        The line of the file that sets it, counted from 1.
    """

    value: Value
    line: int


class HclError(KongCloudTrailError):
    """The text is no variables file.

    Attributes
    ----------
    line : int
        Where, counted from 1.
    problem : str
        What was expected there. It quotes nothing of the text.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


def parse(text: str) -> dict[str, Assignment]:
    """Read a variables file.

    Parameters
    ----------
    text
        The whole file, its lines ending with a line feed alone.

    Returns
    -------
    dict of str to Assignment
        The variables, in the order of the file.

    Raises
    ------
    HclError
        At the first place that cannot be read.
    """
    return _Reader(text).file()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def file(self) -> dict[str, Assignment]:
        variables: dict[str, Assignment] = {}
        while self._next_over_breaks():
            line = self._line()
            name = self._take(_NAME)
            if name is None:
                self._fail("the name of a variable was expected, as in NAME = value")
            if name[0] in variables:
                self._fail(f"{name[0]} is set a second time; the first time is in line {variables[name[0]].line}")
            self._assigned_by("=")
            variables[name[0]] = Assignment(self._value(), line)
            if self._next() not in ("", "\n"):
                self._fail(f"the line should end after the value; {_NO_EXPRESSIONS}")
        return variables

    def _value(self, depth: int = 0) -> Value:
        if depth > _DEEPEST:
            self._fail("lists and maps are nested too deeply")
        first = self._next()
        if first == '"':
            return self._string()
        if first == "[":
            return self._list(depth)
        if first == "{":
            return self._map(depth)
        if self._text.startswith("<<", self._at):
            return self._heredoc()
        number = self._take(_NUMBER)
        return self._word() if number is None else self._number(number)

    def _word(self) -> bool | None:
        word = _NAME.match(self._text, self._at)
        if word is None:
            self._fail("a value was expected: text in double quotes, a number, true, false, null, [a list] or {a map}")
        if word[0] not in _WORDS:
            self._fail(f"this is no value (text stands in double quotes); {_NO_EXPRESSIONS}")
        self._at = word.end()
        return _WORDS[word[0]]

    def _number(self, number: re.Match[str]) -> int | float:
        text = re.sub(r"[ \t]", "", number[0])
        if len(text) > _MOST_DIGITS:
            self._fail("the number is too long")
        if not number["fraction"] and not number["exponent"]:
            return int(text)
        value = float(text)
        if not math.isfinite(value):
            self._fail("the number is too large")
        return value

    def _string(self) -> str:
        string = self._take(_STRING)
        if string is None:
            self._fail("the text that begins here is not closed by double quotes in the same line")
        return _ESCAPE.sub(lambda escape: self._unescaped(escape[0]), string["text"])

    def _unescaped(self, escape: str) -> str:
        if escape in _ESCAPED:
            return _ESCAPED[escape]
        if escape in ("${", "%{"):
            self._fail(f"{_NO_EXPRESSIONS}. A literal ${{ is written $${{")
        if escape[1] not in "uU" or len(escape) == 2:
            self._fail(r"this escape is unknown; there are \n \r \t \" \\ \uNNNN and \UNNNNNNNN")
        code = int(escape[2:], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            self._fail("this escape stands for no character")
        return chr(code)

    def _heredoc(self) -> str:
        start = self._take(_HEREDOC)
        if start is None:
            self._fail("<< must be followed by a word that also closes the text, and by a line break")
        close = re.compile(rf"^[ \t]*{re.escape(start['mark'])}[ \t]*$", re.MULTILINE).search(self._text, self._at)
        if close is None:
            self._at = start.start()
            self._fail("the text that begins here is not closed by its word in a line of its own")
        for template in _TEMPLATE.finditer(self._text, self._at, close.start()):
            self._at = template.start()
            self._unescaped(template[0])
        lines = self._text[start.end() : close.start()].split("\n")
        if start["flush"]:
            indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
            lines = [line[min(indents, default=0) :] for line in lines]
        self._at = close.end()
        return _TEMPLATE.sub(lambda escape: self._unescaped(escape[0]), "\n".join(lines))

    def _list(self, depth: int) -> list[Value]:
        values: list[Value] = []
        self._at += 1
        while self._next_over_breaks() != "]":
            values.append(self._value(depth + 1))
            if self._next_over_breaks() == ",":
                self._at += 1
            elif self._next() != "]":
                self._fail("a comma or the list's closing ] was expected")
        self._at += 1
        return values

    def _map(self, depth: int) -> dict[str, Assignment]:
        entries: dict[str, Assignment] = {}
        self._at += 1
        while self._next_over_breaks() != "}":
            line = self._line()
            key = self._key()
            if key in entries:
                self._fail(f"this key is set a second time; the first time is in line {entries[key].line}")
            self._assigned_by("=", ":")
            entries[key] = Assignment(self._value(depth + 1), line)
            if self._next() == ",":
                self._at += 1
            elif self._next() not in ("\n", "}"):
                self._fail("a comma, the end of the line or the map's closing } was expected")
        self._at += 1
        return entries

    def _key(self) -> str:
        if self._next() == '"':
            return self._string()
        name = self._take(_NAME)
        if name is None:
            self._fail("a key was expected, as in {KEY = value}, or the map's closing }")
        return name[0]

    def _assigned_by(self, *signs: str) -> None:
        if self._next() not in signs:
            self._fail(f"{' or '.join(signs)} was expected after the name, in the same line")
        self._at += 1

    def _next(self) -> str:
        """Step over blanks; return the next character, empty at the end of the text."""
        return self._step_over(_BLANKS)

    def _next_over_breaks(self) -> str:
        return self._step_over(_BLANKS_AND_BREAKS)

    def _step_over(self, blanks: re.Pattern[str]) -> str:
        blank = blanks.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        if self._text.startswith("/*", self._at):
            self._fail("the comment that begins here is not closed by */")
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _fail(self, problem: str) -> NoReturn:
        raise HclError(self._line(), problem)
