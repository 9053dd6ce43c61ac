"""JSON without loss: what the source wrote is what the destination gets.

Parsers lose three things that an audit trail must keep: repeated keys (the last one wins), digits of a number that a
double cannot represent, and bytes that are not UTF-8. The decoders here keep or refuse each of them.

orjson is several times faster than the standard library, and loses them, too. So it is used where its result proves
that nothing was lost: what it parsed is written again, and must be the same bytes. Everything else takes the slow path,
and so does everything where a bundle of another architecture is run, as orjson has no Python twin.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

MAX_SAFE_INTEGER = 2**53
"""Above this, JSON readers that use doubles round integers (RFC 8259, section 6)."""

MAX_NESTING = 200
"""Deeper JSON is kept as text: other parsers may refuse it, and none of Kong's own bodies is nearly as deep."""

_MAX_PROVEN_BYTES = 8 * 2**20
"""Larger texts are not parsed twice, nor held in memory once more. A usual page is a twentieth of that."""

_MAX_FAST_CHARACTERS = 256 * 1024
"""orjson reserves sixteen times the length of a text, while it writes it."""

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

    Parameters
    ----------
    value
        What a decoder of this module returned, or is made of such values: no NaN and no infinities.
    """
    if orjson is None or _has_long_text(value):
        return canonical(value)
    try:
        text = orjson.dumps(value)
    except TypeError:  # a lone surrogate, an integer of more than 64 bits, or deep nesting
        return canonical(value)
    if b"\x7f" in text:  # which JSON may escape or not: readers that write a text again may make it longer
        return canonical(value)
    return (text if text.isascii() else text.decode().encode("ascii", _ESCAPING)).decode("ascii")


def _has_long_text(value: object) -> bool:
    """Return whether a text in a value, or in a part of it, is so long that orjson would reserve memory many times."""
    if type(value) is not dict:
        return type(value) is str and len(value) > _MAX_FAST_CHARACTERS
    for part in value.values():
        if type(part) is str:
            if len(part) > _MAX_FAST_CHARACTERS:
                return True
        elif type(part) is dict:
            for text in part.values():
                if type(text) is str and len(text) > _MAX_FAST_CHARACTERS:
                    return True
    return False


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return encode_basestring_ascii(error.object[error.start : error.end])[1:-1], error.end


_ESCAPING = "kong_cloudtrail.json"
codecs.register_error(_ESCAPING, _escaped)


def canonical(value: object) -> str:
    """Serialise as `encode`, with the standard library alone, for hashes that last longer than a release of orjson.

    The two write the same value, and some floats differently.
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
    # Kong's JSON library escapes slashes. If that was anything but such an escape, the proof fails.
    proven = _proven(body.replace(b"\\/", b"/") if b"\\/" in body else body)
    if proven is not None:
        return proven
    text = body.decode("utf-8", "surrogateescape")
    # Few pages need the slow path: an integer of thousands of digits, deep nesting, or invalid JSON.
    with contextlib.suppress(ValueError, RecursionError):
        document = _page_decoder.decode(text)
        if not _is_nested_deeper(document, _brackets(text)):
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
    value: dict[str, Any] | list[Any] | None = None
    if '": ' not in text:  # a text with spaces proves nothing
        with contextlib.suppress(UnicodeEncodeError):
            value = _proven(text.encode(), has_safe_integers=True)
    if value is not None:
        return value
    try:
        value = _strict_decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_nested_deeper(value, _brackets(text)) else value


def _proven(body: bytes, *, has_safe_integers: bool = False) -> Any:
    """Parse a text; ``None`` unless parsing provably lost nothing: the value, written again, is the same text.

    With `has_safe_integers`, integers that `_strict_decoder` refuses prove nothing either.
    """
    if orjson is None or len(body) > _MAX_PROVEN_BYTES:
        return None
    option = orjson.OPT_STRICT_INTEGER if has_safe_integers else None
    try:
        value = orjson.loads(body)
        is_proven = orjson.dumps(value, option=option) == body
    except (ValueError, TypeError):  # not JSON; an integer that `option` refuses, or deep nesting
        return None
    return value if is_proven and not _is_nested_deeper(value, body.count(b"{") + body.count(b"[")) else None


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


def _brackets(text: str) -> int:
    return text.count("{") + text.count("[")


def _is_nested_deeper(value: object, brackets: int) -> bool:
    if brackets <= MAX_NESTING:
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
