import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nearlight.bundle.folder import Bundle
from nearlight.server.call import Caller, Embedded, Input
from nearlight.server.config import ServerConfig
from nearlight.server.decode import DecodePool
from nearlight.server.embedder import Embedder
from nearlight.server.engine import OnnxEncoder
from nearlight.server.errors import Overloaded, TooLate
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
        while waiting(model) < 20:  # noqa: ASYNC110  the decode threads know no asyncio
            await asyncio.sleep(0.001)
    with pytest.raises(Overloaded):
        await embedder.embed(model, texts(5), Patience(Caller()))
    calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert waiting(model) == 0
    assert model.towers["text"]._calls.inside == 0
    with pytest.raises(TooLate):
        await embedder.embed(model, texts(60), Patience(Caller(), time.monotonic() + 0.02))
    assert model.towers["text"]._calls.inside == 0
    gate.set()
    after = await embedder.embed(model, texts(60), Patience(Caller()))
    assert all(isinstance(outcome, Embedded) for outcome in after.outcomes)


async def test_nothing_asked_is_nothing_done(model: LoadedModel, embedder: Embedder) -> None:
    assert (await embedder.embed(model, [], Patience(Caller()))).outcomes == []
