import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.call import Call, Caller, Embedded, Input, Prepared, Route, Work
from nearlight.server.config import ServerConfig
from nearlight.server.decode import DecodePool
from nearlight.server.embedder import Embedder
from nearlight.server.engine import OnnxEncoder
from nearlight.server.errors import InvalidInput, Overloaded, TooLate
from nearlight.server.models import LoadedModel, load_model
from nearlight.server.patience import Patience


@pytest.fixture
def model(tiny_bundle: Path) -> LoadedModel:
    config = ServerConfig.model_validate({"limits": {"queue_inputs": 64, "max_batch_inputs": 64}})
    return load_model(Bundle.open(tiny_bundle), config, lambda stage: None)


@pytest.fixture
async def embedder(model: LoadedModel) -> AsyncIterator[Embedder]:
    pool = DecodePool(2, lambda stage: None)
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

    def hold(item: Input) -> Prepared:
        decoding.release()
        assert gate.wait(30)
        raise InvalidInput("held long enough")

    blocker = Call(2, Caller(), None)
    route = Route(hold, model.towers["text"].route.deliver)
    embedder._pool.submit([Work(blocker, i, item, route) for i, item in enumerate(texts(2))])
    assert decoding.acquire(timeout=30)
    assert decoding.acquire(timeout=30)
    call = asyncio.create_task(embedder.embed(model, texts(9), Patience(Caller())))
    await asyncio.sleep(0)
    assert len(embedder._pool._queue) == 9
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert len(embedder._pool._queue) == 0
    gate.set()
    assert all(isinstance(outcome, InvalidInput) for outcome in await blocker.joined())


async def test_nothing_asked_is_nothing_done(model: LoadedModel, embedder: Embedder) -> None:
    assert (await embedder.embed(model, [], Patience(Caller()))).outcomes == []
