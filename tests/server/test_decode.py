import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.call import Call, Caller, Embedded, Input, Prepared, Route, Work
from nearlight.server.decode import DecodePool, text_preparation, text_widths
from nearlight.server.errors import Abandoned, InvalidInput, ModelFailure, NotReady, TooLate
from nearlight.server.supervisor import Supervisor

VECTOR = np.ones(2, np.float32)


class Killed(BaseException):
    """Nothing in the thread may survive it."""


class Kitchen:
    """Prepares inputs by their text; a gate can hold it. Ready inputs are answered at once."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.order: list[str] = []
        self.route = Route(self.prepare, lambda work: work.settle(Embedded(VECTOR)))

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
    kitchen.route = Route(kitchen.prepare, delivered.append)
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
        kitchen.route = Route(kitchen.prepare, self.deliver, self.expect, self.give_up)

    def expect(self, work: Work) -> None:
        self.left.add(id(work))

    def give_up(self, work: Work) -> None:
        self.left.discard(id(work))

    def deliver(self, work: Work) -> None:
        assert id(work) in self.left
        self.left.discard(id(work))
        work.settle(Embedded(VECTOR))


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


def test_texts_are_padded_to_a_few_lengths_only(tiny_bundle: Path) -> None:
    tokenizer = Bundle.open(tiny_bundle).tokenizer()
    prepare = text_preparation(tokenizer, lengths=(8, 16, 200), max_bytes=10_000)
    for text, length, truncated in (
        ("7", 8, False),
        ("7 " * 7, 16, False),
        ("7 " * 20, 77, False),
        ("7 " * 90, 77, True),
    ):
        prepared = prepare(Input("text", text, "inputs[0].text"))
        assert prepared.row.shape == (length,)
        assert prepared.truncated is truncated
        wanted = tokenizer.encode([text])[0]
        np.testing.assert_array_equal(prepared.row, wanted[:length])
        assert not wanted[length:].any()


def test_a_tower_that_may_not_be_trimmed_keeps_its_length(tiny_bundle: Path) -> None:
    tower = Bundle.open(tiny_bundle).manifest.towers.text
    assert tower is not None
    assert text_widths(tower, (8, 16, 200)) == [8, 16, 77]
    assert text_widths(tower.model_copy(update={"trimmable": False}), (8, 16)) == [77]


@pytest.mark.parametrize("text", ["", "  ", "a" * 101, "é" * 51, "\ud800"])
def test_texts_that_are_refused(tiny_bundle: Path, text: str, images: Any) -> None:
    prepare = text_preparation(Bundle.open(tiny_bundle).tokenizer(), lengths=(8,), max_bytes=100)
    with pytest.raises(InvalidInput, match=r"^inputs\[4\]\.text: ") as caught:
        prepare(Input("text", text, "inputs[4].text"))
    assert caught.value.field == "inputs[4].text"
