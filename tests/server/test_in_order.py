import asyncio
from collections.abc import AsyncIterator

import pytest

from nearlight.server.errors import NotReady
from nearlight.server.in_order import in_order


class Source:
    """Numbers 0 … n-1; counts how many were read."""

    def __init__(self, n: int, *, then_hang: bool = False) -> None:
        self.n, self.read, self.then_hang = n, 0, then_hang

    async def __aiter__(self) -> AsyncIterator[int]:
        while self.read < self.n:
            self.read += 1
            yield self.read - 1
        if self.then_hang:
            await asyncio.Event().wait()


async def test_results_come_in_order_though_work_ends_out_of_order() -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0.003 * (n % 3 == 0))
        return n

    results = in_order(aiter(Source(50)), work, in_flight=7, stop=asyncio.Event())
    assert [n async for n in results] == list(range(50))


async def test_no_more_is_read_than_may_be_in_flight() -> None:
    source, most, running = Source(100), 0, 0

    async def work(n: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    async for n in in_order(aiter(source), work, in_flight=4, stop=asyncio.Event()):
        await asyncio.sleep(0)  # a slow reader
        assert source.read <= n + 1 + 4
    assert most <= 4


async def test_when_stopped_what_was_read_is_answered_and_the_stream_ends_with_not_ready() -> None:
    stop, source = asyncio.Event(), Source(3, then_hang=True)

    async def work(n: int) -> int:
        return n

    results = in_order(aiter(source), work, in_flight=8, stop=stop)
    assert [await anext(results) for _ in range(3)] == [0, 1, 2]
    stop.set()
    with pytest.raises(NotReady, match="draining"):
        await anext(results)


async def test_a_failing_stream_ends_with_its_failure() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 0
        raise ConnectionError("gone")

    async def work(n: int) -> int:
        return n

    results = in_order(broken(), work, in_flight=2, stop=asyncio.Event())
    assert await anext(results) == 0
    with pytest.raises(ConnectionError):
        await anext(results)


async def test_leaving_early_cancels_the_work_in_flight() -> None:
    cancelled = []

    async def work(n: int) -> int:
        try:
            await asyncio.sleep(60 if n else 0)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    results = in_order(aiter(Source(5)), work, in_flight=3, stop=asyncio.Event())
    assert await anext(results) == 0
    await asyncio.sleep(0.01)
    await results.aclose()
    assert sorted(cancelled) == [1, 2]
