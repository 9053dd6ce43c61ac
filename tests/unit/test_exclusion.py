"""What a rule excludes, and what it must never exclude: nothing hides behind a rule that was made for others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.assembly import exclusion_of
from kong_cloudtrail.domain import exclusion
from kong_cloudtrail.domain.exclusion import Excluded, ExcludedEntry, Exclusion, PathPattern, routed_path
from kong_cloudtrail.settings import Settings
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.sources.kong.own_reads import own_reads

from tests.helpers import NOW, entry, settings_environment

PAIRS = [("request_timestamp", NOW), ("method", "GET"), ("path", "/status"), ("status", 200), ("status", 200)]


def rule_for(value: object, **rules: Any) -> str | None:
    return Exclusion.of(**rules).rule_of(read_entry(value))


class TestRules:
    def test_name_of_the_first_one_that_matches_is_returned(self) -> None:
        status = entry(method="GET", path="/status", status=304)

        assert rule_for(status, methods=["HEAD", "GET"], paths=["/status"], statuses=["3xx"]) == "method:GET"
        assert rule_for(status, methods=["HEAD"], paths=["/x", "/status"], statuses=["3xx"]) == "path:/status"
        assert rule_for(status, methods=["HEAD"], paths=["/x"], statuses=["200", "3xx"]) == "status:3xx"
        assert rule_for(status, methods=["HEAD"], paths=["/x"], statuses=["200"]) is None

    def test_there_are_none_by_default(self) -> None:
        rules = exclusion_of(Settings.from_mapping(settings_environment()))

        assert rules.names == ()
        assert rules.rule_of(read_entry(entry())) is None

    def test_settings_become_rules(self) -> None:
        rules = exclusion_of(
            Settings.from_mapping(
                settings_environment(
                    EXCLUDE_METHODS="head, get",
                    EXCLUDE_PATHS="/status, /metrics/**",
                    EXCLUDE_STATUSES="204,3XX",
                    EXCLUDE_OWN_READS="collector",
                )
            )
        )

        assert rules.names == (
            "own_reads",
            "method:HEAD",
            "method:GET",
            "path:/status",
            "path:/metrics/**",
            "status:204",
            "status:3xx",
        )

    @pytest.mark.parametrize(
        "value",
        [
            entry(method=None, path=None, status=None),
            entry(method=["GET"], path=["/status"], status="200"),
            entry(method="get", path={"/status": 1}, status=200.0),
            entry(method=1, path=1, status=True),
            entry(method="GET ", path="status", status=2000),
            entry(method="GET", path="/status", status=200, request_timestamp=None),
            {"request_timestamp": NOW},
            PAIRS,
            None,
            "GET",
            [],
        ],
        ids=repr,
    )
    def test_entry_with_a_missing_or_odd_field_is_never_excluded(self, value: object) -> None:
        assert rule_for(value, methods=["GET"], paths=["/status", "/**/status"], statuses=["2xx", "1xx"]) is None


class TestPaths:
    @pytest.mark.parametrize(
        ("pattern", "matched", "others"),
        [
            ("/", ["/", "/?a=b"], ["", "/status", "//"]),
            ("/status", ["/status", "/status/", "/status?x=/y"], ["/status/x", "/a/status", "/statusx", "/Status"]),
            ("/services/*", ["/services/a"], ["/services", "/services/a/b", "/a/services/b"]),
            ("/a*b/c", ["/ab/c", "/aXXb/c"], ["/a/b/c", "/ab/c/d", "/bab/c", "/aXb"]),
            ("/*a*a", ["/aa", "/xaya", "/aaa"], ["/a", "/aab"]),
            ("/metrics/**", ["/metrics", "/metrics/a", "/metrics/a/b"], ["/metricsx", "/x/metrics"]),
            ("/**/plugins", ["/plugins", "/a/plugins", "/a/b/plugins"], ["/plugins/a", "/a/pluginsx"]),
            ("/a/**/b*/c/**/d", ["/a/bx/c/d", "/a/b/x/b/c/y/d"], ["/a/b/c", "/a/d", "/a/bx/y/c/d"]),
            ("/**/a/**/a", ["/a/a", "/x/a/y/a"], ["/a", "/a/x"]),
        ],
    )
    def test_pattern_matches_whole_paths(self, pattern: str, matched: list[str], others: list[str]) -> None:
        assert [path for path in matched if rule_for(entry(path=path), paths=[pattern]) is None] == []
        assert [path for path in others if rule_for(entry(path=path), paths=[pattern]) is not None] == []

    @pytest.mark.parametrize(
        "path",
        [
            "/status/../consumers",
            "/status/./../consumers",
            "/status/..",
            "/status/%2e%2e/consumers",
            "/status%2F..%2Fconsumers",
            "/status//",
            "//status/x",
            "/status\\..\\consumers",
            "/status/#/../../consumers",
            "/status/\u200b",
            "/status/a b",
            "/status/\n",
            "http://kong/status/x",
            "/consumers?/status/x",
        ],
    )
    def test_nothing_hides_behind_a_path_that_is_routed_elsewhere(self, path: str) -> None:
        assert rule_for(entry(path=path), paths=["/status/**"]) is None

    @given(
        st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "a*b", "**"]), max_size=5),
        st.lists(st.sampled_from(["a", "b", "ab", "aab", "ba", "c"]), max_size=6),
    )
    def test_pattern_means_what_the_same_regular_expression_means(self, pattern: list[str], path: list[str]) -> None:
        parts = ["(/[^/]+)*" if one == "**" else "/" + one.replace("*", "[^/]*") for one in pattern]
        expected = re.fullmatch("".join(parts), "".join("/" + one for one in path)) is not None

        assert PathPattern("/" + "/".join(pattern)).covers("/" + "/".join(path)) is expected

    def test_no_pattern_takes_long(self) -> None:
        # A search that goes back would have to try out more ways than there are atoms in a grain of sand.
        pattern = PathPattern("/**/" + "a*" * 90 + "b/**" * 20 + "/" + "*a" * 60 + "b")

        assert not pattern.covers("/" + "/".join(["a" * 200] * 40))

    def test_path_is_what_precedes_the_query_string(self) -> None:
        assert routed_path("/a/b?c=/d?e") == "/a/b"


COLLECTOR = "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11"


def read(path: str = "/audit/requests?after=1717240000&size=1000", **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "method": "GET",
        "path": path,
        "status": 200,
        "payload": None,
        "rbac_user_name": "collector",
    }
    return entry(**(usual | fields))


class TestOwnReads:
    @pytest.mark.parametrize(
        "value",
        [
            read(),
            read("/audit/requests?before=0&size=1"),
            read("/audit/requests?after=1&before=2&offset=WyJh%3D&size=1000"),
            read("/audit/requests?size=1000"),
            read("/audit/objects?after=1&size=1"),
            read("/kong/audit/requests?after=1&size=1"),
            read(rbac_user_name="other", rbac_user_id="collector"),
            read(status=500),
        ],
    )
    def test_is_what_the_collector_asks(self, value: dict[str, Any]) -> None:
        assert rule_for(value, further=[own_reads("collector", "https://gw.example.com/kong/")]) == "own_reads"

    @pytest.mark.parametrize(
        "value",
        [
            read(rbac_user_name="alice"),
            read(rbac_user_name=None, rbac_user_id=None),
            read(rbac_user_name=["collector"]),
            read(request_source="kong-manager"),
            read(method="DELETE"),
            read(payload="{}"),
            read("/audit/requests"),
            read("/audit/requests?size=10&filter=x"),
            read("/audit/requests?size=10&size=20"),
            read("/audit/requests?size=10&after=yesterday"),
            read("/audit/requests?after=1"),
            read("/audit/requests/?size=10"),
            read("/team/audit/requests?size=10"),
            read("/audit/requests/x?size=10"),
            read("/audit/../audit/requests?size=10"),
            read("/consumers?size=10"),
            read(path=None),  # type: ignore[arg-type]
        ],
    )
    def test_is_not_what_somebody_else_asks(self, value: dict[str, Any]) -> None:
        assert rule_for(value, further=[own_reads("collector", "https://gw.example.com/kong")]) is None


def found(*numbers: int, rule: str = "path:/status") -> list[ExcludedEntry]:
    return [ExcludedEntry(f"{number:016x}", NOW - number, rule) for number in numbers]


class TestCount:
    def test_entry_counts_once(self) -> None:
        excluded = Excluded().plus(found(1, 2)).plus(found(2, 3)).plus(found(4, rule="method:GET"))

        assert excluded.totals == {"path:/status": 3, "method:GET": 1}
        assert not excluded.is_reported
        assert [excluded.has_counted(one) for one in found(1, 4, 5)] == [True, True, False]

    def test_what_no_reading_shows_again_is_forgotten(self) -> None:
        excluded = Excluded().plus(found(1, 100)).read_until(NOW - 50)

        assert len(excluded.recent) == 1
        assert [excluded.has_counted(one) for one in found(1, 2, 100, 101)] == [True, False, True, True]
        assert excluded.read_until(NOW - 500) is excluded

    def test_memory_is_bounded_and_nothing_counts_twice_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exclusion, "MAX_RECENT", 3)

        excluded = Excluded().plus(found(1, 2, 3, 4, 5))

        assert sorted(excluded.recent.values()) == [NOW - 3, NOW - 2, NOW - 1]
        assert not excluded.has_counted(found(6)[0])  # the rest of the reading is still to be counted
        ended = excluded.plus(found(6)).read_until(NOW - 900)
        assert ended.totals == {"path:/status": 6}
        assert all(ended.has_counted(one) for one in found(1, 2, 3, 4, 5, 6))
