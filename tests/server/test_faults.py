"""Everything that goes wrong in service: whoever asks gets an answer, and the server goes on as before."""

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, decode_for, load_pixels
from nearlight.bundle.text import check_text
from nearlight.server import decode, tokenise
from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc, input_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ROOM = 32  # inputs inside one tower at once: what is not given back is soon missed
NO_CACHE = {"max_bytes": 0}
EXPECTED = {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
Oracle = Callable[[bytes | str], Any]


@pytest.fixture(scope="module")
def oracle(tiny_bundle: Path) -> Oracle:
    """The vector of an input, made in this process, alone."""
    bundle = Bundle.open(tiny_bundle)
    text_path = bundle.text_path
    assert text_path is not None
    image = OnnxEncoder(bundle.image_path, dim=bundle.manifest.dim, threads=1)
    text = OnnxEncoder(text_path, dim=bundle.manifest.dim, threads=1)
    spec, tokenizer = bundle.manifest.towers.image.preprocess, bundle.tokenizer()

    def embed(content: bytes | str) -> Any:
        if isinstance(content, str):
            return text.encode(np.asarray(tokenizer.encode([content]), np.int64))[0]
        return image.encode(load_pixels(content, spec, ImageLimits())[np.newaxis])[0]

    return embed


@pytest.fixture(scope="module")
def small(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, config_of: Callable[..., ServerConfig]
) -> Iterator[str]:
    """A server with little room and no cache: every input goes all the way."""
    limits = {"queue_inputs": ROOM, "max_batch_inputs": ROOM}
    config = config_of([tiny_bundle], tmp_path_factory.mktemp("data"), limits=limits, cache=NO_CACHE)
    with LocalServer(config) as server:
        yield server.address


@pytest.fixture(scope="module")
def roomy(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, config_of: Callable[..., ServerConfig]
) -> Iterator[str]:
    with LocalServer(config_of([tiny_bundle], tmp_path_factory.mktemp("data"))) as server:
        yield server.address


def request_of(*contents: bytes | str, **fields: Any) -> embedding_pb2.EmbedRequest:
    inputs = [
        input_pb2.Input(image=content) if isinstance(content, bytes) else input_pb2.Input(text=content)
        for content in contents
    ]
    return embedding_pb2.EmbedRequest(inputs=inputs, **fields)


def vectors_of(reply: Any) -> Any:
    return np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, -1)


def embedding_of(channel: Any) -> Any:
    return embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]


async def check_nothing_is_left(address: str, images: list[bytes]) -> None:
    """All the room of both towers is free again: a call that needs it whole is let in."""
    async with grpc.aio.insecure_channel(address) as channel:
        for _ in range(200):  # what was running may still be on its way out
            try:
                for full in (request_of(*["word"] * ROOM), request_of(*[images[0]] * ROOM)):
                    assert not (await embedding_of(channel).Embed(full, timeout=60)).errors
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.05)
        pytest.fail("room was lost")


async def test_poison_among_many_callers_fails_alone(
    roomy: str, images: list[bytes], tiny: Any, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in decoding, in tokenising and in the engine, and NaN: 64 callers at once, twice."""
    cursed_image, cursed_text = images[7] + b"cursed", "cursed text"
    load, check = decode_for, check_text

    def load_or_raise(content: bytes, *rest: Any) -> Any:
        if content == cursed_image:
            raise ZeroDivisionError("in decoding")
        return load(content, *rest)

    def check_or_raise(text: str, *rest: Any) -> Any:
        if text == cursed_text:
            raise RuntimeError("in tokenising")
        return check(text, *rest)

    monkeypatch.setattr(decode, "decode_for", load_or_raise)
    monkeypatch.setattr(tokenise, "check_text", check_or_raise)
    poison: list[bytes | str] = [cursed_image, cursed_text, f"{tiny.raises} x", f"{tiny.gives_nan} x"]
    good: list[bytes | str] = [*images[:6], *(f"text number {n}" for n in range(6))]
    known = {content: oracle(content) for content in good}

    async def caller(stub: Any, number: int) -> None:
        rng = random.Random(number)
        contents = [rng.choice(poison if rng.random() < 0.3 else good) for _ in range(rng.randrange(1, 9))]
        reply = await stub.Embed(request_of(*contents), timeout=60)
        bad = {i for i, content in enumerate(contents) if content in poison}
        assert {error.index: error.code for error in reply.errors} == dict.fromkeys(bad, 13)
        for i, (content, vector) in enumerate(zip(contents, vectors_of(reply), strict=True)):
            if i not in bad:
                np.testing.assert_allclose(vector, known[content], atol=1e-5)

    async with grpc.aio.insecure_channel(roomy) as channel:
        stub = embedding_of(channel)
        for first in (0, 64):
            await asyncio.gather(*(caller(stub, first + number) for number in range(64)))


async def test_a_thousand_callers_who_cancel_at_random(small: str, images: list[bytes]) -> None:
    rng = random.Random(0)
    ends: Counter[str] = Counter()

    async def caller(stub: Any) -> None:
        choice: list[bytes | str] = [images[0], "a word", "x " * 40]
        contents = [rng.choice(choice) for _ in range(rng.randrange(1, 9))]
        call = stub.Embed(request_of(*contents), timeout=60)
        if rng.random() < 0.8:
            await asyncio.sleep(rng.random() * 0.3)
            call.cancel()
        try:
            await call
            ends["OK"] += 1
        except asyncio.CancelledError:
            ends["CANCELLED"] += 1
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1

    async with grpc.aio.insecure_channel(small) as channel:
        stub = embedding_of(channel)
        async with asyncio.timeout(120):
            await asyncio.gather(*(caller(stub) for _ in range(1000)))
    assert set(ends) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}
    assert sum(ends.values()) == 1000
    assert ends["CANCELLED"]
    assert ends["OK"]
    await check_nothing_is_left(small, images)


async def test_deadlines_of_a_millisecond(small: str, images: list[bytes]) -> None:
    async def caller(stub: Any, number: int) -> grpc.StatusCode:
        contents: list[bytes | str] = [images[number % 24], f"word {number}"]
        try:
            await stub.Embed(request_of(*contents), timeout=0.001 * (1 + number % 5))
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with grpc.aio.insecure_channel(small) as channel:
        stub = embedding_of(channel)
        await stub.Embed(request_of("connected"))
        async with asyncio.timeout(60):
            codes = await asyncio.gather(*(caller(stub, number) for number in range(300)))
    assert set(codes) <= EXPECTED
    assert codes.count(grpc.StatusCode.DEADLINE_EXCEEDED)
    await check_nothing_is_left(small, images)


async def test_a_stream_that_is_not_read_is_held_back_and_holds_up_nobody(
    small: str, images: list[bytes]
) -> None:
    sent = 0

    async def requests() -> AsyncIterator[embedding_pb2.EmbedStreamRequest]:
        nonlocal sent
        while sent < 3000:
            batch = request_of(*[images[sent % 24]] * 4)
            yield embedding_pb2.EmbedStreamRequest(sequence=sent, batch=batch)
            sent += 1

    # Replies of 16 numbers would all fit the window of HTTP/2: let it be small.
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    async with (
        grpc.aio.insecure_channel(small, options=options) as slow,
        grpc.aio.insecure_channel(small) as channel,
    ):
        stream = embedding_of(slow).EmbedStream(requests())
        first = await stream.read()
        assert first.sequence == 0
        before = -1
        while before != sent:  # it stands still
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 3000
        for _ in range(10):
            reply = await embedding_of(channel).Embed(request_of(images[3], "word"), timeout=30)
            assert not reply.errors
        for sequence in range(1, 200):
            assert (await stream.read()).sequence == sequence
        stream.cancel()
    await check_nothing_is_left(small, images)


CLIENT = """
import sys, grpc
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc
def requests():
    for number in range(10**9):
        batch = {"inputs": [{"text": f"word {number}"}] * 8}
        yield embedding_pb2.EmbedStreamRequest(sequence=number, batch=batch)
channel = grpc.insecure_channel(sys.argv[1])
for number, reply in enumerate(embedding_pb2_grpc.EmbeddingServiceStub(channel).EmbedStream(requests())):
    if number == 20:
        print("under way", flush=True)
"""


def run_clients_and_kill_them(address: str) -> None:
    command = [sys.executable, "-c", CLIENT, address]
    for client in [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]:
        assert client.stdout
        assert client.stdout.readline() == b"under way\n"
        client.kill()
        client.communicate()


async def test_a_client_that_dies_in_the_middle_of_its_stream_leaves_nothing_behind(
    small: str, images: list[bytes]
) -> None:
    await asyncio.to_thread(run_clients_and_kill_them, small)
    await check_nothing_is_left(small, images)


def test_an_engine_that_sleeps_past_the_watchdog_turns_health_until_it_is_replaced(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    wake, encode = threading.Event(), OnnxEncoder.encode

    def sleep(self: OnnxEncoder, rows: Any) -> Any:
        wake.wait(60)
        return encode(self, rows)

    engine = {"call_limit_seconds": 0.5, "restart_seconds": 0.3}
    with (
        LocalServer(config_of([tiny_bundle], tmp_path, engine=engine)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        statuses = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == SERVING
        with monkeypatch.context() as patch:
            patch.setattr(OnnxEncoder, "encode", sleep)
            [error] = embedding_of(channel).Embed(request_of("dog"), timeout=60).errors
        assert (error.code, error.message) == (13, "internal error")
        assert next(statuses).status == NOT_SERVING
        assert next(statuses).status == SERVING
        assert not embedding_of(channel).Embed(request_of("dog"), timeout=60).errors
        wake.set()


async def test_steps_of_the_clock_change_nothing(
    small: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock on the wall jumps by a day while a call with a deadline runs."""
    real, encode, steps = time.time, OnnxEncoder.encode, [0.0]
    step = 0.0

    def jump(self: OnnxEncoder, rows: Any) -> Any:
        steps[0] = step
        return encode(self, rows)

    monkeypatch.setattr(time, "time", lambda: real() + steps[0])
    monkeypatch.setattr(OnnxEncoder, "encode", jump)
    async with grpc.aio.insecure_channel(small) as channel:
        for step in (86_400.0, -86_400.0):
            # gRPC's own clock cannot be moved from here: both begin the call together.
            steps[0] = 0.0
            reply = await embedding_of(channel).Embed(request_of(images[0], "a word"), timeout=20)
            assert steps[0] == step
            assert not reply.errors


def test_the_lane_can_be_chosen_and_a_wrong_one_is_named(small: str) -> None:
    with grpc.insecure_channel(small) as channel:
        for priority in (0, 1, 2):
            assert not embedding_of(channel).Embed(request_of("dog", priority=priority)).errors
        with pytest.raises(grpc.RpcError, match=r"priority is 7; it must be 1 \(INTERACTIVE\)") as caught:
            embedding_of(channel).Embed(request_of("dog", priority=7))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_hits_are_counted_and_the_cache_can_be_passed_by(roomy: str, small: str) -> None:
    with grpc.insecure_channel(roomy) as channel, grpc.insecure_channel(small) as uncached:
        stub = embedding_of(channel)
        first = stub.Embed(request_of("cached one", "cached two"))
        second = stub.Embed(request_of("cached two", "cached one", "cached three"))
        assert (first.cache_hits, second.cache_hits) == (0, 2)
        np.testing.assert_array_equal(vectors_of(first), vectors_of(second)[[1, 0]])
        assert stub.Embed(request_of("cached one", cache={"skip_read": True})).cache_hits == 0
        for _ in range(2):
            assert stub.Embed(request_of("never kept", cache={"skip_write": True})).cache_hits == 0
            assert embedding_of(uncached).Embed(request_of("dog", "dog")).cache_hits == 0
