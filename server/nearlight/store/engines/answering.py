"""Asking an engine that may not answer."""

import time
from collections.abc import Callable
from typing import TypeVar

from nearlight.store.errors import EngineUnavailable

T = TypeVar("T")
TRIES = 3
_FIRST_WAIT_S = 0.1
_WAIT_GROWTH = 3.0


def asked(work: Callable[[], T], tries: int = TRIES) -> T:
    """Does some work that may be done twice, again after a moment where the engine does not answer.

    Raises:
        EngineUnavailable: it did not answer so many times.
    """
    wait_s = _FIRST_WAIT_S
    for _ in range(tries - 1):
        try:
            return work()
        except EngineUnavailable:
            time.sleep(wait_s)
            wait_s *= _WAIT_GROWTH
    return work()
