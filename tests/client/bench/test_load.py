"""The loops against callers whose answers take a known time: what they measure must be what happened."""

import asyncio
import itertools
import statistics
import time

import numpy as np
import pytest

from nearlight.client.bench.load import arrivals, closed_loop, open_loop
from nearlight.client.bench.results import Answer, Tally, percentile


def test_a_closed_loop_keeps_so_many_calls_under_way() -> None:
    under_way, most, asked = 0, 0, 0

    async def ask() -> Answer:
        nonlocal under_way, most, asked
        asked += 1
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return Answer(3)

    point = asyncio.run(closed_loop(ask, in_flight=5, seconds=0.5, warm_up_s=0.1))
    assert most == 5
    assert under_way == 0
    assert point.calls < asked  # those of the warm-up and after the end are not counted
    assert point.inputs_per_s == pytest.approx(3 * point.calls / 0.5)
    assert 20 <= point.p50_ms <= point.p95_ms <= point.p99_ms <= point.max_ms
    assert point.errors == {}


def test_an_open_loop_does_not_wait_for_answers() -> None:
    """A server that answers one call after the other, 20 ms each, gets 100 a second: the queue must show."""
    turn = asyncio.Lock()

    async def ask() -> Answer:
        async with turn:
            await asyncio.sleep(0.02)
        return Answer(1)

    point = asyncio.run(open_loop(ask, rate=100, seconds=0.5, seed=3))
    n = len(list(arrivals(100, 0.5, 3)))
    assert point.calls == n
    # The last of them waited for all the others: a closed loop would have said 20 ms.
    assert point.max_ms > 1e3 * (0.02 * n - 0.5) * 0.9
    assert point.seconds > 0.5
    assert point.inputs_per_s <= 50


def test_arrivals_are_a_poisson_process_and_the_same_for_a_seed() -> None:
    moments = list(arrivals(50, 200, 1))
    assert moments == list(arrivals(50, 200, 1))
    assert moments != list(arrivals(50, 200, 2))
    gaps = np.diff([0.0, *moments])
    assert len(moments) == pytest.approx(50 * 200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of an exponential both are equal
    assert max(moments) < 200


def test_refusals_are_counted_by_status_and_do_not_flood() -> None:
    answers = itertools.cycle(
        [Answer(0, ("RESOURCE_EXHAUSTED",)), Answer(1, ("INVALID_ARGUMENT",)), Answer(2)]
    )

    async def ask() -> Answer:
        await asyncio.sleep(0)
        return next(answers)

    point = asyncio.run(closed_loop(ask, in_flight=1, seconds=0.3))
    refused, failed = point.errors["RESOURCE_EXHAUSTED"], point.errors["INVALID_ARGUMENT"]
    assert 1 <= refused <= 31
    assert failed == pytest.approx(refused, abs=1)
    assert point.calls == pytest.approx(2 * refused, abs=2)


def test_percentiles_equal_numpy() -> None:
    numbers = np.random.default_rng(0)
    for size in (1, 2, 3, 10, 101):
        values = sorted(numbers.exponential(size=size).tolist())
        for q in (0.0, 0.5, 0.95, 0.99, 1.0):
            assert percentile(values, q) == pytest.approx(np.quantile(values, q))
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))
    assert np.isnan(percentile([], 0.5))


def test_a_point_where_nothing_was_answered_has_no_latency() -> None:
    tally = Tally()
    tally.add(Answer(0, ("UNAVAILABLE",)), 5.0)
    point = tally.point("closed", 1, 2.0)
    assert (point.calls, point.inputs_per_s, point.errors) == (0, 0.0, {"UNAVAILABLE": 1})
    assert np.isnan(point.p50_ms)


def test_lateness_of_the_program_itself_is_told() -> None:
    async def ask() -> Answer:
        time.sleep(0.1)  # noqa: ASYNC251 - this is the fault that must show
        return Answer(1)

    point = asyncio.run(open_loop(ask, rate=40, seconds=0.3))
    assert point.lag_ms > 100
