"""Rows that are on their way to an engine, and how long it is worth waiting for them."""

import time

from nearlight.server.call import LANES, Lane, Work


class Expectation:
    """What an idle engine that shares its cores with the threads that prepare rows still waits for.

    Started at the first row, it would take the cores from rows about to join the batch, and run a small batch
    at the price of a large one: nearlight-tiny costs 3.8 ms of processor time for a row alone and 2.6 ms in a
    batch of 16. So it starts once the batch is full, or no row of the lane is being prepared, or so much time
    has passed as a full batch takes. A single call never waits; nor does an engine with a device of its own.

    Not thread-safe: its owner holds a lock.

    Args:
        shares_cores: whether the engine does; where not, it never waits.
    """

    def __init__(self, *, shares_cores: bool) -> None:
        self._shares_cores = shares_cores
        self._coming: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._idle_since: float | None = None

    def add(self, work: Work) -> None:
        """Its row will come, unless it is given up."""
        work.is_expected = True
        self._coming[work.call.lane] += 1

    def remove(self, work: Work) -> None:
        """Its row has come, or will not; the second time has no effect."""
        if work.is_expected:
            work.is_expected = False
            self._coming[work.call.lane] -= 1

    def coming(self, lane: Lane) -> int:
        """Rows of a lane that are being prepared."""
        return self._coming[lane]

    def engine_runs(self) -> None:
        """The engine is not idle any more."""
        self._idle_since = None

    def hold_s(self, lane: Lane, limit_s: float) -> float:
        """Seconds that an idle engine still waits for rows of a lane that has some, but no full batch.

        0 or less: none.

        Args:
            lane: whose turn it is.
            limit_s: what a full batch takes.
        """
        if not self._shares_cores or not self._coming[lane]:
            return 0.0
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return self._idle_since + limit_s - now
