"""What an integration costs a month: the numbers of docs/cost.md, and of any gateway of your own.

``python -m tools.cost`` prints the tables of that page; with arguments, the estimate for one gateway.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

HOURS = 730
DAYS = HOURS / 24

MARK_BYTES = 12
"""Of one delivered entry in the cache. Measured with Valkey 9: 9 for 1 000 000 marks, 12 for 100 000 in 30 days."""

USABLE_SHARE = 0.75
"""Of a node's memory; ElastiCache reserves a quarter unless told otherwise."""

METRICS = 21
ALARM_METRICS = 11
COMPOSITE_ALARMS = 3
ARCHIVE_METRICS = 23
ARCHIVE_ALARM_METRICS = 7
"""Of an archive's trail: two metrics and an alarm about parts more, no alarms about a cache and quarantine."""
SECRETS = 1
LOG_BYTES_PER_RUN = 6_000
LEDGER_WRITES_PER_RUN = 5
PARTS_PER_RUN = 2
ARCHIVE_READS_PER_RUN = 6
ARCHIVED_ENTRY_BYTES = 120
"""Upper bounds, rounded up. What they add up to is small in any case."""


LOG_EVENT_OVERHEAD_BYTES = 26
LOGS_COMPRESSED_SHARE = 0.15
"""Of what was ingested; CloudWatch Logs does not say how it compresses."""


@dataclass(frozen=True)
class Price:
    """A price in us-east-1, on demand.

    Attributes
    ----------
    dollars : float
        Per `unit`.
    unit : str
        What is counted.
    known_from : str
        How far it can be trusted: AWS's own pages were consulted for none of them.
    """

    dollars: float
    unit: str
    known_from: str


_SECOND_HAND = "second hand"
_UNVERIFIED = "unverified"

PRICES: Mapping[str, Price] = {
    "NAT gateway": Price(0.045, "hour", _SECOND_HAND),
    "NAT data": Price(0.045, "GB", _SECOND_HAND),
    "cache.t4g.micro, Valkey": Price(0.0128, "node and hour", _SECOND_HAND),
    "cache.t4g.medium, Valkey": Price(0.052, "node and hour", _UNVERIFIED),
    "cache.r7g.large, Valkey": Price(0.175, "node and hour", _UNVERIFIED),
    "ElastiCache Serverless, Valkey: data": Price(0.084, "GB and hour, 0.1 GB at least", _SECOND_HAND),
    "ElastiCache Serverless, Valkey: requests": Price(0.0023, "million ECPU", _SECOND_HAND),
    "Lambda: run time": Price(0.0000133334, "GB and second, arm64", _UNVERIFIED),
    "Lambda: requests": Price(0.20, "million", _UNVERIFIED),
    "CloudTrail Lake: ingestion": Price(0.75, "GB, one year of retention included", _UNVERIFIED),
    "CloudTrail Lake: queries": Price(0.005, "GB scanned", _UNVERIFIED),
    "S3: storage": Price(0.023, "GB and month", _UNVERIFIED),
    "S3: writes": Price(0.005, "thousand", _UNVERIFIED),
    "S3: reads": Price(0.0004, "thousand", _UNVERIFIED),
    "Athena": Price(5.0, "TB scanned", _UNVERIFIED),
    "KMS: key": Price(1.00, "key and month", _UNVERIFIED),
    "KMS: signatures": Price(0.15, "ten thousand, RSA 3072", _UNVERIFIED),
    "Interface endpoint": Price(0.01, "zone and hour", _UNVERIFIED),
    "Secrets Manager": Price(0.40, "secret and month", _UNVERIFIED),
    "CloudWatch: own metrics": Price(0.30, "metric and month", _SECOND_HAND),
    "CloudWatch: alarms": Price(0.10, "metric of an alarm and month", _UNVERIFIED),
    "CloudWatch: composite alarms": Price(0.50, "alarm and month", _UNVERIFIED),
    "CloudWatch: dashboard": Price(3.00, "dashboard and month, three are free", _SECOND_HAND),
    "CloudWatch: logs": Price(0.50, "GB ingested", _SECOND_HAND),
    "CloudWatch: logs kept": Price(0.03, "GB and month, compressed", _UNVERIFIED),
    "CloudWatch: Logs Insights": Price(0.005, "GB scanned", _UNVERIFIED),
}

# Memory of a node in GB, smallest first (unverified).
_NODES = {"cache.t4g.micro": 0.5, "cache.t4g.medium": 3.09, "cache.r7g.large": 13.07}


@dataclass(frozen=True)
class Gateway:
    """One gateway's audit trail.

    Attributes
    ----------
    name : str
        For the tables.
    entries_per_day : int
        Audit log entries that Kong records: calls of the Admin API that it is not told to ignore.
    event_bytes : int
        Mean size of an event; the simulated gateway of the benchmarks makes 0.6 kB, without large payloads.
    runs_per_day : int
        Runs of the function.
    run_seconds : float
        Mean duration of a run.
    retention_days : float
        How long Kong keeps an entry, and the cache its mark (``audit_log_record_ttl``).
    """

    name: str
    entries_per_day: int
    event_bytes: int = 1_500
    runs_per_day: int = 24
    run_seconds: float = 3
    retention_days: float = 30

    @property
    def gigabytes_a_month(self) -> float:
        """Events delivered."""
        return self.entries_per_day * DAYS * self.event_bytes / 1e9

    @property
    def logged_gigabytes_a_month(self) -> float:
        """Events delivered into CloudWatch Logs, as it bills them."""
        return self.entries_per_day * DAYS * (self.event_bytes + LOG_EVENT_OVERHEAD_BYTES) / 1e9

    @property
    def archived_gigabytes_a_year(self) -> float:
        """What an archive grows by, compressed."""
        return self.entries_per_day * 365 * ARCHIVED_ENTRY_BYTES / 1e9

    @property
    def cache_gigabytes(self) -> float:
        """Marks that the cache holds."""
        return self.entries_per_day * self.retention_days * MARK_BYTES / 1e9

    @property
    def runs_a_month(self) -> float:
        """Runs of the function."""
        return self.runs_per_day * DAYS


EXAMPLES = (
    Gateway("small", entries_per_day=1_000),
    Gateway("middle", entries_per_day=50_000, run_seconds=6),
    Gateway("large", entries_per_day=500_000, runs_per_day=96, run_seconds=10),
)


def _price(name: str) -> float:
    return PRICES[name].dollars


def _nodes(gateway: Gateway) -> float:
    return 2 * HOURS * _price(f"{node_type(gateway)}, Valkey")


def _serverless(gateway: Gateway) -> float:
    data = max(gateway.cache_gigabytes, 0.1) * HOURS * _price("ElastiCache Serverless, Valkey: data")
    # An entry is looked up and marked; its second look-up is due to the overlap. One ECPU per kB.
    ecpu = 3 * gateway.entries_per_day * DAYS / 1e6
    return data + ecpu * _price("ElastiCache Serverless, Valkey: requests")


def _lambda(gateway: Gateway) -> float:
    gigabyte_seconds = gateway.runs_a_month * gateway.run_seconds  # the function has 1 GB
    return gigabyte_seconds * _price("Lambda: run time") + gateway.runs_a_month / 1e6 * _price("Lambda: requests")


def _s3(gateway: Gateway) -> float:
    return gateway.runs_a_month * LEDGER_WRITES_PER_RUN / 1e3 * _price("S3: writes") + 0.1 * _price("S3: storage")


def _archive(gateway: Gateway) -> float:
    calls = PARTS_PER_RUN * _price("S3: writes") + ARCHIVE_READS_PER_RUN * _price("S3: reads")
    kept = gateway.archived_gigabytes_a_year * _price("S3: storage")
    return gateway.runs_a_month / 1e3 * calls + kept


def _signing(gateway: Gateway) -> float:
    return _price("KMS: key") + gateway.runs_a_month / 1e4 * _price("KMS: signatures")


def _year_queried(gateway: Gateway) -> float:
    return gateway.archived_gigabytes_a_year / 1e3 * _price("Athena")


def _watching(gateway: Gateway, *, metrics: int = METRICS, alarm_metrics: int = ALARM_METRICS) -> float:
    logs = gateway.runs_a_month * LOG_BYTES_PER_RUN / 1e9 * _price("CloudWatch: logs")
    named = metrics * _price("CloudWatch: own metrics") + alarm_metrics * _price("CloudWatch: alarms")
    named += COMPOSITE_ALARMS * _price("CloudWatch: composite alarms")
    return named + _price("CloudWatch: dashboard") + logs


ALWAYS: Mapping[str, Callable[[Gateway], float]] = {
    "CloudTrail Lake, ingestion": lambda it: it.gigabytes_a_month * _price("CloudTrail Lake: ingestion"),
    "CloudWatch: metrics, alarms, dashboard, logs": _watching,
    "Lambda": _lambda,
    "Secrets Manager": lambda _: SECRETS * _price("Secrets Manager"),
    "S3, the ledger": _s3,
    "NAT, data": lambda it: it.gigabytes_a_month * _price("NAT data"),
}
"""Parts that every integration has, in dollars a month."""

CACHES: Mapping[str, Callable[[Gateway], float]] = {
    "Cache: two nodes": _nodes,
    "Cache: serverless": _serverless,
}
"""One of these."""

ARCHIVE: Mapping[str, Callable[[Gateway], float]] = {
    "S3, the archive, after a year": _archive,
    "CloudWatch: metrics, alarms, dashboard, logs": lambda it: _watching(
        it, metrics=ARCHIVE_METRICS, alarm_metrics=ARCHIVE_ALARM_METRICS
    ),
    "Lambda": _lambda,
    "Secrets Manager": lambda _: SECRETS * _price("Secrets Manager"),
    "S3, the ledger": _s3,
}
"""Parts of an integration with an archive alone: neither cache nor NAT."""

LOGS: Mapping[str, Callable[[Gateway], float]] = {
    "Cache: two nodes": _nodes,
    "CloudWatch Logs, ingestion": lambda it: it.logged_gigabytes_a_month * _price("CloudWatch: logs"),
    "CloudWatch Logs, kept, after a year": lambda it: (
        12 * it.logged_gigabytes_a_month * LOGS_COMPRESSED_SHARE * _price("CloudWatch: logs kept")
    ),
    "CloudWatch: metrics, alarms, dashboard, logs": _watching,
    "Lambda": _lambda,
    "Secrets Manager": lambda _: SECRETS * _price("Secrets Manager"),
    "S3, the ledger": _s3,
}
"""Parts of an integration with CloudWatch Logs alone: no NAT."""

BY_CHOICE: Mapping[str, Callable[[Gateway], float]] = {
    "A key that signs run reports": _signing,
    "An interface endpoint, two zones": lambda _: 2 * HOURS * _price("Interface endpoint"),
    "A query over a whole year, each": _year_queried,
}

NAT_GATEWAY = "NAT gateway, if there was none"


def node_type(gateway: Gateway) -> str:
    """Return the smallest type of node that the marks fit into.

    Raises
    ------
    ValueError
        If none does.
    """
    for name, gigabytes in _NODES.items():
        if gateway.cache_gigabytes < USABLE_SHARE * gigabytes:
            return name
    raise ValueError(
        f"{gateway.cache_gigabytes:.1f} GB of marks fit into no node that has a price here; let Kong keep its entries "
        "for a shorter time, or add a larger node to _NODES and PRICES"
    )


def costs(gateway: Gateway) -> dict[str, float]:
    """Return every part's dollars a month, and the sums with two nodes."""
    parts = {name: dollars(gateway) for name, dollars in {**CACHES, **ALWAYS}.items()}
    total = sum(parts[name] for name in ALWAYS)
    nat = HOURS * _price("NAT gateway")
    return {
        **parts,
        "Sum with two nodes": total + parts["Cache: two nodes"],
        "Sum with the serverless cache": total + parts["Cache: serverless"],
        NAT_GATEWAY: nat,
    }


def estimate_table(gateways: Sequence[Gateway]) -> str:
    """Return the estimate as Markdown."""
    titles = ["Dollars a month", *(it.name for it in gateways)]
    rows = [
        ["Entries a day", *(f"{it.entries_per_day:,}" for it in gateways)],
        ["Runs a day, seconds each", *(f"{it.runs_per_day}, {it.run_seconds:g}" for it in gateways)],
        ["Delivered a month", *(f"{it.gigabytes_a_month:.2f} GB" for it in gateways)],
        ["Marks in the cache", *(f"{it.cache_gigabytes * 1000:,.1f} MB" for it in gateways)],
        ["Smallest fitting node", *(node_type(it) for it in gateways)],
    ]
    for part in costs(gateways[0]):
        bold = "**" if part.startswith("Sum") else ""
        rows.append([f"{bold}{part}{bold}", *(f"{bold}{costs(it)[part]:.2f}{bold}" for it in gateways)])
    return _markdown([titles, ["---", *("---:" for _ in gateways)], *rows])


def archive_costs(gateway: Gateway) -> dict[str, float]:
    """Return the dollars a month of every part of an archive alone, their sum, and what comes by choice."""
    parts = {name: dollars(gateway) for name, dollars in ARCHIVE.items()}
    chosen = {name: dollars(gateway) for name, dollars in BY_CHOICE.items()}
    return {**parts, "Sum of an archive alone": sum(parts.values()), **chosen}


def archive_table(gateways: Sequence[Gateway]) -> str:
    """Return the estimate for an archive alone as Markdown."""
    titles = ["Dollars a month", *(it.name for it in gateways)]
    rows = [["Kept after a year", *(f"{it.archived_gigabytes_a_year:.2f} GB" for it in gateways)]]
    for part in archive_costs(gateways[0]):
        bold = "**" if part.startswith("Sum") else ""
        rows.append([f"{bold}{part}{bold}", *(f"{bold}{archive_costs(it)[part]:.2f}{bold}" for it in gateways)])
    return _markdown([titles, ["---", *("---:" for _ in gateways)], *rows])


def logs_costs(gateway: Gateway) -> dict[str, float]:
    """Return the dollars a month of every part of CloudWatch Logs alone, their sum, and what comes by choice."""
    parts = {name: dollars(gateway) for name, dollars in LOGS.items()}
    return {
        **parts,
        "Sum of CloudWatch Logs alone": sum(parts.values()),
        "An interface endpoint, two zones": BY_CHOICE["An interface endpoint, two zones"](gateway),
        "A query over a whole year, each": 12 * gateway.logged_gigabytes_a_month * _price("CloudWatch: Logs Insights"),
    }


def logs_table(gateways: Sequence[Gateway]) -> str:
    """Return the estimate for CloudWatch Logs alone as Markdown."""
    rows = [
        ["Dollars a month", *(it.name for it in gateways)],
        ["---", *("---:" for _ in gateways)],
        ["Delivered a month", *(f"{it.logged_gigabytes_a_month:.2f} GB" for it in gateways)],
    ]
    for part in logs_costs(gateways[0]):
        bold = "**" if part.startswith("Sum") else ""
        rows.append([f"{bold}{part}{bold}", *(f"{bold}{logs_costs(it)[part]:.2f}{bold}" for it in gateways)])
    return _markdown(rows)


def price_table() -> str:
    """Return the price assumptions as Markdown."""
    rows = [
        [name, f"{it.dollars:.10f}".rstrip("0").ljust(4, "0"), it.unit, it.known_from] for name, it in PRICES.items()
    ]
    return _markdown([["Price", "Dollars", "per", "known"], ["---", "---:", "---", "---"], *rows])


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Print the page's tables, or the estimate for the gateway that the arguments describe."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost", description=__doc__)
    parser.add_argument("--entries-per-day", type=int)
    parser.add_argument("--event-bytes", type=int, default=Gateway.event_bytes)
    parser.add_argument("--runs-per-day", type=int, default=Gateway.runs_per_day)
    parser.add_argument("--run-seconds", type=float, default=Gateway.run_seconds)
    parser.add_argument("--retention-days", type=float, default=Gateway.retention_days)
    given = vars(parser.parse_args())
    if given["entries_per_day"] is None:
        print(f"{estimate_table(EXAMPLES)}\n\n{archive_table(EXAMPLES)}\n\n{logs_table(EXAMPLES)}\n\n{price_table()}")
        return
    try:
        yours = [Gateway("yours", **given)]
        print(f"{estimate_table(yours)}\n\n{archive_table(yours)}\n\n{logs_table(yours)}")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
