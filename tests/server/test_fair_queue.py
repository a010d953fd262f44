import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearlight.server.call import Call, Caller, Input, Prepared, Route, Work
from nearlight.server.fair_queue import FairQueue

ROUTE = Route(lambda items: [Prepared(np.zeros(1, np.uint8))], lambda work: None)


async def works(caller: Caller, n: int, length: int = 4) -> list[Work]:
    call = Call(n, caller, None)
    row = np.zeros(length, np.int64)
    return [Work(call, i, Input("text", "", f"inputs[{i}]"), ROUTE, row) for i in range(n)]


async def test_a_single_input_waits_for_one_round_of_a_bulk_caller_at_most() -> None:
    queue = FairQueue()
    for work in await works(Caller(), 1000):
        queue.push(work)
    [single] = await works(Caller(), 1)
    queue.push(single)
    assert single in queue.take(2)
    assert len(queue) == 999


async def test_callers_take_turns_across_batches() -> None:
    queue = FairQueue()
    callers = [Caller() for _ in range(3)]
    for caller in callers:
        for work in await works(caller, 4):
            queue.push(work)
    turns = [queue.take(1)[0].call.caller for _ in range(12)]
    assert turns == callers * 4


async def test_a_batch_has_one_shape_and_no_shape_is_starved() -> None:
    queue = FairQueue()
    bulk, other = Caller(), Caller()
    for work in await works(bulk, 50, length=16):
        queue.push(work)
    for work in await works(other, 2, length=8):
        queue.push(work)
    first, second = queue.take(8), queue.take(8)
    assert {work.shape for work in first} == {(16,)}
    assert [(work.shape, work.call.caller) for work in second] == [((8,), other)] * 2


async def test_holds_full_batch_counts_the_next_shape_only() -> None:
    queue = FairQueue()
    caller = Caller()
    for work in await works(caller, 3, length=16):
        queue.push(work)
    for work in await works(caller, 5, length=8):
        queue.push(work)
    assert not queue.holds_full_batch(4)
    assert queue.holds_full_batch(3)


async def test_discarding_a_call_leaves_the_others() -> None:
    queue = FairQueue()
    caller = Caller()
    gone, kept = await works(caller, 3), await works(caller, 2)
    for work in gone + kept:
        queue.push(work)
    assert queue.discard_call(gone[0].call) == gone
    assert len(queue) == 2
    assert queue.take(9) == kept
    assert queue.take(9) == []


@given(
    pushes=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=60),
    limit=st.integers(1, 7),
)
async def test_everything_comes_out_once_in_order_within_caller_and_shape(
    pushes: list[tuple[int, int]], limit: int
) -> None:
    queue = FairQueue()
    callers = [Caller() for _ in range(5)]
    pushed = []
    for number, length in pushes:
        pushed += await works(callers[number], 1, length)
        queue.push(pushed[-1])
    out: list[Work] = []
    while batch := queue.take(limit):
        assert len(batch) <= limit
        assert len({work.shape for work in batch}) == 1
        out += batch
    assert len(queue) == 0
    assert sorted(map(id, out)) == sorted(map(id, pushed))
    for caller in callers:
        for length in (1, 2, 3):
            same = [w for w in pushed if w.call.caller is caller and w.shape == (length,)]
            assert [w for w in out if w in same] == same
