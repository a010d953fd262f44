"""Milliseconds since something began."""

import time


class Stopwatch:
    """Started when made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def ms(self) -> float:
        """Milliseconds of wall time since then."""
        return (time.monotonic() - self._started) * 1e3
