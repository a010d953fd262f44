import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.call import Caller, Input
from nearlight.server.classifier import LabelPrompts, PrototypeCache
from nearlight.server.config import ServerConfig
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput
from nearlight.server.models import LoadedModel, load_model
from nearlight.server.patience import Patience
from nearlight.server.preparation import Preparation
from nearlight.server.supervisor import Supervisor


@pytest.fixture
def model(tiny_bundle: Path, calm_supervisor: Supervisor) -> LoadedModel:
    return load_model(Bundle.open(tiny_bundle), ServerConfig(), calm_supervisor)


@pytest.fixture
async def embedder(model: LoadedModel, calm_supervisor: Supervisor) -> AsyncIterator[Embedder]:
    pool = Preparation(2, calm_supervisor)
    yield Embedder(pool)
    pool.close()
    model.close()


def wish(*names: str) -> LabelPrompts:
    return LabelPrompts(names, tuple((name,) for name in names), ("a {}", "the {}"))


async def test_equal_lists_at_the_same_time_are_computed_once(model: LoadedModel, embedder: Embedder) -> None:
    cache = PrototypeCache(embedder, 4)
    results = await asyncio.gather(*(cache.get(model, wish("a", "b")) for _ in range(10)))
    assert all(prototypes is results[0][0] for prototypes, _ in results)
    assert not any(was_cached for _, was_cached in results)
    assert (await cache.get(model, wish("a", "b")))[1]


async def test_several_words_of_a_label_are_averaged(model: LoadedModel, embedder: Embedder) -> None:
    cache = PrototypeCache(embedder, 4)
    labels = LabelPrompts(("pet", "car"), (("dog", "cat", "fox"), ("car",)), ("a {}", "the {}"))
    prototypes, _ = await cache.get(model, labels)
    for row, words in zip(prototypes, labels.words, strict=True):
        inputs = [Input("text", t.format(word), "") for word in words for t in labels.templates]
        embeddings = await embedder.embed(model, inputs, Patience(Caller()))
        mean = np.mean([outcome.vector for outcome in embeddings.outcomes], axis=0)  # type: ignore[union-attr]
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


async def test_the_least_recently_used_is_forgotten(model: LoadedModel, embedder: Embedder) -> None:
    cache = PrototypeCache(embedder, 2)
    for name in ("a", "b", "a", "c"):
        await cache.get(model, wish(name))
    assert [(await cache.get(model, wish(name)))[1] for name in ("a", "c", "b")] == [True, True, False]


async def test_the_first_who_asks_may_leave_and_the_second_still_gets_it(
    model: LoadedModel, embedder: Embedder
) -> None:
    cache = PrototypeCache(embedder, 2)
    many = wish(*(f"label {n}" for n in range(200)))
    first, second = (asyncio.create_task(cache.get(model, many)) for _ in range(2))
    await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await second)[0].shape == (200, 16)


async def test_when_all_leave_the_work_stops_and_the_next_begins_anew(
    model: LoadedModel, embedder: Embedder
) -> None:
    cache = PrototypeCache(embedder, 2)
    many = wish(*(f"label {n}" for n in range(500)))
    task = asyncio.create_task(cache.get(model, many))
    await asyncio.sleep(0.001)
    job = next(iter(cache._under_way.values())).task
    task.cancel()
    again = asyncio.create_task(cache.get(model, many))
    await asyncio.gather(task, return_exceptions=True)
    prototypes, was_cached = await again
    assert (prototypes.shape, was_cached) == ((500, 16), False)
    assert cache._under_way == {}
    assert job.done()
    assert model.towers["text"]._streams.inside == 0


async def test_a_label_that_cannot_be_embedded_fails_the_call_and_is_not_kept(
    model: LoadedModel, embedder: Embedder
) -> None:
    cache = PrototypeCache(embedder, 2)
    blank = LabelPrompts(("x",), ((" ",),), ("{}",))
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"labels\.labels\[0\]"):
            await cache.get(model, blank)
