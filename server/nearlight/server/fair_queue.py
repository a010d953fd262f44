"""A queue that goes round robin between callers, so that a bulk caller cannot starve a single one."""

from collections import OrderedDict, deque
from collections.abc import Callable

from nearlight.server.call import Call, Caller, Work

Shape = tuple[int, ...]


class FairQueue:
    """Waiting inputs by caller and, within a caller, by row shape.

    A batch holds rows of one shape: that of the oldest row of the caller whose turn it is. Callers with rows
    of that shape then give one row each, round after round, until the batch is full. A caller that gave a row
    goes to the end of the line. Not thread-safe: its owner holds a lock.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[Caller, dict[Shape, deque[Work]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, work: Work) -> None:
        """Add one input at the end of its caller's lane."""
        lane = self._lanes.setdefault(work.call.caller, {})
        lane.setdefault(work.shape, deque()).append(work)
        self._size += 1

    def take(self, limit: int) -> list[Work]:
        """Remove the next batch: 1 to `limit` inputs of one shape; empty only when the queue is."""
        if not self._lanes:
            return []
        shape = self._next_shape()
        batch: list[Work] = []
        while len(batch) < limit:
            before = len(batch)
            for caller in list(self._lanes):
                if shape in self._lanes[caller]:
                    batch.append(self._pop(caller, shape))
                    if len(batch) == limit:
                        break
            if len(batch) == before:
                break
        return batch

    def holds_full_batch(self, limit: int) -> bool:
        """Whether the next batch would be full."""
        if self._size < limit:
            return False
        shape = self._next_shape()
        return sum(len(lane[shape]) for lane in self._lanes.values() if shape in lane) >= limit

    def discard(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Remove and return every input for which `unwanted` holds."""
        gone: list[Work] = []
        for caller in list(self._lanes):
            lane = self._lanes[caller]
            for shape in list(lane):
                gone.extend(work for work in lane[shape] if unwanted(work))
                lane[shape] = deque(work for work in lane[shape] if not unwanted(work))
                if not lane[shape]:
                    del lane[shape]
            if not lane:
                del self._lanes[caller]
        self._size -= len(gone)
        return gone

    def discard_call(self, call: Call) -> list[Work]:
        """Remove and return every input of one call."""
        return self.discard(lambda work: work.call is call) if call.caller in self._lanes else []

    def discard_all(self) -> list[Work]:
        """Remove and return everything."""
        return self.discard(lambda work: True)

    def _next_shape(self) -> Shape:
        """Shape of the oldest row of the caller whose turn it is."""
        lane = next(iter(self._lanes.values()))
        return min(lane, key=lambda shape: lane[shape][0].arrival)

    def _pop(self, caller: Caller, shape: Shape) -> Work:
        """Take a caller's oldest row of a shape and send the caller to the end of the line."""
        lane = self._lanes[caller]
        work = lane[shape].popleft()
        if not lane[shape]:
            del lane[shape]
        if lane:
            self._lanes.move_to_end(caller)
        else:
            del self._lanes[caller]
        self._size -= 1
        return work
