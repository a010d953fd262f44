import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nearlight.server.batcher import Batcher
from nearlight.server.call import (
    F32,
    Call,
    Caller,
    Embedded,
    Input,
    Lane,
    Outcome,
    Prepared,
    Route,
    Row,
    Work,
)
from nearlight.server.cost import CostModel
from nearlight.server.errors import Abandoned, ModelFailure, NotReady, TooLate
from nearlight.server.supervisor import Supervisor

DIM = 8
MATRIX = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
POISON, NAN, KILL = 1000, 2000, 3000


class Killed(BaseException):
    """Not an Exception: nothing in the thread may survive it."""


class Projection:
    """rows (B, 4) → unit vectors; some numbers make it fail. A gate can hold it while the queue fills."""

    dim = DIM

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)

    def encode(self, rows: Row) -> F32:
        self.batches.append([int(row[0]) for row in rows])
        self.entered.release()
        assert self.gate.wait(30)
        if (rows[:, 0] == KILL).any():
            raise Killed
        if (rows[:, 0] == POISON).any():
            raise RuntimeError("poisoned")
        vectors = rows.astype(np.float32) @ MATRIX
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[rows[:, 0] == NAN] = np.nan
        return vectors


class Fixed(CostModel):
    """Costs that no run changes."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        super().__init__()
        for rows in (1, 8):
            super().observe((4,), rows, seconds(rows))

    def observe(self, shape: tuple[int, ...], rows: int, seconds: float) -> None:
        return


@pytest.fixture
def encoder() -> Projection:
    return Projection()


@pytest.fixture
def batcher(encoder: Projection, calm_supervisor: Supervisor) -> Iterator[Batcher]:
    made = Batcher("test", encoder, max_batch=8, supervisor=calm_supervisor)
    yield made
    encoder.gate.set()
    made.close()


def row(number: int) -> Row:
    return np.array([number, 1, 2, 3], np.int64)


def oracle(number: int) -> F32:
    """The vector of a row that was never in a batch."""
    vector = row(number).astype(np.float32) @ MATRIX
    unit: F32 = vector / np.linalg.norm(vector)
    return unit


def submit(
    batcher: Batcher,
    numbers: list[int],
    *,
    deadline: float | None = None,
    caller: Caller | None = None,
    lane: Lane = "interactive",
) -> Call:
    call = Call(len(numbers), caller or Caller(), deadline, lane)
    route = Route(lambda items: [Prepared(row(0))], batcher.put)
    for i, number in enumerate(numbers):
        batcher.put([Work(call, i, Input("text", "", f"inputs[{i}]"), route, row(number))])
    return call


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  the thread that makes it true knows no asyncio
            await asyncio.sleep(0.001)


def check(outcomes: list[Outcome], numbers: list[int]) -> None:
    for outcome, number in zip(outcomes, numbers, strict=True):
        if number == POISON:
            assert isinstance(outcome, ModelFailure)
        elif number == NAN:
            assert isinstance(outcome, ModelFailure)
            assert "not finite" in str(outcome)
        else:
            assert isinstance(outcome, Embedded)
            np.testing.assert_allclose(outcome.vector, oracle(number), atol=1e-6)


async def test_a_vector_does_not_depend_on_its_batch_mates_and_order_is_kept(batcher: Batcher) -> None:
    rng = random.Random(0)
    wanted = [[rng.randrange(1, 900) for _ in range(rng.randrange(1, 30))] for _ in range(60)]
    calls = [submit(batcher, numbers) for numbers in wanted]
    for call, numbers in zip(calls, wanted, strict=True):
        check(list(await call.joined()), numbers)


async def test_an_idle_engine_starts_at_once_and_the_queue_fills_while_it_runs(
    batcher: Batcher, encoder: Projection
) -> None:
    encoder.gate.clear()
    first = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    rest = [submit(batcher, [n]) for n in range(2, 20)]
    encoder.gate.set()
    await asyncio.gather(*(call.joined() for call in [first, *rest]))
    assert encoder.batches[0] == [1]
    assert encoder.batches[1:] == [list(range(2, 10)), list(range(10, 18)), [18, 19]]


async def test_a_batch_is_no_larger_than_lets_its_first_input_be_answered_in_time(
    encoder: Projection, calm_supervisor: Supervisor
) -> None:
    batcher = Batcher(
        "test", encoder, max_batch=8, supervisor=calm_supervisor, costs=Fixed(lambda rows: 100.0 * rows)
    )
    encoder.gate.clear()
    first = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    # Each row is said to take 100 s: 4 rows can be done within 450 s.
    hurried = submit(batcher, [2], deadline=time.monotonic() + 450)
    others = submit(batcher, list(range(3, 9)), deadline=time.monotonic() + 5000)
    encoder.gate.set()
    await asyncio.gather(*(call.joined() for call in (first, hurried, others)))
    batcher.close()
    assert encoder.batches == [[1], [2, 3, 4, 5], [6, 7, 8]]


@pytest.fixture
def sharing(encoder: Projection, calm_supervisor: Supervisor) -> Iterator[Batcher]:
    """Its engine shares the cores with the threads that prepare rows; a full batch takes it half a minute."""
    costs = Fixed(lambda rows: 30.0)
    made = Batcher("test", encoder, max_batch=8, supervisor=calm_supervisor, costs=costs, shares_cores=True)
    yield made
    encoder.gate.set()
    made.close()


def coming(batcher: Batcher, numbers: list[int], lane: Lane = "interactive") -> tuple[Call, list[Work]]:
    """Inputs of one call that are being prepared."""
    call = Call(len(numbers), Caller(), None, lane)
    route = Route(lambda items: [Prepared(row(0))], batcher.put, batcher.expect, batcher.give_up)
    works = [
        Work(call, i, Input("text", "", f"inputs[{i}]"), route, row(number))
        for i, number in enumerate(numbers)
    ]
    for work in works:
        batcher.expect(work)
    return call, works


async def test_an_engine_that_shares_cores_lets_rows_being_prepared_join(
    sharing: Batcher, encoder: Projection
) -> None:
    call, works = coming(sharing, [1, 2, 3, 4, 5])
    for work in works[:3]:
        sharing.put([work])
    await asyncio.sleep(0.05)
    assert not encoder.batches
    sharing.give_up(works[3])  # its image was broken
    works[3].settle(ModelFailure("broken"))
    await asyncio.sleep(0.05)
    assert not encoder.batches
    sharing.put([works[4]])
    await call.joined()
    assert encoder.batches == [[1, 2, 3, 5]]


async def test_the_last_row_given_up_lets_the_others_go(sharing: Batcher, encoder: Projection) -> None:
    call, works = coming(sharing, [1, 2])
    sharing.put([works[0]])
    await asyncio.sleep(0.05)
    sharing.give_up(works[1])
    works[1].settle(ModelFailure("broken"))
    await call.joined()
    assert encoder.batches == [[1]]


async def test_a_full_batch_does_not_wait_for_more(sharing: Batcher, encoder: Projection) -> None:
    call, works = coming(sharing, list(range(1, 11)))
    for work in works[:8]:
        sharing.put([work])
    await until(lambda: len(encoder.batches) == 1)
    assert encoder.batches == [list(range(1, 9))]
    for work in works[8:]:
        sharing.put([work])
    await call.joined()


async def test_single_calls_do_not_wait_for_bulk_rows(sharing: Batcher, encoder: Projection) -> None:
    bulk, works = coming(sharing, [7, 8], "bulk")
    await submit(sharing, [1]).joined()
    assert encoder.batches == [[1]]
    for work in works:
        sharing.put([work])
    await bulk.joined()


async def test_rows_wait_for_others_no_longer_than_a_full_batch_takes(
    encoder: Projection, calm_supervisor: Supervisor
) -> None:
    costs = Fixed(lambda rows: 0.02)
    batcher = Batcher(
        "test", encoder, max_batch=8, supervisor=calm_supervisor, costs=costs, shares_cores=True
    )
    try:
        call, works = coming(batcher, [1, 2])
        batcher.put([works[0]])
        await until(lambda: encoder.batches == [[1]])
        batcher.put([works[1]])
        await call.joined()
    finally:
        batcher.close()


async def test_one_full_batch_is_gathered_while_the_engine_runs(
    batcher: Batcher, encoder: Projection
) -> None:
    encoder.gate.clear()
    first = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    rest = submit(batcher, list(range(2, 22)))
    await until(lambda: batcher._ahead is not None)
    assert batcher._ahead is not None
    assert batcher._ahead.rows.shape == (8, 4)
    assert len(batcher._queue) == 12
    encoder.gate.set()
    await asyncio.gather(first.joined(), rest.joined())


@pytest.mark.parametrize("bad", [[3], [0], [19], [1, 2, 3, 15], list(range(20))])
async def test_a_failing_batch_is_halved_until_only_the_poisoned_inputs_fail(
    batcher: Batcher, bad: list[int]
) -> None:
    numbers = [POISON if i in bad else i + 1 for i in range(20)]
    check(list(await submit(batcher, numbers).joined()), numbers)
    check(list(await submit(batcher, [5, 6]).joined()), [5, 6])


async def test_a_vector_that_is_not_finite_fails_its_input_alone(batcher: Batcher) -> None:
    numbers = [1, NAN, 3, 4, NAN, 6]
    check(list(await submit(batcher, numbers).joined()), numbers)


async def test_a_bulk_caller_does_not_starve_a_single_one(batcher: Batcher, encoder: Projection) -> None:
    encoder.gate.clear()
    bulk = submit(batcher, [n + 1 for n in range(200)])
    assert encoder.entered.acquire(timeout=30)
    await until(lambda: batcher._ahead is not None)
    single = submit(batcher, [777])
    encoder.gate.set()
    check(list(await single.joined()), [777])
    await bulk.joined()
    position = next(i for i, batch in enumerate(encoder.batches) if 777 in batch)
    assert position <= 2  # behind the running batch and the one gathered ahead


async def test_expired_and_cancelled_inputs_cost_nothing(batcher: Batcher, encoder: Projection) -> None:
    encoder.gate.clear()
    running = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    late = submit(batcher, [2, 3], deadline=time.monotonic() - 1)
    left = submit(batcher, [4])
    left.cancel()
    wanted = submit(batcher, [5])
    encoder.gate.set()
    await asyncio.gather(running.joined(), wanted.joined())
    assert encoder.batches == [[1], [5]]
    assert all(isinstance(outcome, TooLate) for outcome in late._outcomes)
    assert isinstance(left._outcomes[0], Abandoned)


async def test_a_deadline_is_kept_while_the_engine_is_busy(batcher: Batcher, encoder: Projection) -> None:
    encoder.gate.clear()
    call = submit(batcher, [1], deadline=time.monotonic() + 0.001)
    with pytest.raises(TooLate):
        await call.joined()


async def test_a_thread_that_dies_fails_everything_it_owned_and_says_so(
    batcher: Batcher, encoder: Projection, falls: Any
) -> None:
    encoder.gate.clear()
    dying = submit(batcher, [KILL, 1])
    assert encoder.entered.acquire(timeout=30)
    waiting = submit(batcher, list(range(1, 40)))
    await until(lambda: batcher._ahead is not None)
    encoder.gate.set()
    assert all(isinstance(outcome, ModelFailure) for outcome in await dying.joined())
    assert all(isinstance(outcome, NotReady) for outcome in await waiting.joined())
    assert falls.down == ["test"]
    assert batcher.is_dead
    [outcome] = await submit(batcher, [1]).joined()
    assert isinstance(outcome, NotReady)


async def test_the_gathering_thread_may_die_too(
    batcher: Batcher, encoder: Projection, falls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder.gate.clear()
    running = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)

    def die(*arguments: object) -> None:
        raise Killed

    monkeypatch.setattr("nearlight.server.session.gathered", die)
    waiting = submit(batcher, list(range(1, 30)))
    outcomes = await waiting.joined()
    assert [type(outcome) for outcome in outcomes] == [ModelFailure] * 8 + [NotReady] * 21
    encoder.gate.set()
    await running.joined()
    assert falls.down == ["test"]


async def test_closing_refuses_what_waits(
    encoder: Projection, calm_supervisor: Supervisor, falls: Any
) -> None:
    batcher = Batcher("test", encoder, max_batch=2, supervisor=calm_supervisor)
    encoder.gate.clear()
    running = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    waiting = submit(batcher, [2, 3, 4, 5, 6])
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    await until(lambda: batcher._is_closed)
    encoder.gate.set()
    await closing
    check(list(await running.joined()), [1])
    assert all(isinstance(outcome, NotReady) for outcome in await waiting.joined())
    assert falls.down == []


async def test_two_hundred_callers_who_cancel_at_random(batcher: Batcher) -> None:
    rng = random.Random(1)

    async def caller(number: int) -> bool:
        numbers = [number + 1] * rng.randrange(1, 9)
        call = submit(batcher, numbers)
        joined = asyncio.ensure_future(call.joined())
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() * 0.01)
            call.cancel()
            batcher.discard(call)
            joined.cancel()
            await asyncio.gather(joined, return_exceptions=True)
            return False
        check(list(await joined), numbers)
        return True

    answered = await asyncio.gather(*(caller(n) for n in range(200)))
    assert 0 < sum(answered) < 200
    assert len(batcher._queue) == 0
    check(list(await submit(batcher, [7]).joined()), [7])


async def test_an_interactive_input_goes_before_a_bulk_batch_gathered_ahead(
    encoder: Projection, calm_supervisor: Supervisor
) -> None:
    costs = Fixed(lambda rows: 0.1 * rows)
    batcher = Batcher("test", encoder, max_batch=8, supervisor=calm_supervisor, costs=costs)
    encoder.gate.clear()
    bulk = submit(batcher, [n + 1 for n in range(100)], lane="bulk")
    assert encoder.entered.acquire(timeout=30)
    await until(lambda: batcher._ahead is not None)
    single = submit(batcher, [777])
    encoder.gate.set()
    check(list(await single.joined()), [777])
    await bulk.joined()
    assert encoder.batches[1] == [777]  # alone: bulk rows beside it would make it wait for them
    batcher.close()


async def test_bulk_rides_along_where_rows_cost_nothing(
    encoder: Projection, calm_supervisor: Supervisor
) -> None:
    costs = Fixed(lambda rows: 1.0 + 1e-6 * rows)
    batcher = Batcher("test", encoder, max_batch=8, supervisor=calm_supervisor, costs=costs)
    encoder.gate.clear()
    bulk = submit(batcher, [1, 2, 3, 4, 5], lane="bulk")
    assert encoder.entered.acquire(timeout=30)
    more = submit(batcher, [6, 7], lane="bulk")
    single = submit(batcher, [777])
    encoder.gate.set()
    await asyncio.gather(bulk.joined(), single.joined(), more.joined())
    assert encoder.batches[1] == [777, 6, 7]
    batcher.close()


async def test_what_expires_in_a_batch_gathered_ahead_is_not_run(
    batcher: Batcher, encoder: Projection
) -> None:
    encoder.gate.clear()
    running = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    left, kept = submit(batcher, [2, 3, 4]), submit(batcher, [5, 6, 7, 8, 9])
    await until(lambda: batcher._ahead is not None)
    left.cancel()
    encoder.gate.set()
    check(list(await kept.joined()), [5, 6, 7, 8, 9])
    await running.joined()
    assert encoder.batches[1] == [5, 6, 7, 8, 9]
    assert all(isinstance(outcome, Abandoned) for outcome in left._outcomes)


async def test_an_engine_that_died_is_replaced_and_works_again(
    encoder: Projection, supervisor: Supervisor, falls: Any
) -> None:
    made: list[Projection] = []

    def renew(number: int) -> Projection:
        made.append(Projection())
        return made[-1]

    batcher = Batcher("test", encoder, max_batch=8, supervisor=supervisor, renew=renew)
    [outcome] = await submit(batcher, [KILL]).joined()
    assert isinstance(outcome, ModelFailure)
    await until(lambda: falls.up == ["test"])
    assert not batcher.is_dead
    check(list(await submit(batcher, [5, 6]).joined()), [5, 6])
    [replacement] = made
    assert replacement.batches == [[5, 6]] or replacement.batches == [[5], [6]]
    batcher.close()


async def test_an_engine_that_sleeps_past_the_watchdog_fails_its_inputs_and_is_left_behind(
    encoder: Projection, supervisor: Supervisor, falls: Any
) -> None:
    batcher = Batcher("test", encoder, max_batch=4, supervisor=supervisor, renew=lambda _: Projection())
    encoder.gate.clear()
    stuck = submit(batcher, [1])
    assert encoder.entered.acquire(timeout=30)
    waiting = submit(batcher, [2, 3])
    async with asyncio.timeout(30):
        [outcome] = await stuck.joined()
        outcomes = await waiting.joined()
    assert isinstance(outcome, ModelFailure)
    assert "test engine did not get on within 0.5 s" in str(outcome)
    assert all(isinstance(outcome, NotReady) for outcome in outcomes)
    await until(lambda: falls.up == ["test"])
    after = submit(batcher, [8, 9])
    check(list(await after.joined()), [8, 9])
    encoder.gate.set()  # the old call comes back at last
    await asyncio.sleep(0.05)
    check(list(await submit(batcher, [10]).joined()), [10])
    assert falls.down == ["test"]
    batcher.close()


async def test_out_of_memory_in_the_engine_fails_the_batch_that_does_not_fit(
    batcher: Batcher, encoder: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoder.encode

    def small_only(rows: Row) -> F32:
        if len(rows) > 2:
            raise MemoryError
        return encode(rows)

    monkeypatch.setattr(encoder, "encode", small_only)
    numbers = list(range(1, 21))
    check(list(await submit(batcher, numbers).joined()), numbers)  # halves fit


async def test_no_memory_for_a_batch_fails_its_inputs(
    batcher: Batcher, encoder: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(rows: list[Row]) -> Row:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("nearlight.server.batch.np.stack", full)
        assert all(isinstance(o, ModelFailure) for o in await submit(batcher, [1, 2, 3]).joined())
    check(list(await submit(batcher, [4]).joined()), [4])


async def test_rows_put_together_wake_an_idle_engine(
    encoder: Projection, calm_supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another is still being prepared, and will not come."""
    monkeypatch.setattr("nearlight.server.supervisor.REST_SECONDS", 60)  # or else it wakes by itself
    costs = Fixed(lambda rows: 0.02)
    batcher = Batcher(
        "test", encoder, max_batch=8, supervisor=calm_supervisor, costs=costs, shares_cores=True
    )
    try:
        call, works = coming(batcher, [1, 2, 3])
        await asyncio.sleep(0.05)  # the engine rests
        batcher.put(works[:2])
        async with asyncio.timeout(10):
            while not encoder.batches:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert encoder.batches == [[1, 2]]
        batcher.put(works[2:])
        await call.joined()
    finally:
        batcher.close()
