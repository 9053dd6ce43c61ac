"""Asks an installation to perform a verb: in this process, or in the deployed function."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from kong_cloudtrail.domain.moment import EXAMPLES, parse_moment, utc

from . import environment
from .environment import Name
from .program import Program
from .terminal import OperationProgress, TerminalTelemetry

if TYPE_CHECKING:
    from kong_cloudtrail.operations.verb import Progress

    from .interruption import UntilInterrupted

_Command = TypeVar("_Command", bound=Callable[..., Any])

_ANSWER_SECONDS = {"doctor": 60.0, "status": 60.0}
"""For verbs that a function answers in seconds."""


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """A moment, as `parse_moment` reads it. The value is the moment in RFC 3339."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the moment in RFC 3339, so that the function and this machine mean the same by ``2h``."""
        try:
            return utc(parse_moment(str(value), time.time()))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def window_options(command: _Command) -> _Command:
    """Add the required options ``--after`` and ``--before``."""
    before = click.option(
        "--before", type=Moment(), required=True, metavar="MOMENT", help="Entries of requests before this moment."
    )
    after = click.option(
        "--after",
        type=Moment(),
        required=True,
        metavar="MOMENT",
        help=f"Entries of requests from this moment on: {EXAMPLES}.",
    )
    return after(before(command))


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks for one verb.

    Parameters
    ----------
    program
        The program.
    as_json
        Whether the answer is printed as JSON.
    env_file
        A file of variables, for an operation in this process.
    function, stack
        The deployed function that performs it instead, by its own name or its stack's.
    here
        Whether it is performed in this process all the same, with the function's settings.
    stream, destination
        The only stream, and the only destination, that it is about.
    """

    program: Program
    as_json: bool
    env_file: Path | None
    function: str | None
    stack: str | None
    here: bool
    stream: str | None
    destination: str | None

    @property
    def is_remote(self) -> bool:
        """Whether the deployed function performs the verb."""
        return bool(self.function or self.stack) and not self.here

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of an operation in this process. Raises `SettingsError`."""
        return environment.read(self.env_file, self.function, self.stack)

    @property
    def has_deployment(self) -> bool:
        """Whether a deployed function is named, so that what is around it can be looked at."""
        return bool(self.function or self.stack)

    def answer(self, verb: str, **fields: object) -> Mapping[str, Any]:
        """Return the answer as JSON, and print it if it was asked for as JSON. Raises as `ask`."""
        return self.printed(self.ask(verb, None, **fields))

    def ask(self, verb: str, /, budget: UntilInterrupted | None = None, **fields: object) -> Mapping[str, Any]:
        """Return the answer as JSON.

        Parameters
        ----------
        verb, fields
            The verb, and the fields of its request.
        budget
            Limits the time of an operation in this process.

        Raises
        ------
        CollectorError
            If there is none, also if the function says so.
        """
        return self._remote(verb, fields) if self.is_remote else self._local(verb, fields, budget)

    def printed(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Print a document if it was asked for as JSON, and return it."""
        if self.as_json:
            click.echo(json.dumps(document))
        return document

    def _remote(self, verb: str, fields: Mapping[str, object]) -> Mapping[str, Any]:
        from . import deployed

        return deployed.ask(
            self.event(verb=verb, **fields),
            function=self.function,
            stack=self.stack,
            answer_seconds=_ANSWER_SECONDS.get(verb, deployed.ANSWER_SECONDS),
        )

    def event(self, **fields: object) -> dict[str, object]:
        """Return the event that asks the function: the fields that are given, and the trails."""
        event = {"stream": self.stream, "destination": self.destination, **fields}
        return {name: value for name, value in event.items() if value is not None}

    def _local(self, verb: str, fields: Mapping[str, object], budget: UntilInterrupted | None) -> Mapping[str, Any]:
        from kong_cloudtrail.operations.verb import answer, find

        redactor = self.program.redactor
        variables = self.environment()
        with TerminalTelemetry(redactor.clean) as telemetry, showing_progress() as progress:
            if not find(verb).needs_settings:
                from kong_cloudtrail.assembly.examination import DoctorInstallation

                examined = DoctorInstallation(variables, redactor, stream=self.stream, destination=self.destination)
                return answer(verb, fields, examined, progress)
            from kong_cloudtrail.assembly import Assembly, UnlimitedTime, WholeInstallation
            from kong_cloudtrail.settings import Settings

            assembly = Assembly(Settings.from_mapping(variables), redactor)
            trails = assembly.chosen(self.stream, self.destination)
            installation = WholeInstallation(assembly, trails, telemetry, budget or UnlimitedTime())
            try:
                return answer(verb, fields, installation, progress)
            finally:
                assembly.close()


def asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a verb to a command, which gets an `Asking` as its first argument."""

    @functools.wraps(command)
    def asking_command(
        program: Program,
        as_json: bool,
        env_file: Path | None,
        function: str | None,
        stack: str | None,
        here: bool,
        stream: str | None,
        destination: str | None,
        **options: Any,
    ) -> Any:
        if stack and function:
            raise click.UsageError("Give either --function or --stack: a stack is looked up to find its function.")
        if here and not (stack or function):
            raise click.UsageError("--here belongs to --function or --stack; without them, everything is done here.")
        if env_file and (stack or function) and not here:
            raise click.UsageError("--env-file does not reach the function. Leave it out, or add --here.")
        asking = Asking(program, as_json, env_file, function, stack, here, stream, destination)
        return command(asking, **options)

    asking: Any = click.pass_obj(asking_command)
    for option in (
        click.option("--destination", type=Name(), metavar="NAME", help="Only the trails into this destination."),
        click.option("--stream", type=Name(), metavar="NAME", help="Only the trails of this stream."),
        click.option(
            "--here", is_flag=True, help="Do it on this machine, with the settings of the function or the stack."
        ),
        click.option(
            "--stack", type=Name(), metavar="NAME", help="As --function, for the function of this CloudFormation stack."
        ),
        click.option(
            "--function",
            type=Name(),
            metavar="NAME",
            help="Let this Lambda function (name or ARN) do it: it can reach Kong and the cache.",
        ),
        environment.env_file_option,
        click.option("--json", "as_json", is_flag=True, help="Print the answer as a JSON object in a line."),
    ):
        asking = option(asking)
    result: Callable[..., Any] = asking
    return result


@contextmanager
def showing_progress() -> Iterator[Progress]:
    """Show the progress of an operation on a terminal. In a pipe it shows nothing."""
    with OperationProgress() as progress:
        yield progress.show
