"""Payloads are parsed only where parsing loses nothing, and pages are read whatever one entry holds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.domain import jsontext
from kong_cloudtrail.domain.jsontext import canonical, decode_container, decode_page, encode
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import entry, event_of, examples


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


SCALARS = st.sampled_from(
    [
        "0",
        "-0",
        "1",
        "-1",
        "1.0",
        "1.50",
        "0.1",
        "1e2",
        "1E2",
        "1e16",
        "1e-7",
        "-0.0",
        "1e400",
        "5e-324",
        "null",
        "true",
        "9007199254740991",
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "0.12345678901234567890",
        '""',
        '"/"',
        '"\\/"',
        '"\\\\/"',
        '"\\\\\\/"',
        '"é✓😀"',
        '"\\u00e9"',
        '"\\ud800"',
        '"\x7f"',
        '"\\u007f"',
        '"\\n"',
    ]
)
KEYS = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"/"', '"\\/"', '"é"', '""'])
TEXTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(KEYS, inner), max_size=3).map(
            lambda pairs: f"{{{','.join(f'{key}:{value}' for key, value in pairs)}}}"
        )
    ),
    max_leaves=6,
)


@settings(max_examples=examples(1000), deadline=None)
@given(TEXTS)
def test_what_is_read_fast_is_what_is_read_slowly(text: str) -> None:
    # With a space behind it, a text is not what orjson writes: so nothing is proven, and it is read slowly.
    assert repr(decode_page(text.encode())) == repr(decode_page(f"{text} ".encode()))
    assert repr(decode_container(text)) == repr(decode_container(f"{text} "))


def test_pages_as_kong_writes_them_are_read_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "_page_decoder", None)

    assert decode_page('{"data":[{"path":"\\/a","user":"zoë","ttl":1}]}'.encode()) == {
        "data": [{"path": "/a", "user": "zoë", "ttl": 1}]
    }


@settings(max_examples=examples(300), deadline=None)
@given(TEXTS)
def test_what_is_written_fast_is_what_is_written_slowly(text: str) -> None:
    value = decode_page(text.encode())

    assert encode(value).isascii()
    assert repr(json.loads(encode(value))) == repr(json.loads(canonical(value)))


@pytest.mark.parametrize("value", [2**64, "\ud800", [[]] * 300, {"é\ud83d": ["✓" * 1000]}])
def test_what_orjson_cannot_write_is_written(value: object) -> None:
    for _ in range(300):
        value = [value]

    assert encode(value) == canonical(value)


def test_bundle_of_another_architecture_reads_and_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"data":[{"path":"\\/a","user":"zoë","payload":"{\\"a\\":[1,2.5]}"}]}'.encode()
    page = decode_page(body)
    written = encode(page)

    monkeypatch.setattr(jsontext, "orjson", None)

    assert decode_page(body) == page
    assert encode(page) == written
    assert decode_container(page["data"][0]["payload"]) == {"a": [1, 2.5]}
