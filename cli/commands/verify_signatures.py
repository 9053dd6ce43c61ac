"""``kong-cloudtrail verify-signatures``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ..asking import Asking, asks, window_options
from ..exit_status import ExitStatus
from ..files import read_text
from ..rows import escaped
from ..terminal import print_facts, say

_REASONS = {
    "signature_does_not_fit": "signature does not fit",
    "signature_is_not_base64": "signature is not Base64",
    "signature_has_another_length": "signature of another length",
    "no_documented_form": "no documented form",
}
_CONCLUSIONS = {
    "no_entries": "There are no entries in this window, so nothing was checked.",
    "nothing_signed": "No entry is signed: Kong's setting audit_log_signing_key is off.",
    "all_verified": "Every entry has the values that Kong signed.",
    "some_verified": "The key and the form are right, as some signatures fit. Look into those that do not.",
    "none_verified": (
        "No signature fits. It is not known why: another key, or a form that Kong does not document. This says nothing "
        "about the entries."
    ),
}


@click.command(short_help="Check Kong's own signatures of audit entries. Advice, not proof.")
@window_options
@click.option(
    "--public-key",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Public key of Kong's audit_log_signing_key (PEM).",
)
@click.option(
    "--from",
    "read_from",
    metavar="PLACE",
    type=click.Choice(["archive", "kong"]),
    help="Read the entries from the `archive`, or from `kong`. Default: the archive, if there is one.",
)
@asks
def verify_signatures(asking: Asking, public_key: Path, read_from: str | None, after: str, before: str) -> ExitStatus:
    """Check Kong's own signatures of audit entries, as far as that is possible.

    Kong signs each entry if its setting audit_log_signing_key names an RSA key. This counts the entries of a window
    that are verified, not signed, and signed but not verifiable, each of these with the reason. It is advice: Kong has
    never published an example of a signature, and its own guide to checking them was withdrawn because checking failed.
    So a signature that fits is proof, and one that does not fit is a question. Nothing is delivered or held back for
    it, and the exit status does not depend on it.

    \b
    Example:
      openssl pkey -in kong-signing.key -pubout -out kong-signing.pub
      kong-cloudtrail verify-signatures --after 2026-03-01 --before 2026-04-01 --public-key kong-signing.pub
    """
    fields = {"after": after, "before": before, "public_key": read_text(public_key), "from": read_from}
    document = asking.answer("verify-signatures", **fields)
    if not asking.as_json:
        for trail in document["trails"]:
            print_facts(list(_facts(trail)))
            click.echo(_CONCLUSIONS[trail["conclusion"]])
        say(document["caveat"])
    if not document["finished"]:
        say("The time was used up before all entries were read. Ask for a shorter window.")
    return ExitStatus.DONE if document["finished"] else ExitStatus.FAILED


def _facts(trail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "trail", "/".join((trail["source"], trail["stream"], trail["destination"]))
    yield "read from", trail["read_from"]
    for name in ("entries", "verified", "unsigned", "not_verifiable"):
        yield name.replace("_", " "), f"{trail[name]:,}"
    for reason, count in trail["reasons"].items():
        yield f"  {_REASONS[reason]}", f"{count:,}"
    for example in trail["examples"]:
        yield "not verifiable", f"{escaped(example['id'])}: {_REASONS[example['reason']]}"
