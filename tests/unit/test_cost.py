"""The cost page shows what its formulas give."""

from pathlib import Path

import pytest

from tools import cost

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text("utf-8")


def test_the_page_has_the_computed_tables() -> None:
    assert f"\n{cost.estimate_table(cost.EXAMPLES)}\n" in PAGE
    assert f"\n{cost.archive_table(cost.EXAMPLES)}\n" in PAGE
    assert f"\n{cost.logs_table(cost.EXAMPLES)}\n" in PAGE
    assert f"\n{cost.price_table()}\n" in PAGE


def test_the_small_gateway_by_hand() -> None:
    parts = cost.costs(cost.Gateway("small", entries_per_day=1_000, event_bytes=1_000))
    assert parts["Cache: two nodes"] == pytest.approx(2 * 730 * 0.0128)
    assert parts["Cache: serverless"] == pytest.approx(0.1 * 730 * 0.084, rel=0.001)
    assert parts["CloudTrail Lake, ingestion"] == pytest.approx(30.4 / 1000 * 0.75, rel=0.01)
    assert parts["Lambda"] == pytest.approx(730 * 3 * 0.0000133334, rel=0.01)
    assert parts["Sum with two nodes"] == pytest.approx(sum(parts[name] for name in ("Cache: two nodes", *cost.ALWAYS)))


def test_the_archive_of_the_middle_gateway_by_hand() -> None:
    parts = cost.archive_costs(cost.Gateway("middle", entries_per_day=50_000, run_seconds=6))
    kept = 50_000 * 365 * 120 / 1e9 * 0.023
    assert parts["S3, the archive, after a year"] == pytest.approx(kept + 730 * (2 * 0.005 + 6 * 0.0004) / 1000)
    assert parts["Sum of an archive alone"] == pytest.approx(sum(parts[name] for name in cost.ARCHIVE))
    assert not [name for name in parts if "NAT" in name or "Cache" in name]


def test_cloudwatch_logs_of_the_middle_gateway_by_hand() -> None:
    parts = cost.logs_costs(cost.Gateway("middle", entries_per_day=50_000, run_seconds=6))
    gigabytes = 50_000 * 730 / 24 * 1_526 / 1e9
    assert parts["CloudWatch Logs, ingestion"] == pytest.approx(gigabytes * 0.5)
    assert parts["CloudWatch Logs, kept, after a year"] == pytest.approx(gigabytes * 12 * 0.15 * 0.03)
    assert parts["Sum of CloudWatch Logs alone"] == pytest.approx(sum(parts[name] for name in cost.LOGS))


def test_the_marks_choose_the_node() -> None:
    assert cost.node_type(cost.Gateway("a", entries_per_day=1)) == "cache.t4g.micro"
    assert cost.node_type(cost.Gateway("b", entries_per_day=500_000)) == "cache.t4g.micro"
    assert cost.node_type(cost.Gateway("c", entries_per_day=5_000_000)) == "cache.t4g.medium"
    with pytest.raises(ValueError, match="fit into no node"):
        cost.node_type(cost.Gateway("d", entries_per_day=500_000_000))
