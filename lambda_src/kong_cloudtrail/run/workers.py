"""Threads for work that may never end: nobody waits for them, not even the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """So many threads at most, each started when there is more work than idle threads.

    ``ThreadPoolExecutor`` waits for all of its threads when the interpreter ends. A call that hangs would keep the
    process, and in Lambda the invocation, until it is killed.

    Parameters
    ----------
    count
        Threads at most.
    name
        What their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> None:
        """Have something done that raises nothing. To be called from one thread."""
        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._started < self._count:
            self._started += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()

    def end(self) -> None:
        """Let the threads end as soon as they have nothing to do."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # and with it the batch, while this thread waits for the next one
            self._idle.release()
