import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.server.call import Call, Caller, Input, Lane, Prepared, Route, Work
from nearlight.server.lanes import LaneQueue

ROUTE = Route(lambda items: [Prepared(np.zeros(1, np.uint8))], lambda work: None)


def works(lane: Lane, n: int, caller: Caller | None = None, length: int = 4) -> list[Work]:
    call = Call(n, caller or Caller(), None, lane)
    return [Work(call, i, Input("text", "", ""), ROUTE, np.zeros(length, np.int64)) for i in range(n)]


def fill(queue: LaneQueue, lane: Lane, n: int) -> None:
    for work in works(lane, n):
        queue.push(work)


def serve(queue: LaneQueue, cost: float, limit: int = 1) -> Lane:
    lane = queue.turn()
    assert lane
    assert queue.take(lane, limit)
    queue.charge(lane, cost)
    return lane


async def test_an_interactive_input_goes_before_any_bulk_that_waits_longer() -> None:
    queue = LaneQueue(8)
    fill(queue, "bulk", 100)
    for _ in range(20):
        assert serve(queue, 1.0) == "bulk"
    fill(queue, "interactive", 1)
    assert serve(queue, 1.0) == "interactive"
    assert serve(queue, 1.0) == "bulk"


async def test_with_both_lanes_full_each_gets_engine_time_by_its_weight() -> None:
    queue = LaneQueue(4)
    fill(queue, "bulk", 400)
    fill(queue, "interactive", 400)
    spent = {"interactive": 0.0, "bulk": 0.0}
    for _ in range(200):
        cost = 0.5 if queue.turn() == "bulk" else 0.03  # bulk batches are large
        spent[serve(queue, cost)] += cost
    assert spent["interactive"] / spent["bulk"] == pytest.approx(4, rel=0.2)


async def test_a_lane_that_was_empty_has_saved_up_nothing() -> None:
    queue = LaneQueue(1)
    fill(queue, "interactive", 300)
    for _ in range(100):
        serve(queue, 1.0)
    fill(queue, "bulk", 100)
    turns = [serve(queue, 1.0) for _ in range(100)]
    assert 40 <= turns.count("bulk") <= 60


@given(st.lists(st.sampled_from(["interactive", "bulk", "serve"]), max_size=80), st.floats(0.1, 20))
async def test_everything_comes_out_once_and_no_lane_waits_for_ever(steps: list[str], weight: float) -> None:
    queue = LaneQueue(weight)
    pushed = served = 0
    for step in steps:
        if step == "serve":
            if len(queue):
                serve(queue, 1.0)
                served += 1
        else:
            fill(queue, "bulk" if step == "bulk" else "interactive", 1)
            pushed += 1
    while queue.waiting("bulk"):
        serve(queue, 1.0)
        served += 1
        # Interactive work that never ends: bulk is served all the same.
        fill(queue, "interactive", 1)
        pushed += 1
        assert served < 200 * (1 + weight)
    while len(queue):
        serve(queue, 1.0)
        served += 1
    assert served == pushed
    assert queue.turn() is None
    assert queue.turn(also="bulk") == "bulk"


async def test_a_full_batch_is_looked_for_in_both_lanes() -> None:
    queue = LaneQueue(8)
    fill(queue, "interactive", 3)
    assert queue.full_lane(4) is None
    fill(queue, "bulk", 4)
    assert queue.full_lane(4) == "bulk"
    fill(queue, "interactive", 1)
    assert queue.full_lane(4) == "interactive"
    queue.charge("interactive", 100.0)
    assert queue.full_lane(4) == "bulk"


async def test_a_call_is_discarded_from_its_lane() -> None:
    queue = LaneQueue(8)
    gone, kept = works("bulk", 3), works("interactive", 2)
    for work in gone + kept:
        queue.push(work)
    queue.discard_call(gone[0].call)
    assert (queue.waiting("bulk"), queue.waiting("interactive")) == (0, 2)
    assert list(queue.discard_all()) == kept


async def test_riders_are_of_the_shape_asked_for() -> None:
    queue = LaneQueue(8)
    for work in works("bulk", 3, length=8) + works("bulk", 2, length=16):
        queue.push(work)
    assert queue.take_shape("bulk", (32,), 5) == []
    assert [work.shape for work in queue.take_shape("bulk", (16,), 5)] == [(16,), (16,)]
    assert queue.take_shape("bulk", (8,), 0) == []
    assert queue.waiting("bulk") == 3
