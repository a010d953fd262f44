"""How many inputs may be inside one tower's pipeline at once."""

import asyncio
import time
from collections import deque

from nearlight.server.errors import Overloaded

MIN_RETRY_DELAY_S = 0.05
MAX_RETRY_DELAY_S = 30.0


class Admission:
    """A bound on the inputs between arrival and answer, and the delay to suggest when it is reached.

    Used from the event loop only.

    Args:
        name: of the tower, for messages.
        bound: inputs that may be inside at once, at least 1.
    """

    def __init__(self, name: str, bound: int) -> None:
        self.bound = bound
        self.inside = 0
        self._name = name
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        # Inputs answered and seconds spent on them while not idle, both fading so that the latest count most.
        self._answered = 0.0
        self._busy_s = 0.0
        self._busy_since = 0.0

    def enter(self, n: int) -> None:
        """Let `n` inputs in at once, or none.

        Raises:
            Overloaded: there is no room.
        """
        if self.inside + n > self.bound:
            raise Overloaded(
                f"the queue of {self._name} holds {self.inside} inputs; "
                f"{n} more would exceed its bound of {self.bound}",
                self.retry_delay_s(n),
            )
        self._admit(n)

    async def enter_when_room(self, n: int) -> None:
        """Wait, first come first served, until `n` inputs fit: how a stream is held back."""
        if not self._waiting and self.inside + n <= self.bound:
            self._admit(n)
            return
        place = (n, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
                self._let_in()
            else:
                self.leave(n)
            raise

    def leave(self, n: int) -> None:
        """`n` inputs have been answered or dropped."""
        now = time.monotonic()
        self._answered = 0.95 * self._answered + n
        self._busy_s = 0.95 * self._busy_s + now - self._busy_since
        self._busy_since = now
        self.inside -= n
        self._let_in()

    def retry_delay_s(self, n: int) -> float:
        """Seconds after which `n` inputs should find room, from the rate of late; 0.05 to 30."""
        excess = max(1, self.inside + n - self.bound)
        delay = excess * self._busy_s / self._answered if self._answered else 1.0
        return min(MAX_RETRY_DELAY_S, max(MIN_RETRY_DELAY_S, delay))

    def _admit(self, n: int) -> None:
        if not self.inside:
            self._busy_since = time.monotonic()
        self.inside += n

    def _let_in(self) -> None:
        while self._waiting and self.inside + self._waiting[0][0] <= self.bound:
            n, place = self._waiting.popleft()
            if not place.done():
                self._admit(n)
                place.set_result(None)
