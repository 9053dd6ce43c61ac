"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

BASE_SECONDS = 0.2
CAP_SECONDS = 10.0


def backoff_seconds(attempt: int, *, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return the wait after a failed attempt: exponential, half of it random, capped.

    Half and not all of it is random, so that a wait is never next to nothing.

    Parameters
    ----------
    attempt
        Number of the attempt that failed, from 1.
    uniform
        Source of randomness.
    """
    ceiling: float = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt, 16))
    return ceiling / 2 + uniform(0, ceiling / 2)
