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
        self._callers: OrderedDict[Caller, dict[Shape, deque[Work]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, work: Work) -> None:
        """Add one input at the end of its caller's line."""
        line = self._callers.setdefault(work.call.caller, {})
        line.setdefault(work.shape, deque()).append(work)
        self._size += 1

    def next(self) -> Work | None:
        """The input that the next batch begins with; None where there is none."""
        if not self._callers:
            return None
        shape = self._next_shape()
        return next(line[shape][0] for line in self._callers.values() if shape in line)

    def take(self, limit: int, shape: Shape | None = None) -> list[Work]:
        """Remove the next batch: 1 to `limit` inputs of one shape; empty only when the queue is.

        Args:
            limit: most inputs.
            shape: the one to take, none of which may be here; None: that of whose turn it is.
        """
        if not self._callers:
            return []
        shape = self._next_shape() if shape is None else shape
        batch: list[Work] = []
        while len(batch) < limit:
            before = len(batch)
            for caller in list(self._callers):
                if shape in self._callers[caller]:
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
        return sum(len(line[shape]) for line in self._callers.values() if shape in line) >= limit

    def discard(self, unwanted: Callable[[Work], bool]) -> list[Work]:
        """Remove and return every input for which `unwanted` holds."""
        gone: list[Work] = []
        for caller in list(self._callers):
            line = self._callers[caller]
            for shape in list(line):
                gone.extend(work for work in line[shape] if unwanted(work))
                line[shape] = deque(work for work in line[shape] if not unwanted(work))
                if not line[shape]:
                    del line[shape]
            if not line:
                del self._callers[caller]
        self._size -= len(gone)
        return gone

    def discard_call(self, call: Call) -> list[Work]:
        """Remove and return every input of one call."""
        return self.discard(lambda work: work.call is call) if call.caller in self._callers else []

    def discard_all(self) -> list[Work]:
        """Remove and return everything."""
        return self.discard(lambda work: True)

    def _next_shape(self) -> Shape:
        """Shape of the oldest row of the caller whose turn it is."""
        line = next(iter(self._callers.values()))
        return min(line, key=lambda shape: line[shape][0].arrival)

    def _pop(self, caller: Caller, shape: Shape) -> Work:
        """Take a caller's oldest row of a shape and send the caller to the end of the line."""
        line = self._callers[caller]
        work = line[shape].popleft()
        if not line[shape]:
            del line[shape]
        if line:
            self._callers.move_to_end(caller)
        else:
            del self._callers[caller]
        self._size -= 1
        return work
