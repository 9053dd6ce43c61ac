"""The function in Lambda: runs of trails, in turn, or any other verb that it is asked for."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceLayerError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer

from .assembly import Assembly, WholeInstallation
from .domain.trail import Trail
from .errors import CollectorError, RequestInvalid, RunFailed, SecretUnavailable, SettingsError, describe_fault
from .runtime.cpu import on_one_cpu
from .runtime.garbage import rarely_collected
from .runtime.redaction import Redactor
from .runtime.telemetry import NAMESPACE, SERVICE, LambdaTelemetry, RedactingFormatter, publish_misconfiguration
from .settings import Settings, destination_names, shown_configuration, stream_names, value_or_default
from .state.valkey import LOCK_SECONDS, key_prefix
from .variables import DESTINATIONS, LOG_LEVEL, SOURCE_NAME, STREAMS

if TYPE_CHECKING:
    import redis
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from .operations.installation import AnyInstallation

INVOCATION_MEMORY_SECONDS = 2 * 86_400
"""How long a tick of the schedule is remembered as processed: longer than EventBridge and Lambda retry."""

MAX_ANSWER_BYTES = 1_000_000
"""A longer answer goes to the ledger: Lambda returns 6 MB at most, and a command line waits for all of it."""

_RUN = "sync"
_FIELDS_OF_EVERY_VERB = frozenset({"verb", "stream", "destination", "execution_id", "fresh_secrets"})
_UNFILLED = "<aws.scheduler."  # a placeholder that only EventBridge Scheduler replaces by the tick's id

redactor = Redactor()
logger = Logger(
    service=SERVICE,
    level=value_or_default(LOG_LEVEL, os.environ),  # Powertools would stop the function at a level that there is not
    logger_formatter=RedactingFormatter(redactor.clean),
)
metrics = Metrics(namespace=NAMESPACE)
metrics.service = None  # otherwise there is a second dimension beside `source`, which depends on a variable


class _Unfinished(Exception):
    """Leaves the idempotency guard without the invocation being remembered as done."""

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__("unfinished")
        self.summary = summary


class _LambdaTime:
    """The time of an invocation, less what is left for the trails that come after."""

    def __init__(self, context: LambdaContext, trails_left: int = 1) -> None:
        self._context = context
        self._kept_seconds = context.get_remaining_time_in_millis() / 1000 * (1 - 1 / trails_left)

    def remaining_seconds(self) -> float:
        return self._context.get_remaining_time_in_millis() / 1000 - self._kept_seconds

    def get_remaining_time_in_millis(self) -> int:
        """Return for how long Powertools regards a tick as in progress: no longer than the lock outlives the run.

        With the function's own deadline, a tick whose run was killed could not be repeated for up to 15 minutes.
        """
        return int(min(self.remaining_seconds(), LOCK_SECONDS) * 1000)


class _Records:
    """The cache client for Powertools' records. It recognises a record that it has just written itself.

    The client repeats a command whose answer was lost, and then finds its own record. That must not look like another
    invocation in progress.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def get(self, name: str) -> Any:
        return self._client.get(name)

    def set(self, name: str, value: str, ex: int | None = None, nx: bool = False) -> bool:
        return bool(self._client.set(name, value, ex=ex, nx=nx)) or (nx and self._client.get(name) == value)

    def delete(self, *names: str) -> Any:
        return self._client.delete(*names)


@cache
def assembly() -> Assembly:
    """Return the parts that outlive an invocation. Raises `SettingsError`."""
    return Assembly(Settings.from_mapping(os.environ), redactor)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one run of each trail, or perform another verb.

    Parameters
    ----------
    event
        ``verb``: what to do; ``sync`` by default. Other verbs have fields of their own, see `operations`.
        ``stream``, ``destination``: only the trails of this stream, and into this destination, such as ``archive``.
        Without them, each trail has a run, in turn.
        ``execution_id``: id of the schedule's tick. A second delivery of the same tick does nothing. Without an id, or
        with the schedule's unreplaced placeholder, as in a manual invocation, repeated invocations are not recognised.
        ``fresh_secrets``: if true, all secrets are read again, so that a rotated one can be tried at once.
    context
        The Lambda context.

    Returns
    -------
    dict
        The report of the run. If this tick was processed before, the report of that run, with ``repeated``. If the
        function has several trails and ran each, ``runs`` holds their reports. For another verb: see `_answer`.

    Raises
    ------
    CollectorError
        If the run did not do its work: Lambda counts an error, and an alarm follows. For another verb only if there is
        an ``execution_id``: who asks by hand gets the error as an answer, and nobody is alarmed.
    """
    try:
        if event.get("fresh_secrets") is True:
            assembly.cache_clear()
        if event.get("verb", _RUN) != _RUN:
            return _answer(event, context)
        return _run(event, context)
    except CollectorError as error:
        assembly.cache_clear()  # the next invocation builds everything again: a password may have been rotated
        logger.error(str(error), code=type(error).__name__)
        of_run = event.get("verb", _RUN) == _RUN
        if of_run and isinstance(error, RequestInvalid | SecretUnavailable | SettingsError):
            source = value_or_default(SOURCE_NAME, os.environ) or ""
            for stream, destination in _asked_for(event):
                publish_misconfiguration(metrics, Trail(source, stream, destination))
        raise error.with_traceback(None) from None
    except Exception as error:
        logger.error(describe_fault(error), code="FAULT")
        raise RunFailed([describe_fault(error)], {}) from None


def _note_repetition(response: Any, idempotent_data: object) -> Any:
    logger.info("This tick of the schedule was processed before; nothing was done.", code="RUN_REPEATED")
    return {**response, "repeated": True}


def _first_of_ours(error: BaseException) -> CollectorError | None:
    context = error.__context__
    while context is not None and not isinstance(context, CollectorError):
        context = context.__context__
    return context


def _asked_for(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return streams and destinations that the event names, as far as settings that are wrong can be read."""
    stream, destination = event.get("stream"), event.get("destination")
    streams = (stream,) if stream in STREAMS else stream_names(os.environ)
    destinations = (destination,) if destination in DESTINATIONS else destination_names(os.environ)
    return itertools.product(streams, destinations)


def _answer(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Perform a verb.

    Returns
    -------
    dict
        ``verb``, and one of: ``document``, the answer; ``stored``, where a long one is, with its size and SHA-256;
        ``error``, its type and message.
    """
    from .operations.verb import answer

    verb = event["verb"]
    fields = {name: value for name, value in event.items() if name not in _FIELDS_OF_EVERY_VERB}
    try:
        document = answer(verb, fields, _installation(event, context))
        body = json.dumps(document).encode("ascii")
        logger.info("A verb was performed.", code="VERB_PERFORMED", verb=verb, answer_bytes=len(body))
        if len(body) <= MAX_ANSWER_BYTES:
            return {"verb": verb, "document": document}
        return {"verb": verb, "stored": assembly().keep_answer(verb, body, _LambdaTime(context))}
    except CollectorError as error:
        if event.get("execution_id"):
            raise
        assembly.cache_clear()  # as in `handler`
        logger.warning(str(error), code=type(error).__name__, verb=verb)
        return {"verb": verb, "error": {"type": type(error).__name__, "message": str(error)}}


def _installation(event: dict[str, Any], context: LambdaContext) -> AnyInstallation:
    """Return what a verb works with."""
    from .operations.verb import find

    stream, destination = event.get("stream"), event.get("destination")
    if not find(event["verb"]).needs_settings:
        from .assembly.examination import DoctorInstallation

        return DoctorInstallation(os.environ, redactor, stream=stream, destination=destination)
    parts = assembly()
    trails = parts.chosen(stream, destination)
    telemetry, time = LambdaTelemetry(logger, metrics), _LambdaTime(context)
    return WholeInstallation(parts, trails, telemetry, time, configuration=shown_configuration(os.environ))


def _run(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run the trail that the event names, or every one. If one fails, the others have their run all the same."""
    parts = assembly()
    trails = parts.chosen(event.get("stream"), event.get("destination"))
    summaries: list[dict[str, Any]] = []
    failures: list[CollectorError] = []
    for index, trail in enumerate(trails):
        try:
            summaries.append(_run_once(trail, event.get("execution_id"), _LambdaTime(context, len(trails) - index)))
        except CollectorError as error:
            failures.append(error)
    if len(failures) > 1:
        raise RunFailed([str(failure) for failure in failures], {})
    if failures:
        raise failures[0]
    return summaries[0] if len(trails) == 1 else {"runs": summaries}


def _run_once(trail: Trail, execution_id: str | None, time: _LambdaTime) -> dict[str, Any]:
    """Do the run unless this tick was processed before."""
    try:
        return _run_guarded(trail, execution_id, time)
    except _Unfinished as unfinished:
        return unfinished.summary
    except IdempotencyAlreadyInProgressError:
        logger.info("This tick of the schedule is already in progress; nothing was done.", code="RUN_REPEATED")
        return {**trail.fields, "skipped": True}


def _run_guarded(trail: Trail, execution_id: str | None, time: _LambdaTime) -> dict[str, Any]:
    parts = assembly()

    def run(execution_id: str | None) -> dict[str, Any]:
        collector = parts.collector(trail, LambdaTelemetry(logger, metrics), time)
        with on_one_cpu(), rarely_collected():
            report = collector.run()
        if not report.finished:
            raise _Unfinished(report.summary())
        return report.summary()

    names_tick = isinstance(execution_id, str) and bool(execution_id) and not execution_id.startswith(_UNFILLED)
    # Without a cache, a second delivery of the same tick is a run that finds nothing new.
    if not names_tick or not parts.uses_cache(trail):
        return run(None)
    config = IdempotencyConfig(
        expires_after_seconds=INVOCATION_MEMORY_SECONDS, hash_function="sha256", response_hook=_note_repetition
    )
    config.register_lambda_context(time)  # type: ignore[arg-type]
    guarded = idempotent_function(
        run,
        data_keyword_argument="execution_id",
        persistence_store=CachePersistenceLayer(client=_Records(parts.connections(time).cache)),  # type: ignore[arg-type]
        config=config,
        key_prefix=f"{key_prefix(trail)}:invocation",
    )
    try:
        summary: dict[str, Any] = guarded(execution_id=execution_id)
    except IdempotencyPersistenceLayerError as error:
        if (reason := _first_of_ours(error)) is not None:
            raise reason from None  # why the run failed matters more than that its record could not be removed
        problem = (
            "The cache could not be read or written for this tick of the schedule. What was delivered is marked; the "
            "next tick catches up. Check that the cache is up and can be reached: REDIS_HOST, security groups."
        )
        raise RunFailed([problem], {}) from error
    return summary
