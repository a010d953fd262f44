"""Single queries that come together are searched together, and fail alone."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nearlight.server import search_line
from nearlight.server.prepared_query import Fetched
from nearlight.server.search_line import MAX_TOGETHER, SearchLine
from nearlight.store import How, InvalidQuery


class Threads:
    """Runs each search in a thread, as the catalog does; holds the first until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    async def run(self, work: Callable[[], Any]) -> Any:
        def held() -> Any:
            assert self.go.wait(10)
            return work()

        return await asyncio.to_thread(held)


def query(name: object, fetch: object = "alike") -> Any:
    return SimpleNamespace(fetch=fetch, name=name)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Names of the queries of each search; one named "bad" is refused."""
    seen: list[list[Any]] = []

    def hits_of(collection: object, queries: list[Any]) -> Fetched:
        seen.append([one.name for one in queries])
        if any(one.name == "bad" for one in queries):
            raise InvalidQuery("queries[0]", "all zeros", "its length must not be zero")
        return Fetched([[one.name] for one in queries], None, How())

    monkeypatch.setattr(search_line, "hits_of", hits_of)
    return seen


async def begun(line: SearchLine, queries: list[Any], threads: Threads) -> list["asyncio.Task[Any]"]:
    """Tasks of which the first is searching, held, and the others stand in line."""
    threads.go.clear()
    tasks = []
    for one in queries:
        tasks.append(asyncio.create_task(line.search("collection", one)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_meanwhile_is_one_search(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads)  # type: ignore[arg-type]
    tasks = await begun(line, [query(i) for i in range(MAX_TOGETHER + 6)], threads)
    threads.go.set()
    found = await asyncio.gather(*tasks)
    assert [one.hits for one in found] == [[[i]] for i in range(MAX_TOGETHER + 6)]
    assert [len(one) for one in searched] == [1, MAX_TOGETHER, 5]
    assert line._lines == {}


async def test_only_what_asks_alike_goes_together(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads)  # type: ignore[arg-type]
    tasks = await begun(line, [query(i, fetch=i % 2) for i in range(6)], threads)
    threads.go.set()
    await asyncio.gather(*tasks)
    assert sorted(searched) == [[0], [1], [2, 4], [3, 5]]


async def test_one_that_is_refused_fails_alone(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads)  # type: ignore[arg-type]
    tasks = await begun(line, [query(name) for name in ("a", "b", "bad", "c")], threads)
    threads.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, InvalidQuery) for one in found] == [False, False, True, False]
    hits: list[Any] = [one.hits for one in found if isinstance(one, Fetched)]
    assert hits == [[["a"]], [["b"]], [["c"]]]
    assert line._lines == {}


async def test_callers_that_leave_are_not_searched_for(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads)  # type: ignore[arg-type]
    tasks = await begun(line, [query(i) for i in range(4)], threads)
    tasks[1].cancel()
    tasks[0].cancel()  # the one that is searching
    await asyncio.sleep(0)
    threads.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, True, False, False]
    assert [2, 3] in searched
    assert [1] not in searched
    assert line._lines == {}
