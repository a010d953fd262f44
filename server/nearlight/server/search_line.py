"""Queries that ask alike and come while the store is busy with such a one are searched together.

There is no waiting time: the first of its kind is searched at once, alone. What comes meanwhile stands in
line, and goes as one search when that has ended. A search of many costs less than many searches: one turn
of a thread, one look-up of what was found, and where every vector is compared, one pass over them.

A query in little company whose search is known to be quick does not even take a thread: to wake one, and to
be woken by it, would take longer. It is known by those of its kind that were measured before, and it reads
nothing from the disk; so the event loop stands still for less than a millisecond.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nearlight.server.catalog import Catalog
from nearlight.server.prepared_query import Fetch, Fetched, PreparedQuery, hits_of
from nearlight.store import NotInMemory, StoreError, VectorCollection

MAX_TOGETHER = 64
MAX_KINDS = 256
QUICK_S = 0.0007
# With more calls under way threads do more in all: they search while the event loop reads and writes.
QUICK_CALLS = 4
# What a search counts as that must read from the disk: some ten others must be quick before the next try.
_NOT_QUICK_S = 1.0
# How much the newest counts where it took less than was known, and where more: a busy machine makes searches
# seem longer than they are, never shorter.
_SHARE_OF_SHORTER, _SHARE_OF_LONGER = 0.5, 0.05


@dataclass(slots=True, eq=False)
class _Waiting:
    query: PreparedQuery
    answer: "asyncio.Future[Fetched]"


@dataclass(slots=True, eq=False)
class _Line:
    """Queries of one kind.

    Attributes:
        seconds: what a search of one takes.
        is_busy: one is under way.
        waiting: for its end.
    """

    seconds: float = _NOT_QUICK_S
    is_busy: bool = False
    waiting: "deque[_Waiting]" = field(default_factory=deque)

    def note(self, seconds: float) -> None:
        """A search of one query took so long."""
        share = _SHARE_OF_SHORTER if seconds < self.seconds else _SHARE_OF_LONGER
        self.seconds += share * (seconds - self.seconds)


class SearchLine:
    """Where single queries wait their turn.

    Args:
        catalog: runs the searches.
        n_calls: tells how many calls are under way.
    """

    def __init__(self, catalog: Catalog, n_calls: Callable[[], int]) -> None:
        self._catalog = catalog
        self._n_calls = n_calls
        self._lines: dict[tuple[int, Fetch], _Line] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def search(self, collection: VectorCollection, query: PreparedQuery) -> Fetched:
        """The hits of one query.

        Raises:
            StoreError: it is refused, or the store failed.
        """
        line = self._line_of((id(collection), query.fetch))
        if line.is_busy:
            answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
            line.waiting.append(_Waiting(query, answer))
            return await answer
        if line.seconds < QUICK_S and self._n_calls() <= QUICK_CALLS:
            found = _at_once(line, collection, query)
            if found is not None:
                return found
        return await self._alone(line, collection, query)

    def _line_of(self, kind: tuple[int, Fetch]) -> _Line:
        line = self._lines.get(kind)
        if line is None:
            if len(self._lines) >= MAX_KINDS:
                self._lines = {kind: line for kind, line in self._lines.items() if line.is_busy}
            line = self._lines[kind] = _Line()
        return line

    async def _alone(self, line: _Line, collection: VectorCollection, query: PreparedQuery) -> Fetched:
        """The hits of a query that is searched by a thread, while those like it stand in line."""
        line.is_busy = True

        def timed() -> tuple[Fetched, float]:
            began = time.perf_counter()
            return hits_of(collection, [query]), time.perf_counter() - began

        try:
            found, seconds = await self._catalog.run(timed)
        finally:
            self._go_on(line, collection)
        if query.fetch.is_in_memory:
            line.note(seconds)
        return found

    def _go_on(self, line: _Line, collection: VectorCollection) -> None:
        """Search for those in line, if there are any."""
        some = [line.waiting.popleft() for _ in range(min(MAX_TOGETHER, len(line.waiting)))]
        some = [one for one in some if not one.answer.done()]  # its caller went away
        line.is_busy = bool(some or line.waiting)
        if line.is_busy:
            task = asyncio.get_running_loop().create_task(self._serve(line, collection, some))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _serve(self, line: _Line, collection: VectorCollection, some: list[_Waiting]) -> None:
        try:
            await self._answer(collection, some)
        finally:
            for one in some:  # whatever happened, nobody waits forever
                if not one.answer.done():
                    one.answer.set_exception(StoreError("the search ended without an answer"))
            self._go_on(line, collection)

    async def _answer(self, collection: VectorCollection, some: Sequence[_Waiting]) -> None:
        if not some:
            return
        try:
            found = await self._catalog.run(lambda: hits_of(collection, [one.query for one in some]))
        except Exception as error:
            if len(some) == 1:
                if not some[0].answer.done():
                    some[0].answer.set_exception(error)
                return
            for one in some:  # one of them may be to blame: each for itself
                await self._answer(collection, [one])
            return
        for one, hits in zip(some, found.hits, strict=True):
            if not one.answer.done():
                one.answer.set_result(Fetched([hits], found.n_matching, found.how))


def _at_once(line: _Line, collection: VectorCollection, query: PreparedQuery) -> Fetched | None:
    """The hits of a query, found right here; None where the disk must be read."""
    began = time.perf_counter()
    try:
        found = hits_of(collection, [query], memory_only=True)
    except NotInMemory:
        line.seconds = _NOT_QUICK_S
        return None
    line.note(time.perf_counter() - began)
    return found
