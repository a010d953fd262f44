import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.cache import CacheUse, VectorCache
from nearlight.server.call import Call, Caller, Embedded, Input, Route, Work
from nearlight.server.config import ServerConfig
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, ModelFailure, Overloaded, TooLate
from nearlight.server.lookup import Embeddings
from nearlight.server.models import LoadedModel, load_model
from nearlight.server.patience import Patience
from nearlight.server.preparation import Preparation
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.supervisor import Supervisor


@pytest.fixture
def model(tiny_bundle: Path, calm_supervisor: Supervisor) -> LoadedModel:
    config = ServerConfig.model_validate({"limits": {"queue_inputs": 64, "max_batch_inputs": 64}})
    return load_model(Bundle.open(tiny_bundle), config, calm_supervisor)


@pytest.fixture
async def embedder(model: LoadedModel, calm_supervisor: Supervisor) -> AsyncIterator[Embedder]:
    pool = Preparation(2, calm_supervisor)
    yield Embedder(pool)
    pool.close()
    model.close()


@pytest.fixture
def gate(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Holds the engines until it is set."""
    made, encode = threading.Event(), OnnxEncoder.encode

    def slow(self: OnnxEncoder, rows: Any) -> Any:
        assert made.wait(30)
        return encode(self, rows)

    monkeypatch.setattr(OnnxEncoder, "encode", slow)
    return made


def texts(n: int) -> list[Input]:
    return [Input("text", f"number {i}", f"inputs[{i}]") for i in range(n)]


def waiting(model: LoadedModel) -> int:
    return len(model.towers["text"].batcher._queue)


async def test_who_leaves_takes_everything_along(
    model: LoadedModel, embedder: Embedder, gate: threading.Event
) -> None:
    calls = [asyncio.create_task(embedder.embed(model, texts(60), Patience(Caller(), None)))]
    async with asyncio.timeout(30):
        while waiting(model) < 2:  # noqa: ASYNC110  the decode threads know no asyncio
            await asyncio.sleep(0.001)
    with pytest.raises(Overloaded):
        await embedder.embed(model, texts(5), Patience(Caller()))
    calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.1)  # what was still being decoded must not come after
    assert waiting(model) == 0
    assert model.towers["text"]._calls.inside == 0
    with pytest.raises(TooLate):
        await embedder.embed(model, texts(60), Patience(Caller(), time.monotonic() + 0.02))
    assert model.towers["text"]._calls.inside == 0
    gate.set()
    after = await embedder.embed(model, texts(60), Patience(Caller()))
    assert all(isinstance(outcome, Embedded) for outcome in after.outcomes)


async def test_who_leaves_before_decoding_is_not_decoded(model: LoadedModel, embedder: Embedder) -> None:
    gate, decoding = threading.Event(), threading.Semaphore(0)

    def hold(items: Sequence[Input]) -> list[InvalidInput]:
        decoding.release()
        assert gate.wait(30)
        return [InvalidInput("held long enough") for _ in items]

    blocker = Call(2, Caller(), None)
    route = Route(hold, model.towers["text"].route.deliver)
    embedder._preparation.submit([Work(blocker, i, item, route) for i, item in enumerate(texts(2))])
    assert decoding.acquire(timeout=30)
    call = asyncio.create_task(embedder.embed(model, texts(9), Patience(Caller())))
    await asyncio.sleep(0)
    assert len(embedder._preparation.texts._queue) == 9
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert len(embedder._preparation.texts._queue) == 0
    gate.set()
    assert all(isinstance(outcome, InvalidInput) for outcome in await blocker.joined())


async def test_nothing_asked_is_nothing_done(model: LoadedModel, embedder: Embedder) -> None:
    assert (await embedder.embed(model, [], Patience(Caller()))).outcomes == []


@pytest.fixture
async def cached(model: LoadedModel, calm_supervisor: Supervisor) -> AsyncIterator[Embedder]:
    pool = Preparation(2, calm_supervisor)
    yield Embedder(pool, VectorCache(1_000_000))
    pool.close()
    model.close()


@pytest.fixture
def rows_run(monkeypatch: pytest.MonkeyPatch, model: LoadedModel) -> list[int]:
    """How many rows each run of an engine had."""
    runs: list[int] = []
    encode = OnnxEncoder.encode

    def counted(self: OnnxEncoder, rows: Any) -> Any:
        runs.append(len(rows))
        return encode(self, rows)

    monkeypatch.setattr(OnnxEncoder, "encode", counted)
    return runs


def vectors(embeddings: Embeddings) -> Any:
    assert all(isinstance(outcome, Embedded) for outcome in embeddings.outcomes)
    return np.stack([outcome.vector for outcome in embeddings.outcomes if isinstance(outcome, Embedded)])


async def test_what_is_known_is_not_computed_again(
    model: LoadedModel, cached: Embedder, embedder: Embedder, rows_run: list[int]
) -> None:
    inputs = texts(10)
    first = await cached.embed(model, inputs, Patience(Caller()))
    assert (first.cache_hits, sum(rows_run)) == (0, 10)
    second = await cached.embed(model, [*inputs[3:], *texts(13)[10:]], Patience(Caller()))
    assert (second.cache_hits, sum(rows_run)) == (7, 13)
    plain = await embedder.embed(model, texts(13), Patience(Caller()))
    np.testing.assert_allclose(vectors(first), vectors(plain)[:10], atol=1e-6)
    np.testing.assert_allclose(vectors(second), vectors(plain)[3:], atol=1e-6)


async def test_equal_inputs_at_the_same_time_are_computed_once(
    model: LoadedModel, cached: Embedder, rows_run: list[int]
) -> None:
    same = [Input("text", "the same", f"inputs[{i}]") for i in range(4)]
    replies = await asyncio.gather(*(cached.embed(model, same, Patience(Caller())) for _ in range(16)))
    assert sum(rows_run) == 1
    assert sum(reply.cache_hits for reply in replies) == 4 * 16 - 1
    assert np.ptp(np.concatenate([vectors(reply) for reply in replies]), axis=0).max() == 0


async def test_a_call_may_pass_the_cache_by(
    model: LoadedModel, cached: Embedder, rows_run: list[int]
) -> None:
    await cached.embed(model, texts(3), Patience(Caller()), CacheUse(write=False))
    await cached.embed(model, texts(3), Patience(Caller()), CacheUse(read=False, write=False))
    assert (await cached.embed(model, texts(3), Patience(Caller()), CacheUse(read=False))).cache_hits == 0
    assert sum(rows_run) == 9
    assert (await cached.embed(model, texts(3), Patience(Caller()))).cache_hits == 3
    assert sum(rows_run) == 9


async def test_who_waits_for_a_call_that_leaves_computes_itself(
    model: LoadedModel, cached: Embedder, gate: threading.Event
) -> None:
    leaving = asyncio.create_task(cached.embed(model, texts(2), Patience(Caller())))
    await asyncio.sleep(0)
    staying = [asyncio.create_task(cached.embed(model, texts(2), Patience(Caller()))) for _ in range(5)]
    hasty = asyncio.create_task(cached.embed(model, texts(2), Patience(Caller(), time.monotonic() + 0.05)))
    await asyncio.gather(hasty, return_exceptions=True)
    assert isinstance(hasty.exception(), TooLate)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.set()
    replies = await asyncio.gather(*staying)
    assert all(isinstance(outcome, Embedded) for reply in replies for outcome in reply.outcomes)
    assert sum(reply.cache_hits for reply in replies) == 2 * 4


async def test_failures_are_not_kept_and_each_names_its_own_field(
    model: LoadedModel, cached: Embedder, tiny: Any, rows_run: list[int]
) -> None:
    def bad(field: str) -> list[Input]:
        return [Input("text", content, field) for content in ("", tiny.gives_nan, "good")]

    for _ in range(2):
        calls = [cached.embed(model, bad(f"inputs[{n}]"), Patience(Caller())) for n in range(8)]
        for n, reply in enumerate(await asyncio.gather(*calls)):
            empty, nan, good = reply.outcomes
            assert isinstance(empty, InvalidInput)
            assert empty.field == f"inputs[{n}]"
            assert isinstance(nan, ModelFailure)
            assert isinstance(good, Embedded)


async def test_a_truncated_text_is_still_called_truncated_when_it_comes_from_the_cache(
    model: LoadedModel, cached: Embedder
) -> None:
    long = [Input("text", "7 " * 200, "inputs[0]")]
    for hits in (0, 1):
        reply = await cached.embed(model, long, Patience(Caller()))
        assert reply.cache_hits == hits
        [outcome] = reply.outcomes
        assert isinstance(outcome, Embedded)
        assert outcome.truncated
