import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from nearlight.server.call import Call, Caller, Embedded, wake
from nearlight.server.errors import Abandoned, ModelFailure, TooLate


def vector(number: float) -> Embedded:
    return Embedded(np.full(2, number, np.float32))


async def test_answers_of_many_threads_are_joined_in_the_order_of_the_inputs() -> None:
    call = Call(100, Caller(), None)
    threads = [threading.Thread(target=call.settle, args=(i, vector(i))) for i in reversed(range(100))]
    for thread in threads:
        thread.start()
    outcomes = await call.joined()
    assert [outcome.vector[0] for outcome in outcomes if isinstance(outcome, Embedded)] == list(range(100))


async def test_the_first_answer_stays_and_a_second_one_completes_nothing() -> None:
    call = Call(2, Caller(), None)
    call.settle(0, vector(1))
    call.settle(0, ModelFailure("too late"))
    joined = asyncio.ensure_future(call.joined())
    await asyncio.sleep(0.01)
    assert not joined.done()
    call.settle(1, vector(2))
    outcomes = await joined
    assert all(isinstance(outcome, Embedded) for outcome in outcomes)


async def test_a_deadline_ends_the_wait_and_a_late_answer_hurts_nobody() -> None:
    call = Call(1, Caller(), time.monotonic() + 0.01)
    assert call.no_longer_wanted() is None
    with pytest.raises(TooLate):
        await call.joined()
    assert isinstance(call.no_longer_wanted(), TooLate)
    call.settle(0, vector(1))
    await asyncio.sleep(0)


async def test_an_answer_of_which_a_part_is_late_is_late() -> None:
    """A stage drops an input a moment before the alarm rings; the reply must not pass for a good one."""
    call = Call(2, Caller(), time.monotonic() + 60)
    call.settle(0, vector(1))
    call.settle(1, TooLate("the deadline passed before work on this input began"))
    with pytest.raises(TooLate):
        await call.joined()


async def test_a_cancelled_call_is_no_longer_wanted() -> None:
    call = Call(1, Caller(), None)
    call.cancel()
    assert isinstance(call.no_longer_wanted(), Abandoned)


async def test_the_calls_of_a_batch_wake_their_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, times = asyncio.get_running_loop(), []
    wake_up = loop.call_soon_threadsafe

    def counted(*args: Any) -> Any:
        times.append(args)
        return wake_up(*args)

    calls = [Call(2, Caller(), None) for _ in range(5)]
    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

    def answer() -> None:
        assert not any(call.note(0, vector(0)) for call in calls)
        wake([call for call in calls if call.note(1, vector(1))])

    await loop.run_in_executor(None, answer)
    assert len([args for args in times if args[0].__name__ == "_finish"]) == 1
    for call in calls:
        assert len(await call.joined()) == 2


def test_an_answer_after_the_loop_has_closed_is_dropped() -> None:
    async def make() -> Call:
        return Call(1, Caller(), None)

    call = asyncio.run(make())
    call.settle(0, vector(1))
