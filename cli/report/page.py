"""The page: what of a document is shown where, and the template that it is put into."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from . import plots, wording

_FOLDER = Path(__file__).parent

_SHOWN_AS_THEY_ARE = ("activity", "archive", "chain", "quarantine", "reconciliation", "runs", "excluded")

MOST_ROWS = 2000
"""Rows of a table that the page has. The JSON has all."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do by hand: what it shows, the commands, and what has to come out."""

    title: str
    commands: Sequence[str]
    expected: str


def render(document: Mapping[str, Any], json_sha256: str) -> str:
    """Return the page of a document.

    Parameters
    ----------
    document
        The answer of `evidence`.
    json_sha256
        SHA-256 of the same document as the command prints it with ``--json``.

    Returns
    -------
    str
        HTML. It needs no other file, no network and no script. Whatever is in the document is shown as text.
    """
    style = (_FOLDER / "page.css").read_text("utf-8")
    return _template().render(
        document=document,
        period=wording.period(document["after"], document["before"]),
        verdict=wording.VERDICTS[document["verdict"]],
        trails=[_trail(document, trail) for trail in document["trails"]],
        several=len(document["trails"]) > 1,
        steps=list(_steps(document)),
        json_sha256=json_sha256,
        most_rows=MOST_ROWS,
        style=Markup(style),  # noqa: S704 - a file of this package
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": wording.moment,
        "short": wording.short_moment,
        "number": wording.number,
        "prose": prose,
    }
    return environment.get_template("page.html.j2")


def _finalize(value: object) -> object:
    """Return what is written for a value, before it is escaped."""
    return value if isinstance(value, Markup) else visible(value)


def visible(text: object) -> str:
    """Return text with the marks written out that nobody sees, or that turn the direction of what follows."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in str(text))


def prose(text: str) -> Markup:
    """Return a sentence, with what stands between backticks as code. All of it is escaped."""
    pieces = visible(text).split("`")
    if len(pieces) % 2 == 0:  # one of them is part of what somebody wrote
        return escape(visible(text))
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def name_of(trail: Mapping[str, Any]) -> str:
    """Return the name of a trail."""
    return f"{trail['source']}/{trail['stream']}/{trail['destination']}"


def _trail(document: Mapping[str, Any], trail: Mapping[str, Any]) -> dict[str, Any]:
    activity = trail["activity"]
    until = max(min(document["before"], document["answered_at"]), document["after"])
    return {
        "name": name_of(trail),
        "verdict": wording.VERDICTS[trail["verdict"]],
        "figures": list(_figures(trail)),
        "findings": [(*wording.SEVERITIES[each["severity"]], each["text"]) for each in trail["findings"]],
        "plot": plots.day_plot(activity, document["after"], max(until, document["after"]))
        if activity["days"]
        else None,
        "kinds": _shares(activity["kinds"], wording.KINDS),
        "outcomes": _shares(activity["outcomes"], wording.OUTCOMES),
        "labels": wording.KINDS,
        **{
            key: trail[key]
            for key in ("activity", "archive", "chain", "quarantine", "reconciliation", "runs", "excluded")
        },
    }


def _figures(trail: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Return the numbers of the first screen: name, number, what it rests on, and tone."""
    quarantine, chain = trail["quarantine"], trail["chain"]
    yield "Kong showed", wording.number(trail["shown"]), wording.BASES[trail["shown_basis"]].replace("`", ""), "plain"
    yield "Delivered", wording.number(trail["delivered"]), _delivered_basis(trail), "plain"
    yield "Missing", *_count(trail["missing"], "not reconciled", "of what Kong showed")
    yield "Doubled", *_count(trail["doubled"], "not reconciled", "in the destination")
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in quarantine["by_reason"].items())
    held = quarantine["quarantined"]
    yield "Quarantined", wording.number(held), reasons or "none refused or unreadable", "warning" if held else "good"
    faults = chain["faults"]
    reports = chain["reports"]
    basis = f"{reports:,} run reports, each with the hash of the one before" if reports != 1 else "1 run report"
    yield (
        "Faults in the chain",
        wording.number(faults),
        basis,
        "bad" if faults else "good" if reports else "plain",
    )
    yield "Signatures", *_signatures(chain)
    delay = trail["longest_delay"]
    yield (
        "Longest delay",
        "not known" if delay is None else f"≤ {wording.span(delay['at_most_seconds'])}",
        "from request to delivery",
        "plain",
    )


def _delivered_basis(trail: Mapping[str, Any]) -> str:
    if trail["archive"] is not None:
        return "counted in the archive, each once"
    return "found by reconcile" if trail["shown_basis"] == "reconciliation" else "counted by run reports"


def _count(count: int | None, unknown: str, basis: str) -> tuple[str, str, str]:
    if count is None:
        return "not known", unknown, "warning"
    return f"{count:,}", basis, "bad" if count else "good"


def _signatures(chain: Mapping[str, Any]) -> tuple[str, str, str]:
    if not chain["signatures"]:
        return "none", "run reports are not signed: there is no signing key", "plain"
    if chain["signed"] is None:
        return "not checked", f"no key for {chain['signatures']:,} signatures", "warning"
    is_right = chain["signed"] == chain["signatures"]
    return f"{chain['signed']:,} of {chain['signatures']:,}", "right, of run reports", "good" if is_right else "bad"


def _shares(counts: Mapping[str, int], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows of a table with bars. Kinds without entries have none."""
    total = sum(counts.values())
    return [
        {"key": key, "label": labels[key], "entries": count, "percent": round(100 * count / total, 1)}
        for key, count in counts.items()
        if count
    ]


# -- by hand


def _steps(document: Mapping[str, Any]) -> Iterator[Step]:
    period = f"--after {document['after']} --before {document['before']}"
    yield Step(
        "This page says what its data say",
        ["sha256sum evidence.json"],
        "The JSON that was printed together with this page has the SHA-256 in the last line of the page.",
    )
    for trail in document["trails"]:
        yield from _steps_of(trail)
    yield Step(
        "All hashes, and every signature",
        ["kong-cloudtrail verify --public-key key.pem"],
        "Each trail is whole. Without a signing key, leave out the option. It needs only permission to read.",
    )
    yield Step(
        "Everything on this page, once more",
        [f"kong-cloudtrail evidence {period} --html again.html"],
        "The same numbers and the same hashes. What was delivered or reconciled in the meantime is added.",
    )
    yield Step(
        "Against Kong itself, as long as it retains the entries",
        [f"kong-cloudtrail reconcile {period}"],
        "Nothing is missing, nothing is doubled.",
    )


def _steps_of(trail: Mapping[str, Any]) -> Iterator[Step]:
    chain, name, reports = trail["chain"], name_of(trail), trail["runs"]["reports"]
    if reports:
        last = reports[-1]
        file = f"{last['number']:010}.json"
        yield Step(
            f"{name}: a run report is the one of this page",
            [*_fetch(chain["place"], file), f"sha256sum {_local(chain['place'], file)}"],
            f"`{last['sha256']}`. The next report has the same hash as `previousSha256`, and of the newest report the "
            "checkpoint.",
        )
        if chain["signatures"]:
            yield _signature_step(chain["place"], file, name)
    archive = trail["archive"]
    parts = [] if archive is None else archive["parts"]
    if archive is not None and parts:
        last = parts[-1]
        folder, _, file = last["name"].rpartition("/")
        place = _within(archive["place"], folder)
        local = _local(place, file)
        yield Step(
            f"{name}: a part of the archive is the one of this page",
            [*_fetch(place, file), f"gzip -dc {local} | sha256sum", f"gzip -dc {local} | wc -l"],
            f"`{last['sha256']}`, and {last['entries']}, as there is a line for each entry.",
        )


def _signature_step(place: str, file: str, name: str) -> Step:
    signature = file.replace(".json", ".sig")
    key = 'aws kms get-public-key --key-id "$KEY" --query PublicKey --output text | base64 -d'
    return Step(
        f"{name}: the signature of this report is right",
        [
            f"{key} | openssl pkey -pubin -inform DER -out key.pem",
            *_fetch(place, file),
            *_fetch(place, signature),
            f"openssl dgst -sha256 -verify key.pem -signature {_local(place, signature)} {_local(place, file)}",
        ],
        "Verified OK. `$KEY` is `ARCHIVE_SIGNING_KEY` of the configuration above.",
    )


def _fetch(folder: str, file: str) -> Iterator[str]:
    """Return the command that copies a file from S3, if it is there."""
    if folder.startswith("s3://"):
        yield f"aws s3 cp {shlex.quote(_within(folder, file))} {shlex.quote(file)}"


def _local(folder: str, file: str) -> str:
    """Return where a file is after `_fetch`."""
    return shlex.quote(file if folder.startswith("s3://") else _within(folder, file))


def _within(folder: str, file: str) -> str:
    return f"{folder.rstrip('/')}/{file}"
