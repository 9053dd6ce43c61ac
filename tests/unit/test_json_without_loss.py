"""Payloads are parsed only where parsing loses nothing, and pages are read whatever one entry holds."""

import json

import pytest
from kong_cloudtrail.domain.jsontext import decode_container, decode_page, encode
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import entry, event_of


def _text_of(value: object) -> str:
    """Undo `decode_page` for what the tests nest."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return f'{{"a":0,"a":{_text_of(value[1][1])}}}'
    if isinstance(value, list):
        return f"[{_text_of(value[0])}]"
    if isinstance(value, dict):
        return f'{{"]":{_text_of(value["]"])}}}'
    return str(value)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"billing","tags":["a","b"]}',
        "[]",
        "{}",
        '[1,"a",null,true]',
        ' \t\r\n{"a":1} ',
        '{"path":"a\\/b"}',
        '{"name":"\\u00e9\\ud83d\\ude00","other":"é😀"}',
        '{"half":"\\ud800"}',
        '{"largest":9007199254740992,"smallest":-9007199254740992}',
        '{"numbers":[0.1,1.0,1e2,-0.0,5e-324,1.50]}',
        '{"a":{"a":{"a":1}}}',
        nested(200),
        "[" + "[]," * 300 + "[]]",
    ],
)
def test_payload_is_parsed_where_that_loses_nothing(text: str) -> None:
    assert event_of(entry(path="/", payload=text))["requestParameters"] == {"payload": json.loads(text)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "true",
        "17",
        '"text"',
        "NaN",
        "name=billing&x=1",
        '\ufeff{"a":1}',
        '{"a":1}{"b":2}',
        '{"a":1',
        "{'a':1}",
        '{"a":1,}',
        '{"a":1,"a":2}',
        '{"a":1,"a":1}',
        '{"deep":[{"a":1,"\\u0061":2}]}',
        '{"a":9007199254740993}',
        '{"a":-9007199254740993}',
        '{"a":123456789012345678901234567890}',
        '{"a":' + "9" * 5_000 + "}",
        '{"a":-0}',
        '{"a":0.12345678901234567890}',
        '{"a":1e400}',
        '{"a":1e-400}',
        '{"a":1e999999999999999999999}',
        '{"a":NaN}',
        '{"a":[Infinity]}',
        '{"a":-Infinity}',
        '{"a":"\n"}',
        nested(201),
        nested(100_000),
        "[" * 100_000,
        '{"a":"\udcff',
        "{",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_payload_stays_the_text_that_it_was_otherwise(text: str) -> None:
    parameters = event_of(entry(path="/", payload=text))["requestParameters"]

    if len(text) < 100_000:
        assert parameters == {"payload": text}
    else:
        assert text.startswith(parameters["payload"])  # too long for CloudTrail, and still a text
    assert decode_container(text) is None


class TestPage:
    @pytest.mark.parametrize(
        ("literal", "value"),
        [
            ("9007199254740993", 9007199254740993),
            ("1" + "0" * 300, 10**300),
            ("0.1", 0.1),
            ("0.12345678901234567890", "0.12345678901234567890"),
            ("1e400", "1e400"),
            ("9" * 5_000, "9" * 5_000),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_no_number_is_rounded(self, literal: str, value: object) -> None:
        assert decode_page(f'{{"data":[{{"n":{literal}}}]}}'.encode()) == {"data": [{"n": value}]}

    def test_repeated_key_loses_nothing(self) -> None:
        page = decode_page(b'{"data":[{"path":"/first","path":"/second"},{"path":"/ok"}]}')

        assert page == {"data": [[("path", "/first"), ("path", "/second")], {"path": "/ok"}]}

    def test_bytes_that_are_no_text_do_not_spoil_the_page(self) -> None:
        page = decode_page(b'{"data":[{"path":"/\xff\xfe"},{"path":"/ok"}]}')

        assert [row["path"] for row in page["data"]] == ["/\udcff\udcfe", "/ok"]

    @pytest.mark.parametrize("depth", [198, 900, 960, 980, 1000, 100_000])
    @pytest.mark.parametrize("shape", ["lists", "objects", "repeated keys"])
    def test_what_is_nested_very_deep_stays_a_text(self, depth: int, shape: str) -> None:
        opening = {"lists": "[", "objects": '{"]":', "repeated keys": '{"a":0,"a":'}[shape]
        closing = "]" if shape == "lists" else "}"
        odd = opening * depth + "0" + closing * depth

        page = decode_page(f'{{"data":[{{"path":"/ok","status":{odd},"x{{":1}},{{"path":"/\\"{{"}}]}}'.encode())

        assert page["data"][1] == {"path": '/"{'}
        assert page["data"][0].keys() == {"path", "status", "x{"}
        # Kept to the last bracket, and fit to be read, serialised and identified
        assert _text_of(page["data"][0]["status"]) == odd
        assert read_entry(page["data"][0]).original() == read_entry(page["data"][0]).original()

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 9999, b'{"a":' * 9999, b'{"data":[', b"{}{}", b"\xff"])
    def test_anything_else_than_json_is_an_error(self, body: bytes) -> None:
        with pytest.raises(ValueError):
            decode_page(body)


def test_entry_with_a_repeated_key_stays_the_same_entry_while_its_ttl_falls() -> None:
    def key(ttl: int, path: str = "/b") -> str:
        body = f'{{"data":[{{"path":"/a","path":"{path}","ttl":{ttl}}}]}}'
        return read_entry(decode_page(body.encode())["data"][0]).key

    assert key(100) == key(99)
    assert key(100) != key(100, "/c")


def test_text_is_ascii_and_compact_and_keeps_lone_surrogates() -> None:
    assert encode({"a": ["é", "\ud800", 1]}) == '{"a":["\\u00e9","\\ud800",1]}'


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_does_not_spoil_the_page(number: str) -> None:
    assert decode_page(b'{"data":[{"x":%b},{"y":1}]}' % number.encode()) == {"data": [{"x": number}, {"y": 1}]}


def test_control_characters_do_not_spoil_the_page() -> None:
    assert decode_page(b'{"data":["a\tb\x00"]}') == {"data": ["a\tb\x00"]}
