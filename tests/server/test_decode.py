import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from nearlight.server.call import Call, Caller, Embedded, Input, Lane, Prepared, Route, Work
from nearlight.server.decode import TURN_SIZE, DecodePool, one_by_one
from nearlight.server.errors import Abandoned, InvalidInput, ModelFailure, NotReady, ServerError, TooLate
from nearlight.server.supervisor import Supervisor

VECTOR = np.ones(2, np.float32)


class Killed(BaseException):
    """Nothing in the thread may survive it."""


def serve(works: Sequence[Work]) -> None:
    for work in works:
        work.settle(Embedded(VECTOR))


class Kitchen:
    """Prepares inputs by their text; a gate can hold it. Ready inputs are answered at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.order: list[str] = []
        self.turns: list[int] = []
        self.route = Route(self.prepare_all, serve)

    def prepare_all(self, items: Sequence[Input]) -> Sequence[Prepared | ServerError]:
        self.turns.append(len(items))
        return one_by_one(self.prepare)(items)

    def prepare(self, item: Input) -> Prepared:
        assert isinstance(item.content, str)
        self.order.append(item.content)
        self.entered.release()
        assert self.gate.wait(30)
        if item.content == "bad":
            raise InvalidInput("bad", field=item.field)
        if item.content == "raises":
            raise ZeroDivisionError("a bug")
        if item.content == "kills":
            raise Killed
        return Prepared(np.zeros(1, np.uint8))

    def works(self, *contents: str, deadline: float | None = None) -> tuple[Call, list[Work]]:
        call = Call(len(contents), Caller(), deadline)
        inputs = [Input("text", content, f"inputs[{i}]") for i, content in enumerate(contents)]
        return call, [Work(call, i, item, self.route) for i, item in enumerate(inputs)]


@pytest.fixture
def pool(calm_supervisor: Supervisor) -> Iterator[DecodePool]:
    made = DecodePool(1, calm_supervisor)
    yield made
    made.close()


@pytest.fixture
def many_at_once(calm_supervisor: Supervisor) -> Iterator[DecodePool]:
    """A pool whose one thread takes up to eight."""
    made = DecodePool(1, calm_supervisor, work="tokenise", at_once=8)
    yield made
    made.close()


async def busy(pool: DecodePool, kitchen: Kitchen) -> Call:
    """One input holds the thread; what comes now waits until the gate is opened."""
    kitchen.gate.clear()
    first, held = kitchen.works("first")
    pool.submit(held)
    assert await asyncio.to_thread(kitchen.entered.acquire, timeout=30)
    return first


async def test_what_is_wrong_with_an_input_stays_with_it(pool: DecodePool) -> None:
    call, works = Kitchen().works("a", "bad", "raises", "b")
    pool.submit(works)
    kinds = [type(outcome) for outcome in await call.joined()]
    assert kinds == [Embedded, InvalidInput, ModelFailure, Embedded]


async def test_a_single_caller_is_not_behind_a_bulk_caller(pool: DecodePool) -> None:
    kitchen = Kitchen()
    kitchen.gate.clear()
    bulk, many = kitchen.works(*(f"bulk{n}" for n in range(50)))
    pool.submit(many)
    assert kitchen.entered.acquire(timeout=30)
    single, one = kitchen.works("single")
    pool.submit(one)
    kitchen.gate.set()
    await asyncio.gather(bulk.joined(), single.joined())
    assert kitchen.order.index("single") <= 2


async def test_late_and_abandoned_inputs_are_not_prepared(pool: DecodePool) -> None:
    kitchen = Kitchen()
    kitchen.gate.clear()
    first, held = kitchen.works("first")
    pool.submit(held)
    assert kitchen.entered.acquire(timeout=30)
    late, too_late = kitchen.works("late", deadline=time.monotonic() - 1)
    left, abandoned = kitchen.works("left")
    left.cancel()
    last, wanted = kitchen.works("last")
    pool.submit([*too_late, *abandoned, *wanted])
    kitchen.gate.set()
    await asyncio.gather(first.joined(), last.joined())
    assert kitchen.order == ["first", "last"]
    assert isinstance(late._outcomes[0], TooLate)
    assert isinstance(left._outcomes[0], Abandoned)


async def test_when_the_last_thread_dies_nobody_waits_forever(pool: DecodePool, falls: Any) -> None:
    call, works = Kitchen().works("kills", "a", "b")
    pool.submit(works)
    outcomes = await call.joined()
    assert [type(outcome) for outcome in outcomes] == [ModelFailure, NotReady, NotReady]
    assert falls.down == ["decode 0"]
    call, works = Kitchen().works("c")
    pool.submit(works)
    assert isinstance((await call.joined())[0], NotReady)


async def test_one_thread_may_die_while_another_goes_on(calm_supervisor: Supervisor, falls: Any) -> None:
    pool = DecodePool(2, calm_supervisor)
    call, works = Kitchen().works("kills", *(f"n{n}" for n in range(20)))
    pool.submit(works)
    outcomes = await call.joined()
    assert isinstance(outcomes[0], ModelFailure)
    assert all(isinstance(outcome, Embedded) for outcome in outcomes[1:])
    assert len(falls.down) == 1
    pool.close()


async def test_a_thread_that_hangs_is_replaced_and_what_it_brings_late_is_ignored(
    supervisor: Supervisor, falls: Any
) -> None:
    pool, kitchen = DecodePool(1, supervisor), Kitchen()
    delivered: list[Work] = []
    kitchen.route = Route(kitchen.prepare_all, delivered.extend)
    kitchen.gate.clear()
    call, works = kitchen.works("stuck", "behind")
    pool.submit(works)
    async with asyncio.timeout(30):
        outcomes = await call.joined()
    assert [type(outcome) for outcome in outcomes] == [ModelFailure, NotReady]
    assert "decode 0 did not get on within 0.5 s" in str(outcomes[0])
    while not falls.up:  # noqa: ASYNC110  the supervisor knows no asyncio
        await asyncio.sleep(0.002)
    kitchen.gate.set()
    after, more = Kitchen().works("a", "b")
    pool.submit(more)
    assert all(isinstance(outcome, Embedded) for outcome in await after.joined())
    assert (falls.down, falls.up, delivered) == (["decode 0"], ["decode 0"], [])
    pool.close()


async def test_a_single_call_is_decoded_before_bulk(pool: DecodePool) -> None:
    kitchen = Kitchen()
    kitchen.gate.clear()
    calls = []
    for caller in range(20):  # twenty streams
        call, works = kitchen.works(*(f"bulk{caller}" for _ in range(5)))
        call.lane = "bulk"
        calls.append(call)
        pool.submit(works)
    assert kitchen.entered.acquire(timeout=30)
    single, one = kitchen.works("single")
    pool.submit(one)
    kitchen.gate.set()
    await asyncio.gather(single.joined(), *(call.joined() for call in calls))
    assert kitchen.order.index("single") == 1


class Queue:
    """Counts the rows an engine's queue is told to expect."""

    def __init__(self, kitchen: Kitchen) -> None:
        self.left: set[int] = set()
        kitchen.route = Route(kitchen.prepare_all, self.deliver, self.expect, self.give_up)

    def expect(self, work: Work) -> None:
        self.left.add(id(work))

    def give_up(self, work: Work) -> None:
        self.left.discard(id(work))

    def deliver(self, works: Sequence[Work]) -> None:
        for work in works:
            assert id(work) in self.left
            self.left.discard(id(work))
        serve(works)


@pytest.mark.parametrize("end", ["answered", "forgotten", "closed", "killed"])
async def test_every_row_that_is_expected_comes_or_is_given_up(calm_supervisor: Supervisor, end: str) -> None:
    kitchen, pool = Kitchen(), DecodePool(1, calm_supervisor)
    queue = Queue(kitchen)
    kitchen.gate.clear()
    call, works = kitchen.works("a", "bad", "raises", "kills" if end == "killed" else "b", "c")
    pool.submit(works)
    assert kitchen.entered.acquire(timeout=30)
    assert len(queue.left) == 5
    if end == "forgotten":
        call.cancel()
        pool.discard(call)
        assert len(queue.left) == 1  # the one being prepared
    if end == "closed":
        closing = threading.Thread(target=pool.close)
        closing.start()
    kitchen.gate.set()
    if end == "closed":
        closing.join()
    elif end != "forgotten":
        await call.joined()
    async with asyncio.timeout(30):
        while queue.left:  # noqa: ASYNC110  the thread that empties it knows no asyncio
            await asyncio.sleep(0.001)
    pool.close()


async def test_a_thread_takes_all_that_waits_up_to_its_bound_and_waits_for_no_more(
    many_at_once: DecodePool,
) -> None:
    kitchen = Kitchen()
    first = await busy(many_at_once, kitchen)
    call, works = kitchen.works(*(f"n{n}" for n in range(19)))
    many_at_once.submit(works)
    kitchen.gate.set()
    await asyncio.gather(first.joined(), call.joined())
    assert kitchen.turns == [1, 8, 8, 3]


async def test_long_texts_make_short_turns(many_at_once: DecodePool) -> None:
    kitchen = Kitchen()
    first = await busy(many_at_once, kitchen)
    call, works = kitchen.works(*["x" * (TURN_SIZE // 2)] * 3, *["x" * TURN_SIZE] * 2, "y")
    many_at_once.submit(works)
    kitchen.gate.set()
    await asyncio.gather(first.joined(), call.joined())
    assert kitchen.turns == [1, 2, 2, 1, 1]


async def test_in_a_turn_of_many_poison_fails_alone(many_at_once: DecodePool) -> None:
    kitchen = Kitchen()
    first = await busy(many_at_once, kitchen)
    call, works = kitchen.works("a", "raises", "bad", "b", "raises", "c")
    many_at_once.submit(works)
    kitchen.gate.set()
    outcomes = await call.joined()
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Embedded, ModelFailure, InvalidInput, Embedded, ModelFailure, Embedded]
    assert isinstance(outcomes[2], InvalidInput)
    assert outcomes[2].field == "inputs[2]"
    assert kitchen.turns == [1, 6, *[1] * 6]
    await first.joined()


async def test_in_a_turn_of_many_the_unwanted_are_not_prepared(many_at_once: DecodePool) -> None:
    kitchen = Kitchen()
    first = await busy(many_at_once, kitchen)
    late, too_late = kitchen.works("late", deadline=time.monotonic() - 1)
    left, abandoned = kitchen.works("left")
    left.cancel()
    last, wanted = kitchen.works("last", "of all")
    many_at_once.submit([*too_late, *abandoned, *wanted])
    kitchen.gate.set()
    await asyncio.gather(first.joined(), last.joined())
    assert kitchen.turns == [1, 2]
    assert isinstance(late._outcomes[0], TooLate)
    assert isinstance(left._outcomes[0], Abandoned)


async def test_in_a_turn_of_many_every_model_gets_its_own(many_at_once: DecodePool) -> None:
    kitchen, other = Kitchen(), Kitchen()
    first = await busy(many_at_once, kitchen)
    (here, ours), (there, theirs) = kitchen.works("a", "b"), other.works("c", "d")
    many_at_once.submit([ours[0], theirs[0], ours[1], theirs[1]])
    kitchen.gate.set()
    await asyncio.gather(first.joined(), here.joined(), there.joined())
    assert (kitchen.turns, other.turns) == ([1, 2], [2])
    assert (kitchen.order, other.order) == (["first", "a", "b"], ["c", "d"])


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
async def test_turns_of_many_are_shared_between_callers_and_lanes(
    many_at_once: DecodePool, lane: Lane
) -> None:
    kitchen = Kitchen()
    first = await busy(many_at_once, kitchen)
    many, works = kitchen.works(*(f"many{n}" for n in range(60)))
    many.lane = lane
    many_at_once.submit(works)
    single, one = kitchen.works("single")
    many_at_once.submit(one)
    few, some = kitchen.works("few", "few", "few")
    many_at_once.submit(some)
    kitchen.gate.set()
    await asyncio.gather(*(call.joined() for call in (first, many, single, few)))
    turn = kitchen.order[1:9]  # the first of many
    assert (turn.count("single"), turn.count("few")) == (1, 3)
    assert kitchen.turns[:2] == [1, 8]


async def test_a_thread_that_dies_fails_the_whole_turn_and_nothing_else(
    supervisor: Supervisor, falls: Any
) -> None:
    pool, kitchen = DecodePool(1, supervisor, work="tokenise", at_once=4), Kitchen()
    queue = Queue(kitchen)
    first = await busy(pool, kitchen)
    call, works = kitchen.works("a", "kills", "b", "c", "behind")
    pool.submit(works)
    kitchen.gate.set()
    async with asyncio.timeout(30):
        outcomes = await call.joined()
    assert [type(outcome) for outcome in outcomes] == [*[ModelFailure] * 4, NotReady]
    assert isinstance((await first.joined())[0], Embedded)
    while not falls.up:  # noqa: ASYNC110  the supervisor knows no asyncio
        await asyncio.sleep(0.002)
    after, more = kitchen.works("d", "e")
    pool.submit(more)
    assert all(isinstance(outcome, Embedded) for outcome in await after.joined())
    assert (falls.down, falls.up, queue.left) == (["tokenise 0"], ["tokenise 0"], set())
    pool.close()


async def test_a_thread_that_hangs_fails_the_whole_turn_and_brings_nothing_late(
    supervisor: Supervisor, falls: Any
) -> None:
    pool, kitchen = DecodePool(1, supervisor, work="tokenise", at_once=4), Kitchen()
    first = await busy(pool, kitchen)
    async with asyncio.timeout(30):
        await first.joined()  # it hangs at the gate
    while not falls.up:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    delivered: list[Work] = []
    kitchen.route = Route(kitchen.prepare_all, delivered.extend)
    call, works = kitchen.works("a", "b", "c", "d", "behind")
    pool.submit(works)
    async with asyncio.timeout(30):
        outcomes = await call.joined()
    assert [type(outcome) for outcome in outcomes] == [*[ModelFailure] * 4, NotReady]
    assert "tokenise 0 did not get on within 0.5 s" in str(outcomes[3])
    kitchen.gate.set()
    pool.close()
    assert not delivered
