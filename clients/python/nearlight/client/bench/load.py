"""Callers: a fixed number of them, or as many as arrive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator

from nearlight.client.bench.results import Answer, Point, Tally

# Sends one call and tells what came back; never raises but for a fault of this program.
Ask = Callable[[], Awaitable[Answer]]

# A caller that was refused waits a little, or a closed loop of refusals would be a flood.
AFTER_ERROR_S = 0.01


async def closed_loop(ask: Ask, *, in_flight: int, seconds: float, warm_up_s: float = 0.0) -> Point:
    """Measures `in_flight` callers, each of whom asks again as soon as it is answered.

    Args:
        ask: sends one call.
        in_flight: callers, >= 1.
        seconds: of measuring; calls that end within them count.
        warm_up_s: before that, not counted.
    """
    tally = Tally()
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds

    async def caller() -> None:
        while (sent := time.perf_counter()) < end:
            answer = await ask()
            done = time.perf_counter()
            if begin <= done <= end:
                tally.add(answer, 1e3 * (done - sent))
            if not answer.embedded:
                await asyncio.sleep(AFTER_ERROR_S)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return tally.point("closed", in_flight, seconds)


async def open_loop(ask: Ask, *, rate: float, seconds: float, seed: int = 0) -> Point:
    """Measures calls that arrive by themselves, `rate` a second on average, at random (a Poisson process).

    A call's latency counts from when it was due. Calls still under way at the end are waited for; where the
    server falls behind, its throughput is over that longer time.

    Args:
        ask: sends one call.
        rate: arrivals per second, > 0.
        seconds: during which calls arrive.
        seed: of the arrivals.
    """
    tally = Tally()
    lag_s = 0.0
    begin = time.perf_counter()

    async def call(due: float) -> None:
        nonlocal lag_s
        lag_s = max(lag_s, time.perf_counter() - due)
        answer = await ask()
        tally.add(answer, 1e3 * (time.perf_counter() - due))

    async with asyncio.TaskGroup() as calls:
        for offset in arrivals(rate, seconds, seed):
            due = begin + offset
            wait_s = due - time.perf_counter()
            await asyncio.sleep(max(0.0, wait_s))
            calls.create_task(call(due))
        await asyncio.sleep(max(0.0, begin + seconds - time.perf_counter()))
    return tally.point("open", rate, max(seconds, time.perf_counter() - begin), 1e3 * lag_s)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yields the moments of a Poisson process, in seconds from its begin."""
    numbers = random.Random(seed)
    moment = numbers.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += numbers.expovariate(rate)
