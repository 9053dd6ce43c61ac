"""A verb, and how it is found by its name and answered."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ..domain.moment import utc
from ..errors import RequestInvalid
from .fields import Fields
from .installation import AnyInstallation

NAMES = (
    "backfill",
    "doctor",
    "evidence",
    "preview",
    "quarantine",
    "reconcile",
    "status",
    "verify",
    "verify-signatures",
)
"""The verbs. Each has a module of the same name."""

_Request = TypeVar("_Request")
_InstallationT = TypeVar("_InstallationT", bound=AnyInstallation)


class Progress(Protocol):
    """Shows how far an operation is."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show that so many are done, of all: ``None`` if that is not known. `what` names them, such as ``parts``."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing."""


class Result(Protocol):
    """What an operation found or did."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON. docs/schemas describes it."""


@dataclass(frozen=True, slots=True)
class Verb(Generic[_Request, _InstallationT]):
    """A verb: how its request is read, and how it is performed.

    Parameters
    ----------
    read
        Reads a request.
    perform
        Performs it. Raises `CollectorError` if it cannot be performed.
    needs_settings
        Whether it works only with right settings. If not, it gets an `ExaminedInstallation`.
    """

    read: Callable[[Fields], _Request]
    perform: Callable[[_Request, _InstallationT, Progress], Result]
    needs_settings: bool = True


def find(name: object) -> Verb[Any, Any]:
    """Return the verb with a name. Raises `RequestInvalid` if there is none."""
    if name not in NAMES:
        raise RequestInvalid([f"There is no verb {name!r}; the verbs are: sync, {', '.join(NAMES)}."])
    module = importlib.import_module(f"{__package__}.{str(name).replace('-', '_')}")
    verb: Verb[Any, Any] = module.VERB
    return verb


def answer(
    name: object, fields: Mapping[str, object], installation: AnyInstallation, progress: Progress = no_progress
) -> dict[str, Any]:
    """Perform what a request asks for.

    Parameters
    ----------
    name
        The verb.
    fields
        The fields of the request.
    installation
        What to work with.
    progress
        Shows how far the operation is.

    Returns
    -------
    dict
        The answer as JSON: ``verb``, ``answered_at``, and what the verb's result contains.

    Raises
    ------
    RequestInvalid
        If there is no such verb, or its fields are wrong. Nothing was tried.
    CollectorError
        If the operation failed.
    """
    verb = find(name)
    now = installation.clock.now()
    read = Fields(fields, now)
    request = verb.read(read)
    read.finish()
    result = verb.perform(request, installation, progress)
    return {"verb": name, "answered_at": utc(int(now)), **result.document()}
