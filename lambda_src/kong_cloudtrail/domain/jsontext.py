"""JSON without loss: what the source wrote is what the destination gets.

Python's defaults lose three things that an audit trail must keep: repeated keys (the last one wins), digits of a number
that a double cannot represent, and bytes that are not UTF-8. The decoders here keep or refuse each of them.
"""

from __future__ import annotations

import contextlib
import json
import re
from decimal import Decimal
from typing import Any, NoReturn

MAX_SAFE_INTEGER = 2**53
"""Above this, JSON readers that use doubles round integers (RFC 8259, section 6)."""

MAX_NESTING = 200
"""Deeper JSON is kept as text: other parsers may refuse it, and none of Kong's own bodies is nearly as deep."""

_MAX_INTEGER_DIGITS = 4000  # CPython refuses to convert more than 4300 digits


class LossyJSON(ValueError):
    """Parsing this text would lose a piece of it."""


def _refuse_constant(text: str) -> NoReturn:
    raise LossyJSON(f"{text} is not JSON")


def _is_exact(text: str, number: float) -> bool:
    try:
        return Decimal(text) == Decimal(repr(number))
    except ArithmeticError:  # an exponent beyond what Decimal handles
        return False


def _safe_integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_SAFE_INTEGER or text == "-0":
        raise LossyJSON("a number that a double rounds")
    return number


def _safe_float(text: str) -> float:
    number = float(text)
    if not _is_exact(text, number):
        raise LossyJSON("a number that a double rounds")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise LossyJSON("a repeated key")
    return fields


def _pairs_if_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any] | list[tuple[str, Any]]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else pairs


def _integer_or_text(text: str) -> int | str:
    return int(text) if len(text) <= _MAX_INTEGER_DIGITS else text


def _float_or_text(text: str) -> float | str:
    number = float(text)
    return number if _is_exact(text, number) else text


_CONTAINERS = (dict, list, tuple)  # several times faster than dict | list, and asked of every field of a page
_string_or_bracket = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)

_surrogates_or_escape = re.compile(r"\\ud[89ab]..\\ud[c-f]..|(?P<lone>\\ud[89a-f]..)|\\.")

_strict_decoder = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_int=_safe_integer, parse_float=_safe_float, parse_constant=_refuse_constant
)
_tolerant: dict[str, Any] = {
    "strict": False,  # control characters in strings are not valid JSON, but they are what was sent
    "object_pairs_hook": _pairs_if_repeated,
    "parse_float": _float_or_text,
    "parse_constant": str,  # NaN and infinities: not valid JSON either, kept as text
}
_page_decoder = json.JSONDecoder(**_tolerant)
_long_integers_decoder = json.JSONDecoder(**_tolerant, parse_int=_integer_or_text)
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False)


def encode(value: object) -> str:
    r"""Serialise compactly, in ASCII.

    Escaping everything else keeps lone surrogates (``\\ud800``), which UTF-8 cannot carry, and makes the length of the
    text its length in bytes.
    """
    return _encoder.encode(value)


def with_valid_strings(text: str) -> str:
    r"""Return a text of `encode` with U+FFFD in place of lone surrogates; the same text if it has none.

    RFC 8259 allows ``"\\ud800"``, but strict parsers refuse the whole document for it.
    """
    if "\\ud" not in text:
        return text
    return _surrogates_or_escape.sub(lambda found: r"\ufffd" if found["lone"] else found[0], text)


def readable(text: str, value: object, end: str) -> str:
    """Return a text of `encode` in a form that every JSON parser reads.

    Parameters
    ----------
    text
        The text. The last field of its last object is ``entry``.
    value
        The value of that field.
    end
        What closes the text after the entry.

    Returns
    -------
    str
        The text itself, unless it is not valid Unicode. Then that is replaced, and ``entryText`` follows ``entry``: the
        exact entry, as JSON in a string.
    """
    valid = with_valid_strings(text)
    if valid == text:
        return text
    return f'{valid.removesuffix(end)},"entryText":{encode(encode(value))}{end}'


def decode_page(body: bytes) -> Any:
    """Parse a response body of Kong.

    Bytes that are not UTF-8 become lone surrogates (PEP 383), so that one odd entry does not make its page unreadable.
    A number that Python would round is kept as text; integers are exact. An object with a repeated key becomes an array
    of its names and values. Values nested deeper than `MAX_NESTING` are kept as text, so that everything derived from
    the answer can be serialised.

    Raises
    ------
    ValueError
        If the body is not JSON.
    """
    text = body.decode("utf-8", "surrogateescape")
    # Few pages need the slow path: an integer of thousands of digits, deep nesting, or invalid JSON.
    with contextlib.suppress(ValueError, RecursionError):
        document = _page_decoder.decode(text)
        if not _is_nested_deeper(document, text):
            return document
    return _long_integers_decoder.decode(_with_deep_parts_as_text(text))


def decode_container(text: str) -> dict[str, Any] | list[Any] | None:
    """Parse a text that is a JSON object or array, if parsing loses nothing.

    Returns
    -------
    dict, list or None
        ``None`` if the text should stay text: it is a scalar or not JSON, has a repeated key or a number that a double
        would round, or is nested deeper than `MAX_NESTING`.
    """
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return None
    try:
        value = _strict_decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_nested_deeper(value, text) else value


def _with_deep_parts_as_text(text: str) -> str:
    pieces: list[str] = []
    copied_to = begin = depth = 0
    for token in _string_or_bracket.finditer(text):
        if token[0] in ("{", "["):
            depth += 1
            if depth == MAX_NESTING + 1:
                begin = token.start()
        elif token[0] in ("}", "]"):
            if depth == MAX_NESTING + 1:
                pieces += text[copied_to:begin], encode(text[begin : token.end()])
                copied_to = token.end()
            depth -= 1
    if depth > 0:
        raise ValueError("brackets that nothing closes")
    return "".join(pieces) + text[copied_to:]


def _is_nested_deeper(value: object, text: str) -> bool:
    if text.count("{") + text.count("[") <= MAX_NESTING:
        return False
    level: list[object] = [value]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return [child for child in node.values() if isinstance(child, _CONTAINERS)]
    if isinstance(node, (list, tuple)):  # a tuple is a name and a value of an object with a repeated key
        return [child for child in node if isinstance(child, _CONTAINERS)]
    return []
