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

MOST_FINDINGS = 10
"""Findings of a kind, and stretches of time in a sentence, that the page has. The JSON has all."""

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do by hand: what it shows, the commands, and what has to come out."""

    title: str
    commands: Sequence[str]
    expected: str


def render(document: Mapping[str, Any], json_sha256: str, json_name: str) -> str:
    """Return the page of a document.

    Parameters
    ----------
    document
        The answer of `evidence`.
    json_sha256
        SHA-256 of the same document as the command prints it with ``--json``.
    json_name
        What the file is called into which that was written, as far as anybody can know.

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
        steps=list(_steps(document, json_name)),
        json_sha256=json_sha256,
        most_rows=MOST_ROWS,
        most_stretches=MOST_FINDINGS,
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
    until = max(min(document["before"], document["answered_at"]), document["after"])  # all in UTC, so in order as text
    return {
        "name": name_of(trail),
        "verdict": wording.VERDICTS[trail["verdict"]],
        "figures": list(_figures(trail)),
        "findings": list(_findings(trail["findings"])),
        "plot": plots.day_plot(activity, document["after"], until) if activity["days"] else None,
        "kinds": _shares(activity["kinds"], wording.KINDS),
        "outcomes": _shares(activity["outcomes"], wording.OUTCOMES),
        "labels": wording.KINDS,
        **{key: trail[key] for key in _SHOWN_AS_THEY_ARE},
    }


def _findings(findings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Return the findings, of each kind the first ones and how many more there are: word, tone and text."""
    kinds = {(each["severity"], each["code"]): None for each in findings}
    for severity, code in kinds:
        texts = [each["text"] for each in findings if (each["severity"], each["code"]) == (severity, code)]
        if further := len(texts[MOST_FINDINGS:]):
            texts = [*texts[:MOST_FINDINGS], f"{further:,} more of this kind. The JSON has all."]
        yield from ((*wording.SEVERITIES[severity], text) for text in texts)


def _figures(trail: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Return the numbers of the first screen: name, number, what it rests on, and tone."""
    quarantine, chain = trail["quarantine"], trail["chain"]
    yield "Kong showed", wording.number(trail["shown"]), wording.BASES[trail["shown_basis"]].replace("`", ""), "plain"
    yield "Delivered", wording.number(trail["delivered"]), _delivered_basis(trail), "plain"
    yield "Missing", *_count(trail["missing"], "not reconciled", "of what Kong showed")
    yield "Doubled", *_count(trail["doubled"], "not reconciled", "in the destination")
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in [*quarantine["by_reason"].items()][:_MOST_REASONS])
    reasons += ", …" if len(quarantine["by_reason"]) > _MOST_REASONS else ""
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


def _steps(document: Mapping[str, Any], json_name: str) -> Iterator[Step]:
    period = f"--after {document['after']} --before {document['before']}"
    yield Step(
        "This page says what its data say",
        [f"sha256sum {shlex.quote(json_name)}"],
        "The JSON that was printed together with this page has the SHA-256 in the last line of the page. The file may "
        "have another name.",
    )
    if any(trail["chain"]["signatures"] for trail in document["trails"]):
        yield _key_step(document["configuration"].get("ARCHIVE_SIGNING_KEY"))
    for trail in document["trails"]:
        yield from _steps_of(document, trail)
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


def _key_step(key: str | None) -> Step:
    arn = shlex.quote(key) if key else '"$KEY"'
    ask = f"aws kms get-public-key --key-id {arn} --query PublicKey --output text"
    where = "" if key else " `$KEY` is the ARN of the key that signs."
    return Step(
        "The public key, from those who own the AWS account",
        [f"{ask} | base64 -d | openssl pkey -pubin -inform DER -out key.pem"],
        "A file key.pem, which the steps below need. Whoever could forge this page could name another key here, so ask "
        f"the owner of the account which one is right.{where}",
    )


def _steps_of(document: Mapping[str, Any], trail: Mapping[str, Any]) -> Iterator[Step]:
    chain, name, reports, archive = trail["chain"], name_of(trail), trail["runs"]["reports"], trail["archive"]
    folder = "-".join((trail["source"], trail["stream"], trail["destination"]))
    if chain["reports"] and chain["last_sha256"]:
        yield _chain_step(chain["place"], f"{folder}-runs", chain, name)
    if reports:
        last = reports[-1]
        yield from _document_steps(
            chain["place"], last, f"{folder}-runs", f"{name}: a run report is the one of this page", chain["signatures"]
        )
    if archive is not None and archive["parts"]:
        yield _part_step(archive, chain["place"], f"{folder}-runs", name)
    if found := trail["reconciliation"]:
        title = f"{name}: what was compared with Kong is what this page says"
        last = max(found["results"], key=lambda each: each["number"])
        yield from _document_steps(found["place"], last, f"{folder}-reconciled", title, found["signatures"])
    yield from _lake_steps(document, trail)


def _chain_step(place: str, folder: str, chain: Mapping[str, Any], name: str) -> Step:
    commands = [f"aws s3 sync --only-show-errors {shlex.quote(place)} {shlex.quote(folder)}"] if _is_s3(place) else []
    check = (
        f"( cd {_folder(place, folder)}; before={'0' * 64}; for each in *.json; do grep -q "
        '"\\"previousSha256\\":\\"$before\\"" "$each" || echo "$each does not continue the one before"; '
        'before=$(sha256sum <"$each" | cut -c1-64); done; echo $before )'
    )
    return Step(
        f"{name}: no run report was removed or altered",
        [*commands, check],
        f"`{chain['last_sha256']}`, which the checkpoint has as the hash of the newest one, and no other line.",
    )


def _document_steps(
    place: str, document: Mapping[str, Any], folder: str, title: str, signatures: int
) -> Iterator[Step]:
    """Return what to do with a run report, or with the result of a comparison."""
    file = f"{document['number']:010}.json"
    is_result = "shown" in document
    expected = f"`{document['sha256']}`."
    if is_result:
        window = " to ".join(wording.moment(document[key]) for key in ("after", "before"))
        counts = ", ".join(
            f"{key}: {wording.number(document[key])}" for key in ("shown", "missing", "doubled", "extra")
        )
        expected += f" The `result` in it is about {window}. It says {counts}, before what its `repair` has delivered."
    local = _local(place, folder, file)
    show = [f"cat {local}"] if is_result else []
    yield Step(
        title,
        [*_fetch(place, folder, file), f"sha256sum {local}", *show],
        f"{expected} The same holds for every row of the table below.",
    )
    if signatures:
        signature = file.replace(".json", ".sig")
        signed = _local(place, folder, signature)
        yield Step(
            f"{title}, and is signed",
            [*_fetch(place, folder, signature), f"openssl dgst -sha256 -verify key.pem -signature {signed} {local}"],
            "Verified OK.",
        )


def _part_step(archive: Mapping[str, Any], reports: str, folder: str, name: str) -> Step:
    last = archive["parts"][-1]
    inner, _, file = last["name"].rpartition("/")
    place = _within(archive["place"], inner)
    local = shlex.quote(file) if _is_s3(place) else shlex.quote(_within(place, file))
    fetch = [f"aws s3 cp {shlex.quote(_within(place, file))} {shlex.quote(file)}"] if _is_s3(place) else []
    commands = [*fetch, f"gzip -dc {local} | sha256sum", f"gzip -dc {local} | wc -l"]
    expected = f"`{last['sha256']}`, and {last['entries']}, as there is a line for each entry."
    if last["report"] is not None:
        report = f"{last['report']:010}.json"
        pattern = f'"name":"{last["name"]}","sha256":"[^"]*"'
        commands += [
            *_fetch(reports, folder, report),
            f"grep -o {shlex.quote(pattern)} {_local(reports, folder, report)}",
        ]
        expected += " The run report names the part with the same hash."
    return Step(f"{name}: a part of the archive is the one of this page, and of its run report", commands, expected)


def _lake_steps(document: Mapping[str, Any], trail: Mapping[str, Any]) -> Iterator[Step]:
    configuration = document["configuration"]
    store, channel = configuration.get("EVENT_DATA_STORE"), configuration.get("CHANNEL_ARN")
    if trail["destination"] != "cloudtrail-lake" or not store or not channel:
        return
    after, before = (wording.moment(document[key]).removesuffix(" UTC") for key in ("after", "before"))
    query = (
        f"SELECT COUNT(*), COUNT(DISTINCT eventData.uid) FROM {store.rpartition('/')[2]} "  # noqa: S608 - it is shown
        f"WHERE eventTime >= '{after}' AND eventTime < '{before}' AND metadata.channelARN = '{channel}'"
    )
    yield Step(
        f"{name_of(trail)}: CloudTrail Lake holds so many",
        [
            f"aws cloudtrail start-query --query-statement {shlex.quote(query)}",
            "aws cloudtrail get-query-results --query-id ID",
        ],
        f"{trail['delivered']}, twice, if the channel has events of this trail only. `ID` is from the first answer.",
    )


def _is_s3(place: str) -> bool:
    return place.startswith("s3://")


def _fetch(place: str, folder: str, file: str) -> Iterator[str]:
    """Return the command that copies a file from S3 into a folder, if it is there."""
    if _is_s3(place):
        yield f"aws s3 cp {shlex.quote(_within(place, file))} {shlex.quote(f'{folder}/{file}')}"


def _local(place: str, folder: str, file: str) -> str:
    """Return where a file is after `_fetch`."""
    return shlex.quote(f"{folder}/{file}" if _is_s3(place) else _within(place, file))


def _folder(place: str, folder: str) -> str:
    """Return where the files of a place are, once they are fetched."""
    return shlex.quote(folder if _is_s3(place) else place)


def _within(folder: str, file: str) -> str:
    return f"{folder.rstrip('/')}/{file}"
