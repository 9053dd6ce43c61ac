"""Threads: for calls that may never end, which neither a run nor the end of the process waits for; and for reading."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


class Workers:
    """A limited number of threads, each started when there is more work than idle threads.

    ``ThreadPoolExecutor`` waits for all of its threads when the interpreter exits. A call that hangs would keep the
    process, and in Lambda the invocation, alive until it is killed.

    Parameters
    ----------
    count
        Threads at most.
    name
        Prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._started = 0
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> None:
        """Run a function that raises nothing."""
        with self._lock:
            self._work.put(work)
            if not self._idle.acquire(blocking=False) and self._started < self._count:
                self._started += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()

    def end(self) -> None:
        """Let the threads end once there is no more work."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # frees the batch while this thread waits for the next one
            self._idle.release()


def in_order(items: Iterable[_Item], work: Callable[[_Item], _Done], at_once: int) -> Iterator[_Done]:
    """Do the same for each item, a few at once and only so many ahead; return what came of it in their order."""
    ahead: deque[Future[_Done]] = deque()
    with ThreadPoolExecutor(at_once, "in-order") as pool:
        for item in items:
            if len(ahead) >= at_once:
                yield ahead.popleft().result()
            ahead.append(pool.submit(work, item))
        while ahead:
            yield ahead.popleft().result()
