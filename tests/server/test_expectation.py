import threading
import time

import numpy as np
import pytest

from nearlight.server.call import Call, Caller, Input, Lane, Prepared, Route, Work
from nearlight.server.expectation import Expectation

ROUTE = Route(lambda items: [Prepared(np.zeros(1, np.uint8))], lambda work: None)


def work(lane: Lane = "interactive") -> Work:
    return Work(Call(1, Caller(), None, lane), 0, Input("image", b"", "inputs[0]"), ROUTE)


async def test_an_engine_waits_while_rows_of_the_lane_are_coming_and_no_longer_than_the_limit() -> None:
    expectation = Expectation(shares_cores=True)
    coming = work()
    expectation.add(coming)
    first = expectation.hold_s("interactive", 10.0)
    assert 9.9 < first <= 10.0
    threading.Event().wait(0.02)
    assert expectation.hold_s("interactive", 10.0) < first  # counted from the first row on
    assert expectation.hold_s("interactive", 0.01) <= 0
    expectation.engine_runs()
    assert expectation.hold_s("interactive", 10.0) > first - 0.01


async def test_nothing_is_waited_for_where_nothing_comes() -> None:
    expectation = Expectation(shares_cores=True)
    one, other = work(), work("bulk")
    expectation.add(one)
    expectation.add(other)
    expectation.remove(one)
    expectation.remove(one)  # given up after it was delivered
    assert expectation.hold_s("interactive", 10.0) == 0  # bulk rows do not hold single calls up
    assert expectation.hold_s("bulk", 10.0) > 0
    expectation.remove(other)
    assert expectation.hold_s("bulk", 10.0) == 0


async def test_an_engine_with_a_device_of_its_own_never_waits() -> None:
    expectation = Expectation(shares_cores=False)
    expectation.add(work())
    assert expectation.hold_s("interactive", time.monotonic()) == 0


@pytest.mark.parametrize("seed", range(3))
async def test_counts_equal_those_of_a_naive_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    expectation = Expectation(shares_cores=True)
    works = [work("bulk" if rng.random() < 0.5 else "interactive") for _ in range(20)]
    there: set[int] = set()
    for _ in range(300):
        i = int(rng.integers(len(works)))
        if i in there or rng.random() < 0.3:
            expectation.remove(works[i])
            there.discard(i)
        else:
            expectation.add(works[i])
            there.add(i)
        for lane in ("interactive", "bulk"):
            assert expectation.coming(lane) == sum(works[k].call.lane == lane for k in there)
