"""Single queries that come together are searched together, and fail alone."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from nearlight.server import search_line
from nearlight.server.prepared_query import Fetched
from nearlight.server.search_line import MAX_KINDS, MAX_TOGETHER, QUICK_CALLS, QUICK_S, SearchLine
from nearlight.store import How, InvalidQuery, NotInMemory


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
    return SimpleNamespace(fetch=Kind(fetch), name=name)


@dataclass(frozen=True)
class Kind:
    """What a query asks."""

    name: object
    is_in_memory: bool = True


def calls(n: int) -> Callable[[], int]:
    return lambda: n


def is_empty(line: SearchLine) -> bool:
    return not any(one.is_busy or one.waiting for one in line._lines.values())


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Names of the queries of each search; one named "bad" is refused."""
    seen: list[list[Any]] = []

    def hits_of(collection: object, queries: list[Any], memory_only: bool = False) -> Fetched:
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
    line = SearchLine(threads, calls(1))  # type: ignore[arg-type]
    tasks = await begun(line, [query(i) for i in range(MAX_TOGETHER + 6)], threads)
    threads.go.set()
    found = await asyncio.gather(*tasks)
    assert [one.hits for one in found] == [[[i]] for i in range(MAX_TOGETHER + 6)]
    assert [len(one) for one in searched] == [1, MAX_TOGETHER, 5]
    assert is_empty(line)


async def test_only_what_asks_alike_goes_together(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads, calls(1))  # type: ignore[arg-type]
    tasks = await begun(line, [query(i, fetch=i % 2) for i in range(6)], threads)
    threads.go.set()
    await asyncio.gather(*tasks)
    assert sorted(searched) == [[0], [1], [2, 4], [3, 5]]


async def test_one_that_is_refused_fails_alone(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads, calls(1))  # type: ignore[arg-type]
    tasks = await begun(line, [query(name) for name in ("a", "b", "bad", "c")], threads)
    threads.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, InvalidQuery) for one in found] == [False, False, True, False]
    hits: list[Any] = [one.hits for one in found if isinstance(one, Fetched)]
    assert hits == [[["a"]], [["b"]], [["c"]]]
    assert is_empty(line)


async def test_callers_that_leave_are_not_searched_for(searched: list[list[Any]]) -> None:
    threads = Threads()
    line = SearchLine(threads, calls(1))  # type: ignore[arg-type]
    tasks = await begun(line, [query(i) for i in range(4)], threads)
    tasks[1].cancel()
    tasks[0].cancel()  # the one that is searching
    await asyncio.sleep(0)
    threads.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, True, False, False]
    assert [2, 3] in searched
    assert [1] not in searched
    assert is_empty(line)


class Store:
    """Says where each search ran; takes a given time by the clock it keeps, and may need the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran_in: list[str] = []
        self.seconds = self.now = 0.0
        self.needs_disk = False
        monkeypatch.setattr(search_line, "hits_of", self.hits_of)
        monkeypatch.setattr(search_line, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def hits_of(self, collection: object, queries: list[Any], memory_only: bool = False) -> Fetched:
        assert memory_only == (threading.current_thread() is threading.main_thread())
        if memory_only and self.needs_disk:
            raise NotInMemory("must be read")
        self.ran_in.append("loop" if memory_only else "thread")
        self.now += self.seconds
        return Fetched([[one.name] for one in queries], None, How())


async def asked(line: SearchLine, n: int) -> None:
    for i in range(n):
        found = await line.search("collection", query(i))  # type: ignore[arg-type]
        assert found.hits == [[i]]  # type: ignore[comparison-overlap]


async def test_a_search_known_to_be_quick_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    store, line = Store(monkeypatch), SearchLine(Threads(), calls(QUICK_CALLS))  # type: ignore[arg-type]
    await asked(line, 30)
    assert store.ran_in[0] == "thread"  # nobody knows yet
    assert store.ran_in[-1] == "loop"


async def test_a_slow_search_never_holds_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    store, line = Store(monkeypatch), SearchLine(Threads(), calls(1))  # type: ignore[arg-type]
    store.seconds = 2 * QUICK_S
    await asked(line, 30)
    assert set(store.ran_in) == {"thread"}


async def test_one_that_became_slow_goes_to_a_thread_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store, line = Store(monkeypatch), SearchLine(Threads(), calls(1))  # type: ignore[arg-type]
    await asked(line, 30)
    store.seconds = 4 * QUICK_S
    await asked(line, 30)
    assert store.ran_in[-1] == "thread"


async def test_in_company_searches_take_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    store, line = Store(monkeypatch), SearchLine(Threads(), calls(QUICK_CALLS + 1))  # type: ignore[arg-type]
    await asked(line, 30)
    assert set(store.ran_in) == {"thread"}


async def test_what_needs_the_disk_is_searched_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    store, line = Store(monkeypatch), SearchLine(Threads(), calls(1))  # type: ignore[arg-type]
    await asked(line, 30)
    store.needs_disk = True
    await asked(line, 3)
    assert store.ran_in[-3:] == ["thread"] * 3


async def test_kinds_of_queries_are_forgotten_in_the_end(searched: list[list[Any]]) -> None:
    line = SearchLine(Threads(), calls(1))  # type: ignore[arg-type]
    for i in range(MAX_KINDS + 9):
        await line.search("collection", query(i, fetch=i))  # type: ignore[arg-type]
    assert len(line._lines) <= MAX_KINDS
