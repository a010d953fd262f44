"""Two queues that share one engine by weight, so that bulk work neither delays single calls nor starves."""

from collections.abc import Sequence

from nearlight.server.call import LANES, Call, Lane, Work
from nearlight.server.fair_queue import FairQueue, Shape

INTERACTIVE_WEIGHT = 8.0


class LaneQueue:
    """Waiting inputs by lane, and whose turn it is.

    Start-time fair queueing: every lane has a clock that runs by the cost of what it was given over its
    weight, and the lane whose clock is behind has the turn. A lane that was empty starts at the clock of the
    one last served: it has saved up nothing, and goes first. So an interactive input that comes while a bulk
    batch runs has the next turn, and with both lanes full each gets engine time by its weight.
    Source: Goyal, Vin, Cheng, "Start-time Fair Queueing" (SIGCOMM 1996).

    Not thread-safe: its owner holds a lock.

    Args:
        interactive_weight: engine time of interactive work over that of bulk work when both wait; > 0.
    """

    def __init__(self, interactive_weight: float) -> None:
        self._queues: dict[Lane, FairQueue] = {lane: FairQueue() for lane in LANES}
        self._weights: dict[Lane, float] = {"interactive": interactive_weight, "bulk": 1.0}
        self._clocks: dict[Lane, float] = dict.fromkeys(LANES, 0.0)
        self._now = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting(self, lane: Lane) -> int:
        """Inputs that wait in one lane."""
        return len(self._queues[lane])

    def push(self, work: Work) -> None:
        """Add one input to its call's lane."""
        self._queues[work.call.lane].push(work)

    def turn(self, also: Lane | None = None) -> Lane | None:
        """The lane whose turn it is, None where nothing waits.

        Args:
            also: a lane that has work elsewhere, such as a batch gathered ahead.
        """
        ready = [lane for lane in LANES if len(self._queues[lane]) or lane == also]
        return min(ready, key=self._start, default=None)

    def charge(self, lane: Lane, cost: float) -> None:
        """A lane is served.

        Args:
            lane: whose turn it was.
            cost: of what it is given, in one unit for both lanes, such as seconds.
        """
        self._now = self._start(lane)
        self._clocks[lane] = self._now + cost / self._weights[lane]

    def next(self, lane: Lane) -> Work | None:
        """The input that the next batch of a lane begins with; None where the lane is empty."""
        return self._queues[lane].next()

    def take(self, lane: Lane, limit: int) -> list[Work]:
        """Remove the next 1 to `limit` inputs of one shape of a lane; empty only where the lane is."""
        return self._queues[lane].take(limit)

    def take_shape(self, lane: Lane, shape: Shape, limit: int) -> list[Work]:
        """Remove up to `limit` inputs of this shape."""
        return self._queues[lane].take(limit, shape)

    def full_lane(self, limit: int) -> Lane | None:
        """A lane whose next batch would be full, the one before whose turn is nearer."""
        return next(
            (lane for lane in sorted(LANES, key=self._start) if self._queues[lane].holds_full_batch(limit)),
            None,
        )

    def discard_call(self, call: Call) -> list[Work]:
        """Remove and return every input of one call."""
        return self._queues[call.lane].discard_call(call)

    def discard_all(self) -> Sequence[Work]:
        """Remove and return everything."""
        return [work for queue in self._queues.values() for work in queue.discard_all()]

    def _start(self, lane: Lane) -> float:
        return max(self._clocks[lane], self._now)
