import asyncio
import contextlib
import time

import pytest

from nearlight.server import admission as admissions
from nearlight.server.admission import Admission, Pace
from nearlight.server.call import Call, Caller, Embedded
from nearlight.server.errors import Overloaded, TooLate


def call(n: int, *, deadline_s: float | None = None) -> Call:
    return Call(n, Caller(), None if deadline_s is None else time.monotonic() + deadline_s)


def answer(made: Call, n: int) -> None:
    import numpy as np

    for i in range(n):
        made.settle(i, Embedded(np.ones(2, np.float32)))


async def test_all_of_a_call_enters_or_none_of_it() -> None:
    admission = Admission("tower", 10)
    first, second = call(7), call(3)
    admission.enter(first, 7)
    with pytest.raises(
        Overloaded, match=r"tower holds 7 inputs; 4 more would exceed its bound of 10"
    ) as caught:
        admission.enter(call(4), 4)
    assert 0.05 <= caught.value.retry_delay_s <= 30
    assert admission.inside == 7
    admission.enter(second, 3)
    admission.leave(first)
    admission.leave(second)
    assert admission.inside == 0


async def test_those_who_wait_come_in_first_come_first_served_and_are_not_overtaken() -> None:
    admission = Admission("tower", 10)
    five, other_five = call(5), call(5)
    admission.enter(five, 5)
    admission.enter(other_five, 5)
    came: list[str] = []

    async def wait(name: str, n: int) -> None:
        await admission.enter_when_room(call(n), n)
        came.append(name)

    large, small = asyncio.create_task(wait("large", 8)), asyncio.create_task(wait("small", 1))
    await asyncio.sleep(0)
    admission.leave(five)
    await asyncio.sleep(0)
    assert came == []
    admission.leave(other_five)
    await asyncio.gather(large, small)
    assert came == ["large", "small"]
    assert admission.inside == 9


async def test_a_waiter_who_leaves_gives_its_place_to_the_next() -> None:
    admission = Admission("tower", 4)
    admission.enter(call(3), 3)
    large = asyncio.create_task(admission.enter_when_room(call(4), 4))
    small = asyncio.create_task(admission.enter_when_room(call(1), 1))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    await small
    assert admission.inside == 4


async def test_a_waiter_cancelled_after_it_was_let_in_leaves_again() -> None:
    admission = Admission("tower", 1)
    first = call(1)
    admission.enter(first, 1)
    waiter = asyncio.create_task(admission.enter_when_room(call(1), 1))
    await asyncio.sleep(0)
    admission.leave(first)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert admission.inside == 0


async def test_who_waits_for_room_waits_until_its_deadline_only() -> None:
    admission = Admission("tower", 1)
    admission.enter(call(1), 1)
    with pytest.raises(TooLate, match="before there was room"):
        await admission.enter_when_room(call(1, deadline_s=0.02), 1)
    assert admission.inside == 1


async def test_a_call_whose_answer_would_come_too_late_is_told_so_and_when_to_come_back() -> None:
    admission = Admission("tower", 100, full_batch=4, engine_s=lambda: 0.1)
    admission.enter(call(20), 20)
    with pytest.raises(Overloaded, match=r"about \d+ ms; the call's deadline leaves \d+ ms") as caught:
        admission.enter(call(10, deadline_s=1.0), 10)
    # 10 of the other caller's inputs, 10 of its own, 3 who share the last batch, and 10 % to spare.
    assert caught.value.retry_delay_s == pytest.approx(1.53, abs=0.05)
    assert admission.inside == 20
    admission.enter(call(10, deadline_s=2.6), 10)
    # Callers take turns: a single input waits for one of each other's only, and for the batch that runs.
    with pytest.raises(Overloaded):
        admission.enter(call(1, deadline_s=0.6), 1)
    admission.enter(call(1, deadline_s=0.9), 1)
    with pytest.raises(Overloaded, match="the call's deadline"):
        await admission.enter_when_room(call(10, deadline_s=1.0), 10)
    assert admission.inside == 31


async def test_alone_a_call_is_let_in_however_slow_the_engine_was() -> None:
    admission = Admission("tower", 100, full_batch=4, engine_s=lambda: 100.0)
    admission.enter(call(1, deadline_s=0.5), 1)
    with pytest.raises(Overloaded):
        admission.enter(call(1, deadline_s=0.5), 1)
    with pytest.raises(TooLate):
        Admission("tower", 1).enter(call(1, deadline_s=-1), 1)


async def test_inputs_answered_already_are_not_waited_for() -> None:
    admission = Admission("tower", 100, full_batch=1, engine_s=lambda: 0.1)
    other = call(10)
    admission.enter(other, 10)
    answer(other, 9)
    assert admission.forecast_s(call(10), 10) == pytest.approx(0.1 * (1 + 10), abs=0.02)


async def test_of_the_batch_that_runs_only_the_rest_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    admission = Admission("tower", 100, full_batch=4, engine_s=lambda: 0.1)
    calls = [call(1) for _ in range(8)]
    for made in calls:
        admission.enter(made, 1)
    for made in calls[:4]:
        answer(made, 1)
        admission.leave(made)
    assert admission.forecast_s(call(1), 1) == pytest.approx(0.5)  # the next batch has just begun
    now[0] += 0.3
    gone = calls[4]
    admission.leave(gone)  # who goes away says nothing about the batch
    admission.enter(call(1), 1)
    assert admission.forecast_s(call(1), 1) == pytest.approx(0.2, rel=0.2)
    now[0] += 7.0
    assert admission.forecast_s(call(1), 1) == pytest.approx(0.1, rel=0.2)  # it can only end any moment


@pytest.mark.parametrize("slowness", [1.0, 1.15])
@pytest.mark.parametrize("patience_s", [1.0, 2.0, 5.0])
async def test_who_is_admitted_under_overload_is_answered_in_time(
    monkeypatch: pytest.MonkeyPatch, slowness: float, patience_s: float
) -> None:
    """Four times as many callers as an engine can answer that is believed to run 16 rows in 0.96 s."""
    now, row_s, full = [100.0], 0.06, 16
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    admission = Admission("tower", 1000, full_batch=full, engine_s=lambda: row_s)
    waiting: list[Call] = []
    running: list[Call] = []
    in_time, late, ends = 0, 0, now[0]
    for _ in range(4000):
        now[0] += row_s / 4
        if now[0] >= ends:
            for made in running:
                assert made.deadline is not None
                in_time, late = in_time + (now[0] <= made.deadline), late + (now[0] > made.deadline)
                answer(made, 1)
                admission.leave(made)
            running, waiting = waiting[:full], waiting[full:]
            ends = now[0] + slowness * row_s * len(running)
        made = call(1, deadline_s=patience_s)
        with contextlib.suppress(Overloaded):
            admission.enter(made, 1)
            waiting.append(made)
    assert in_time > 0.9 * 1000 / slowness  # of what it can do
    assert late < (0.01 if slowness == 1.0 else 0.05) * in_time


def test_the_pace_of_a_full_pipeline_counts_and_is_doubted_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace = Pace(lambda: 0.010)
    assert pace.input_s == 0.010
    for _ in range(50):
        pace.answered(10, 0.4)
    assert pace.input_s == pytest.approx(0.040)
    now[0] += admissions.DOUBT_SECONDS
    assert pace.input_s == pytest.approx(0.025)
    now[0] += 100 * admissions.DOUBT_SECONDS
    assert pace.input_s == pytest.approx(0.010)


async def test_the_pace_is_measured_while_the_pipeline_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    admission = Admission("tower", 1000, full_batch=4)
    calls = [call(1) for _ in range(40)]
    for made in calls:
        admission.enter(made, 1)
    for made in calls:
        now[0] += 0.02 if admission.inside >= 4 else 7.0  # an idle hour says nothing
        answer(made, 1)
        admission.leave(made)
    assert admission.inside == 0
    assert admission.forecast_s(call(1), 1) > 0
    admission.enter(calls[0], 1)
    pace = admission.forecast_s(call(1), 1) / 2  # one is inside, one more
    assert pace == pytest.approx(0.02 * 0.5 ** (21 / admissions.DOUBT_SECONDS), rel=0.05)
