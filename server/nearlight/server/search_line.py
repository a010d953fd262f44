"""Queries that ask alike and come while the store is busy with such a one are searched together.

There is no waiting time: the first of its kind is searched at once, alone. What comes meanwhile stands in
line, and goes as one search when that has ended. A search of many costs less than many searches: one turn
of a thread, one look-up of what was found, and where every vector is compared, one pass over them.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from nearlight.server.catalog import Catalog
from nearlight.server.prepared_query import Fetch, Fetched, PreparedQuery, hits_of
from nearlight.store import StoreError, VectorCollection

MAX_TOGETHER = 64


@dataclass(slots=True, eq=False)
class _Waiting:
    query: PreparedQuery
    answer: "asyncio.Future[Fetched]"


@dataclass(slots=True, eq=False)
class _Line:
    waiting: "deque[_Waiting]" = field(default_factory=deque)


class SearchLine:
    """Where single queries wait their turn.

    Args:
        catalog: runs the searches.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lines: dict[tuple[int, Fetch], _Line] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def search(self, collection: VectorCollection, query: PreparedQuery) -> Fetched:
        """The hits of one query.

        Raises:
            StoreError: it is refused, or the store failed.
        """
        key = (id(collection), query.fetch)
        if key not in self._lines:
            self._lines[key] = _Line()
            try:
                return await self._catalog.run(lambda: hits_of(collection, [query]))
            finally:
                self._go_on(collection, key)
        answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._lines[key].waiting.append(_Waiting(query, answer))
        return await answer

    def _go_on(self, collection: VectorCollection, key: tuple[int, Fetch]) -> None:
        """Search for those in line, or close the line."""
        line = self._lines[key]
        some = [line.waiting.popleft() for _ in range(min(MAX_TOGETHER, len(line.waiting)))]
        some = [one for one in some if not one.answer.done()]  # its caller went away
        if not some and not line.waiting:
            del self._lines[key]
            return
        task = asyncio.get_running_loop().create_task(self._serve(collection, key, some))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(
        self, collection: VectorCollection, key: tuple[int, Fetch], some: list[_Waiting]
    ) -> None:
        try:
            await self._answer(collection, some)
        finally:
            for one in some:  # whatever happened, nobody waits forever
                if not one.answer.done():
                    one.answer.set_exception(StoreError("the search ended without an answer"))
            self._go_on(collection, key)

    async def _answer(self, collection: VectorCollection, some: list[_Waiting]) -> None:
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
