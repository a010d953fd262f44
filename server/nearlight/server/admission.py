"""Who may enter a tower's pipeline: room for so many inputs, and an answer before the caller's deadline."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from nearlight.server.call import Call
from nearlight.server.errors import Overloaded, TooLate

MIN_RETRY_DELAY_S = 0.05
MAX_RETRY_DELAY_S = 30.0
# The pace measured of late fades over so many full batches, and is doubted after so many seconds.
PACE_BATCHES = 4
DOUBT_SECONDS = 5.0
# Answers of one batch come so soon after one another; those of the rest of a full one count too.
MOMENT_S = 0.01
# A forecast may be so much too short. Who is let in and answered too late has cost others their turn.
SPARE = 0.1


class Pace:
    """Seconds per input that a full pipeline needs, decoding and everything else included.

    The cost model knows the engine alone. While the pipeline is full, or half full at least, the time between
    answers tells the rest: cores shared with decoding, turns given to the other lane, other processes. What
    was measured so is trusted less and less once that is over, or a bad moment would keep it empty for good.

    Args:
        engine_s: predicted seconds of engine time per input in full batches, 0 where nothing is known.
        full_batch: inputs of one.
    """

    def __init__(self, engine_s: Callable[[], float], full_batch: int = 1) -> None:
        self._engine_s = engine_s
        self._full_batch = full_batch
        self._answered = self._busy_s = 0.0
        self._of_late, self._of_late_s = 0, 0.0
        self._measured_at = 0.0

    def answered(self, n: int, seconds: float) -> None:
        """In a full pipeline `n` inputs were answered within so many seconds."""
        self._of_late += n
        self._of_late_s += seconds
        # By whole batches: the first answer of one takes all the time, and must not fade before the others.
        if self._of_late >= self._full_batch:
            fade = 1 - 1 / PACE_BATCHES
            self._answered = fade * self._answered + self._of_late
            self._busy_s = fade * self._busy_s + self._of_late_s
            self._of_late, self._of_late_s = 0, 0.0
            self._measured_at = time.monotonic()

    def holds(self) -> None:
        """The pipeline is full still: what was measured holds."""
        self._measured_at = time.monotonic()

    @property
    def input_s(self) -> float:
        """Seconds per input; 0 where nothing is known."""
        engine_s = self._engine_s()
        if not self._answered:
            return engine_s
        doubt: float = 0.5 ** ((time.monotonic() - self._measured_at) / DOUBT_SECONDS)
        return engine_s + doubt * max(0.0, self._busy_s / self._answered - engine_s)


class Admission:
    """A bound on the inputs between arrival and answer, and a forecast of when a call would be answered.

    Used from the event loop only.

    Args:
        name: of the tower, for messages.
        bound: inputs that may be inside at once, at least 1.
        full_batch: inputs that keep the engine busy: its largest batch.
        engine_s: see `Pace`.
    """

    def __init__(
        self, name: str, bound: int, *, full_batch: int = 1, engine_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.bound = bound
        self.inside = 0
        self.refused = 0
        self._name = name
        self._full_batch = full_batch
        self._busy = -(-full_batch // 2)
        self._pace = Pace(engine_s, full_batch)
        self._calls: dict[Call, int] = {}
        self._waiting: deque[tuple[Call, int, asyncio.Future[None]]] = deque()
        self._full_since = self._last_answer = 0.0
        self._rest_of_batch = 0

    def enter(self, call: Call, n: int) -> None:
        """Let `n` inputs of a call in at once, or none.

        Raises:
            Overloaded: there is no room, or the answer would come after the call's deadline.
            TooLate: the deadline has passed already.
        """
        if self.inside + n > self.bound:
            self.refused += n
            raise Overloaded(
                f"the queue of {self._name} holds {self.inside} inputs; "
                f"{n} more would exceed its bound of {self.bound}",
                _clipped((self.inside + n - self.bound) * (self._pace.input_s or 1.0)),
            )
        self._check_deadline(call, n)
        self._admit(call, n)

    async def enter_when_room(self, call: Call, n: int) -> None:
        """Wait, first come first served, until `n` inputs fit: how a stream is held back.

        Raises:
            Overloaded: there is room, but the answer would come after the call's deadline.
            TooLate: the deadline passed.
        """
        if self._waiting or self.inside + n > self.bound:
            await self._room(call, n)
            try:
                self._check_deadline(call, n)
            except BaseException:
                self.leave(call)
                raise
            return
        self._check_deadline(call, n)
        self._admit(call, n)

    def leave(self, call: Call) -> None:
        """The inputs of a call have been answered or dropped."""
        n = self._calls.pop(call, 0)
        answered = n - min(n, call.left)
        if answered:
            now = time.monotonic()
            is_full = self.inside >= self._busy
            if is_full:
                self._rest_of_batch = self._full_batch
            if is_full or (self._rest_of_batch > 0 and now - self._full_since < MOMENT_S):
                self._pace.answered(answered, now - self._full_since)
            self._rest_of_batch -= answered
            self._full_since = self._last_answer = now
        self.inside -= n
        self._let_in()

    def forecast_s(self, call: Call, n: int) -> float:
        """Predicted seconds until the last of a call's `n` inputs is answered; 0: unknown.

        What runs now is not stopped: up to one batch, less what of it has passed. And callers take turns: of
        every other call as many inputs go first as this one has, at most.
        """
        pace_s = self._pace.input_s
        running = min(self._full_batch, self.inside - self._calls.get(call, 0))
        if n == 1:  # most calls, and asked of each: no more than a look at every other
            first = sum([1 for other in self._calls if other.left and other is not call])
        else:
            first = sum(
                [min(other.left, size, n) for other, size in self._calls.items() if other is not call]
            )
        passed_s = min(time.monotonic() - self._last_answer, running * pace_s)
        return (max(running, first) + n) * pace_s - passed_s

    def _check_deadline(self, call: Call, n: int) -> None:
        reason = call.no_longer_wanted()
        if reason:
            raise TooLate("the deadline passed before work on this call began")
        # Alone in here a call is always let in: an idle engine is wasted otherwise, and its pace never known.
        if call.deadline is None or self.inside == self._calls.get(call, 0):
            return
        if self.inside >= self._busy:
            self._pace.holds()
        left_s = call.deadline - time.monotonic()
        late_s = (1 + SPARE) * (self.forecast_s(call, n) + self._batch_mates_s(left_s)) - left_s
        if late_s > 0:
            self.refused += n
            raise Overloaded(
                f"{self._name} would answer in about {1e3 * (left_s + late_s):.0f} ms; "
                f"the call's deadline leaves {1e3 * left_s:.0f} ms",
                _clipped(late_s),
            )

    def _batch_mates_s(self, left_s: float) -> float:
        """How much later the answer comes because those behind share its batch.

        An answer comes with the end of its batch, and under load that is filled up by those who come later;
        by as many as are here already, it is assumed. Admitted without this, a whole batch would be late by
        little, and all the work on it for nothing. Of what a deadline leaves half at most goes to them: where
        it is short, batches stay small instead.
        """
        return min(min(self._full_batch - 1, self.inside) * self._pace.input_s, left_s / 2)

    async def _room(self, call: Call, n: int) -> None:
        """Wait for room; returns when the call is inside."""
        place = (call, n, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        left_s = None if call.deadline is None else call.deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                await place[2]
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
                self._let_in()
            else:
                self.leave(call)
            if isinstance(error, TimeoutError):
                raise TooLate("the deadline passed before there was room") from None
            raise

    def _admit(self, call: Call, n: int) -> None:
        if self.inside < self._busy:
            self._full_since = time.monotonic()
        if not self.inside:
            self._last_answer = time.monotonic()  # or rather: work on the next one begins here
        self._calls[call] = n
        self.inside += n

    def _let_in(self) -> None:
        while self._waiting and self.inside + self._waiting[0][1] <= self.bound:
            call, n, place = self._waiting.popleft()
            if not place.done():
                self._admit(call, n)
                place.set_result(None)


def _clipped(delay_s: float) -> float:
    """A delay to suggest: 0.05 to 30 seconds."""
    return min(MAX_RETRY_DELAY_S, max(MIN_RETRY_DELAY_S, delay_s))
