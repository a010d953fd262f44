import asyncio

import pytest

from nearlight.server.admission import Admission
from nearlight.server.errors import Overloaded


async def test_all_of_a_call_enters_or_none_of_it() -> None:
    admission = Admission("tower", 10)
    admission.enter(7)
    with pytest.raises(
        Overloaded, match=r"tower holds 7 inputs; 4 more would exceed its bound of 10"
    ) as caught:
        admission.enter(4)
    assert 0.05 <= caught.value.retry_delay_s <= 30
    assert admission.inside == 7
    admission.enter(3)
    admission.leave(10)
    assert admission.inside == 0


async def test_those_who_wait_come_in_first_come_first_served_and_are_not_overtaken() -> None:
    admission = Admission("tower", 10)
    admission.enter(10)
    came: list[str] = []

    async def wait(name: str, n: int) -> None:
        await admission.enter_when_room(n)
        came.append(name)

    large, small = asyncio.create_task(wait("large", 8)), asyncio.create_task(wait("small", 1))
    await asyncio.sleep(0)
    admission.leave(5)
    await asyncio.sleep(0)
    assert came == []
    admission.leave(4)
    await asyncio.gather(large, small)
    assert came == ["large", "small"]
    assert admission.inside == 10


async def test_a_waiter_who_leaves_gives_its_place_to_the_next() -> None:
    admission = Admission("tower", 4)
    admission.enter(3)
    large = asyncio.create_task(admission.enter_when_room(4))
    small = asyncio.create_task(admission.enter_when_room(1))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    await small
    assert admission.inside == 4


async def test_a_waiter_cancelled_after_it_was_let_in_leaves_again() -> None:
    admission = Admission("tower", 1)
    admission.enter(1)
    waiter = asyncio.create_task(admission.enter_when_room(1))
    await asyncio.sleep(0)
    admission.leave(1)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert admission.inside == 0
