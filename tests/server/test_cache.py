import asyncio
import gc
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.bundle.folder import Bundle
from nearlight.server.cache import ENTRY_BYTES, CacheUse, Flight, VectorCache, keys_of
from nearlight.server.call import Embedded, Input
from nearlight.server.config import ServerConfig
from nearlight.server.errors import ModelFailure
from nearlight.server.models import LoadedModel, load_model
from nearlight.server.supervisor import Supervisor

DIM = 8
ROOM = DIM * 4 + ENTRY_BYTES


@pytest.fixture
def model(tiny_bundle: Path, calm_supervisor: Supervisor) -> Any:
    made = load_model(Bundle.open(tiny_bundle), ServerConfig(), calm_supervisor)
    yield made
    made.close()


def embedded(number: int) -> Embedded:
    return Embedded(np.full(DIM, number, np.float32))


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def fill(cache: VectorCache, number: int) -> None:
    cache.answer(key(number), None, embedded(number), keep=True)


async def known(cache: VectorCache, number: int) -> bool:
    claim = cache.claim(key(number), "interactive")
    if isinstance(claim, Flight):
        cache.abandon(key(number), claim)
    return isinstance(claim, Embedded)


async def test_the_least_recently_used_goes_first_and_the_bound_is_kept() -> None:
    cache = VectorCache(3 * ROOM)
    for number in (1, 2, 3):
        fill(cache, number)
    assert await known(cache, 1)
    fill(cache, 4)
    assert [await known(cache, number) for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert cache.used_bytes == 3 * ROOM
    tight = VectorCache(ROOM - 1)
    fill(tight, 1)
    assert (len(tight), tight.used_bytes) == (0, 0)


@given(st.lists(st.integers(0, 12), max_size=120), st.integers(1, 6))
async def test_it_holds_what_a_naive_list_of_the_latest_holds(asked: list[int], entries: int) -> None:
    cache, latest = VectorCache(entries * ROOM), list[int]()
    for number in asked:
        assert await known(cache, number) is (number in latest)
        fill(cache, number)
        latest = [other for other in latest if other != number][-(entries - 1) :] if entries > 1 else []
        latest.append(number)
        assert cache.used_bytes == len(latest) * ROOM


async def test_what_it_counts_is_what_it_takes() -> None:
    cache = VectorCache(10**9)
    batch = np.ones((2000, 512), np.float32)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2000):
            cache.answer(key(number), None, Embedded(batch[number]), keep=True)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= cache.used_bytes
    assert taken >= 0.9 * cache.used_bytes
    claim = cache.claim(key(5), "bulk")
    assert isinstance(claim, Embedded)
    assert claim.vector.base is None  # no view that keeps its batch alive
    with pytest.raises(ValueError, match="read-only"):
        claim.vector[0] = 2


async def test_keys_differ_wherever_the_vector_may(model: LoadedModel, images: list[bytes]) -> None:
    """Pictures of one size above all: another server takes their height for their content."""
    image = images[0]
    flipped = image[:-20] + bytes([image[-20] ^ 1]) + image[-19:]
    inputs = [Input("image", content, "") for content in (*images, flipped, b"dog", image + b"\0")]
    words = ("dog", "Dog", "dog ", "", "d\0og", "do", "d\u00f3g", "do\u0301g")
    inputs += [Input("text", word, "") for word in words]
    keys = await keys_of(model, inputs)
    assert len(set(keys)) == len(keys)
    assert keys == await keys_of(model, inputs)
    assert await keys_of(model, [Input("text", "dog", "another[3].field")]) == [keys[len(images) + 3]]
    large = [Input("image", bytes(2_000_000), ""), Input("image", bytes(1_999_999) + b"\1", "")]
    assert len(set(await keys_of(model, large))) == 2  # hashed in another thread


async def test_two_models_of_one_space_never_share_a_vector(
    model: LoadedModel, tiny_bundle: Path, calm_supervisor: Supervisor
) -> None:
    """Another version of the same name may have other weights, or the same in another precision."""
    item = [Input("text", "dog", "")]
    again = load_model(Bundle.open(tiny_bundle), ServerConfig(), calm_supervisor)
    half = replace(model, manifest=model.manifest.model_copy(update={"precision": "fp16"}))
    assert again.space_id == half.space_id == model.space_id
    assert len({(await keys_of(each, item))[0] for each in (model, again, half)}) == 3
    again.close()


async def test_the_first_computes_and_the_others_wait_for_it() -> None:
    cache = VectorCache(100 * ROOM)
    flight = cache.claim(key(1), "interactive")
    assert isinstance(flight, Flight)
    futures = [cache.claim(key(1), lane) for lane in ("interactive", "bulk")]
    assert all(isinstance(future, asyncio.Future) for future in futures)
    threading.Thread(target=cache.answer, args=[key(1), flight, embedded(1)], kwargs={"keep": False}).start()
    for future in futures:
        assert isinstance(future, asyncio.Future)
        outcome = await asyncio.wait_for(future, 30)
        assert isinstance(outcome, Embedded)
    assert not await known(cache, 1)  # it was not to be kept


async def test_an_interactive_call_does_not_wait_for_a_bulk_one() -> None:
    cache = VectorCache(100 * ROOM)
    assert isinstance(cache.claim(key(1), "bulk"), Flight)
    assert cache.claim(key(1), "interactive") is None
    assert isinstance(cache.claim(key(1), "bulk"), asyncio.Future)


async def test_who_gives_up_or_fails_lets_the_others_go_on() -> None:
    cache = VectorCache(100 * ROOM)
    for ends in (None, ModelFailure("bad luck")):
        flight = cache.claim(key(1), "bulk")
        assert isinstance(flight, Flight)
        future = cache.claim(key(1), "bulk")
        assert isinstance(future, asyncio.Future)
        if ends is None:
            cache.abandon(key(1), flight)
        else:
            cache.answer(key(1), flight, ends, keep=True)
        assert await asyncio.wait_for(future, 30) is ends
        assert not await known(cache, 1)
    first = cache.claim(key(1), "bulk")
    assert isinstance(first, Flight)
    cache.abandon(key(1), first)
    second = cache.claim(key(1), "bulk")
    cache.abandon(key(1), first)  # late: the flight under way is another one
    assert isinstance(second, Flight)
    assert isinstance(cache.claim(key(1), "bulk"), asyncio.Future)


def test_uses() -> None:
    assert CacheUse() == CacheUse(read=True, write=True)
