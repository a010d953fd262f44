"""Seqs without a common counter: the time."""

import threading
import time


class Clock:
    """Gives seqs that rise: microseconds since 1970, or one more than the last.

    Several servers write to one engine without asking each other. Their clocks must agree as well as a caller
    who reads his own writes through another server wants it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def take(self, n: int) -> range:
        """The next n seqs, at least one."""
        with self._lock:
            first = max(time.time_ns() // 1000, self._last + 1)
            self._last = first + n - 1
            return range(first, first + n)

    def now(self) -> int:
        """At least every seq that was given out."""
        with self._lock:
            return max(time.time_ns() // 1000, self._last)
