"""CloudTrail Lake as the destination: the emulator, a real Valkey for marks and lock, and what happens to both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Self

import redis

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.machinery.valkey import Snapshot, Valkey
from torture.cloudtrail_audit import LakeAuditor
from torture.ends import Damage, Setting, Stage, is_connected, wait_until
from torture.entries import REFUSED_UID, choose
from torture.marks import Marks
from torture.plan import CallPoison, Round, ValkeyTrouble
from torture.relay import ValkeyRelay
from torture.runs import Problem, Run

_USER = "collector"
_ANOTHER = "another-machine/its-token"
_PATIENCE_SECONDS = 5.0
"""How long the collector waits for an answer of Valkey: shorter pauses must not hurt it. In Lambda, it is a twelfth of
the invocation's time, if that is less, and to release its lock it waits for half a second at most."""


class CloudTrailLake:
    """Implements `ends.Ends`.

    Parameters
    ----------
    setting
        Of the scenario.
    password
        Of Valkey.
    """

    def __init__(self, setting: Setting, password: str) -> None:
        self.auditor = self._new_auditor(setting)
        self._key_prefix = f"kong-cloudtrail:{{{self.auditor.trail}}}:"
        self._lock_key = f"{self._key_prefix}lock"
        self.damage = Damage()
        self._resources = contextlib.ExitStack()
        self._cloudtrail = self._new_service()
        self._valkey = Valkey(username=_USER, password=password)
        self._relay = ValkeyRelay(self._valkey.port)
        self._snapshot: Snapshot | None = None
        self._goes_over_relay = False
        self._was_paused = False
        self._patience_seconds = _PATIENCE_SECONDS
        self._poison: CallPoison | None = None
        self._poisoned: list[str] = []
        self._calls_before = self._calls_seen = self._accepting = 0
        self.environment = {
            **self._place(),
            "REDIS_USERNAME": _USER,
            "REDIS_PASSWORD": password,
        }

    def _new_auditor(self, setting: Setting) -> LakeAuditor:
        return LakeAuditor(**setting.of_auditor)

    def _new_service(self) -> Any:
        return CloudTrailEmulator()

    def _place(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": self._cloudtrail.url,
            "CHANNEL_ARN": self._cloudtrail.channel_arn,
        }

    def __enter__(self) -> Self:
        for server in (self._cloudtrail, self._valkey, self._relay):
            self._resources.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def poisoned(self) -> list[str]:
        """Ids of the entries that make a call fail now."""
        return self._poisoned

    # -- a round

    def prepare(self, round_: Round, plain_ids: list[str], strike: Callable[[], None]) -> None:
        """Inject what a round has in store, and take the lock if another run seems to hold it."""
        self.damage = Damage()
        self._patience_seconds = min(_PATIENCE_SECONDS, (round_.budget_seconds or 60) / 12)
        self._was_paused = False
        self._let_lock_expire()
        if round_.another_holds_lock:
            self._lock_as_another()
        self._calls_before = self._calls_seen = len(self._cloudtrail.calls)
        self._accepting = 0
        self._goes_over_relay = any(
            isinstance(action, ValkeyTrouble) and action.kind in ("lose reply", "break connections")
            for action in round_.actions
        )
        cloudtrail = self._cloudtrail
        cloudtrail.configure(latency_seconds=round_.delivery_latency_seconds, calls_per_second=round_.calls_per_second)
        self._set_poison(round_, plain_ids)
        for call_fault in round_.call_faults:
            cloudtrail.inject(call_fault.fault)
        if round_.kill is not None and round_.kill.at_entry is not None:
            self._kill_at_entry(round_.kill.at_entry, strike)
        cloudtrail.fail_entries("InvalidData", uid_pattern=REFUSED_UID)
        for refusal in round_.entry_refusals:
            cloudtrail.fail_entries(refusal.code, times=refusal.times, times_per_entry=refusal.times_per_entry)

    def _set_poison(self, round_: Round, plain_ids: list[str]) -> None:
        poison = round_.call_poison
        if poison != self._poison:
            self._poison = poison
            self._poisoned = [] if poison is None else choose(plain_ids, poison.entries, poison.seed)
        if poison is not None:
            self._cloudtrail.poison(self._poisoned, poison.fault)

    def _kill_at_entry(self, number: int, strike: Callable[[], None]) -> None:
        judged = 0

        def look(_event: dict[str, Any]) -> bool:
            """Find no fault with any entry, but kill at one: CloudTrail still accepts the whole call."""
            nonlocal judged
            judged += 1
            if judged == number:
                strike()
            return False

        self._cloudtrail.fail_entries("Never", predicate=look)

    def environment_of_run(self) -> dict[str, str]:
        """Return how to reach Valkey."""
        port = self._relay.port if self._goes_over_relay else self._valkey.port
        return {"REDIS_HOST": f"{self._valkey.host}:{port}"}

    def deliveries(self) -> int:
        """Return in how many calls since the round began CloudTrail accepted something."""
        new = self._cloudtrail.calls[self._calls_seen :]
        self._calls_seen += len(new)
        self._accepting += sum(call.accepted > 0 for call in new)
        return self._accepting

    def calm_down(self) -> None:
        """Forget all faults, when both servers have done what they were asked for."""
        self._relay.clear_faults()
        port = int(self._cloudtrail.url.rpartition(":")[2])
        wait_until(lambda: not is_connected(port), "CloudTrail")
        wait_until(self._is_valkey_alone, "Valkey")
        self._cloudtrail.clear_faults()

    def was_down(self, round_: Round) -> bool:
        """Return whether no call was answered, though some were made."""
        return round_.destination_is_down and len(self._cloudtrail.calls) > self._calls_before

    # -- what happens to Valkey

    def step(self, action: Any, stage: Stage) -> Callable[[], None] | None:
        """Return what lets trouble with Valkey happen."""
        return (lambda: self._trouble_valkey(action, stage)) if isinstance(action, ValkeyTrouble) else None

    def _trouble_valkey(self, trouble: ValkeyTrouble, stage: Stage) -> None:
        valkey, damage = self._valkey, self.damage
        match trouble.kind:
            case "stop":
                valkey.stop()
                stage.repair_later(valkey.start)
            case "restart":
                valkey.restart_empty()
            case "flush":
                valkey.flush()
            case "pause":
                valkey.pause()
                stage.repair_later(valkey.resume)  # once more does no harm
                stage.do_after(trouble.seconds, valkey.resume)
            case "full":
                valkey.limit_memory(trouble.headroom_bytes)
                stage.repair_later(lambda: valkey.limit_memory(None))
            case "snapshot":
                self._snapshot = valkey.snapshot()
            case "restore":
                self._restore()
            case "break connections":
                self._relay.break_connections()
            case "lose reply":
                self._relay.lose_reply(trouble.command)
        damage.valkey_lost_marks |= trouble.kind in ("stop", "restart", "flush")
        damage.valkey_full |= trouble.kind == "full"
        damage.valkey_failed |= trouble.kind in ("stop", "restart") or trouble.seconds > self._patience_seconds
        self._was_paused |= trouble.kind == "pause"

    def _restore(self) -> None:
        if self._snapshot is not None:
            self._valkey.restore(self._snapshot)
            self.damage.valkey_lost_marks = True

    # -- what is in Valkey

    def _marked_keys(self) -> set[str]:
        """Return the keys of the entries that are marked, and a name for each mark of no entry."""
        with self._valkey.client(decode_responses=False) as client:
            marks = Marks.read(client, self._key_prefix)
        marked = {entry.key for entry in self.auditor.entries if marks.hold(entry.key, entry.recorded_at)}
        return marked | {f"mark {number}" for number in range(len(marked), marks.count)}

    def _let_lock_expire(self) -> None:
        """Remove the lock of a run that has ended, as if so much time had passed."""
        with self._valkey.client() as client:
            client.delete(self._lock_key)

    def _lock_as_another(self) -> None:
        """Take the lock as a run on another machine would, of which nobody here can tell whether it lives."""
        with self._valkey.client() as client:
            client.set(self._lock_key, _ANOTHER, ex=60)

    def _is_left_locked(self) -> bool:
        """Return whether a run has left its lock behind; remove that of another."""
        with self._valkey.client() as client:
            if client.get(self._lock_key) == _ANOTHER:
                client.delete(self._lock_key)
            return bool(client.exists(self._lock_key))

    def _is_valkey_alone(self) -> bool:
        try:
            with self._valkey.client() as client:
                return [one["user"] for one in client.client_list()].count(_USER) == 1
        except redis.RedisError:
            return False

    # -- audit

    def end_run(self, run: Run) -> list[Problem]:
        """Check everything after a run."""
        cloudtrail = self._cloudtrail
        problems = self.auditor.end_run(run, cloudtrail.accepted(), self._marked_keys(), cloudtrail.refused())
        excused = (
            self._was_paused or run.killed or run.interrupted or run.valkey_failed or run.valkey_full or run.frozen
        )
        if self._is_left_locked() and not excused:
            problems.append(Problem("lock", "left its lock behind"))
        return problems
