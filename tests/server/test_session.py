"""Several engines on one queue: batches go to whichever is free, and one that falls takes nobody along."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearlight.server.batcher import Batcher
from nearlight.server.call import F32, Call, Caller, Embedded, Input, Prepared, Route, Row, Work
from nearlight.server.config import ServerConfig
from nearlight.server.errors import BundleUnusable, ConfigError, ModelFailure, NotReady
from nearlight.server.local import LocalServer
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.supervisor import Life, Supervisor
from nearlight.server.threads import cpu_budget
from nearlight.v1 import embedding_pb2, model_pb2

KILL, HANG = 1000, 2000
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Killed(BaseException):
    """Not an Exception: nothing in the thread may survive it."""


class Doubled:
    """rows (B, 2) → twice the row. Numbers make it die or hang; a barrier waits until others run too."""

    dim = 2

    def __init__(self, barrier: threading.Barrier | None = None) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self._barrier = barrier

    def encode(self, rows: Row) -> F32:
        numbers = [int(row[0]) for row in rows]
        self.batches.append(numbers)
        if self._barrier:
            self._barrier.wait(30)
        if KILL in numbers:
            raise Killed
        if HANG in numbers:
            self.free.wait(30)
        return (2 * rows).astype(np.float32)


def submit(batcher: Batcher, numbers: list[int]) -> Call:
    call = Call(len(numbers), Caller(), None)
    route = Route(lambda items: [Prepared(np.zeros(2, np.int64))], batcher.put)
    works = [Work(call, i, Input("text", "", ""), route, np.array([n, 1])) for i, n in enumerate(numbers)]
    with batcher._changed:  # all of them are there before a session looks
        for work in works:
            batcher.put([work])
    return call


async def answers(call: Call) -> list[int | type]:
    """First number of each vector, or the kind of the error."""
    async with asyncio.timeout(30):
        outcomes = await call.joined()
    return [
        int(outcome.vector[0]) if isinstance(outcome, Embedded) else type(outcome) for outcome in outcomes
    ]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  the thread that makes it true knows no asyncio
            await asyncio.sleep(0.001)


@pytest.fixture
def pair(calm_supervisor: Supervisor) -> Iterator[tuple[Batcher, list[Doubled]]]:
    """Two sessions that only get on together: each waits until the other runs."""
    barrier = threading.Barrier(2)
    encoders = [Doubled(barrier), Doubled(barrier)]
    made = Batcher("test", *encoders, max_batch=8, supervisor=calm_supervisor)
    yield made, encoders
    made.close()


async def test_idle_sessions_share_what_waits_and_work_at_the_same_time(
    pair: tuple[Batcher, list[Doubled]],
) -> None:
    batcher, encoders = pair
    numbers = list(range(12))
    assert await answers(submit(batcher, numbers)) == [2 * n for n in numbers]
    assert sorted(len(encoder.batches[0]) for encoder in encoders) == [6, 6]
    assert sorted(n for encoder in encoders for batch in encoder.batches for n in batch) == numbers


async def test_busy_sessions_get_full_batches_and_none_is_lost_or_run_twice(
    calm_supervisor: Supervisor,
) -> None:
    encoders = [Doubled() for _ in range(3)]
    batcher = Batcher("test", *encoders, max_batch=8, supervisor=calm_supervisor)
    wanted = [list(range(first, first + 17)) for first in range(0, 900, 17)]
    calls = [submit(batcher, numbers) for numbers in wanted]
    for call, numbers in zip(calls, wanted, strict=True):
        assert await answers(call) == [2 * n for n in numbers]
    ran = [n for encoder in encoders for batch in encoder.batches for n in batch]
    assert sorted(ran) == sorted(n for numbers in wanted for n in numbers)
    assert max(len(batch) for encoder in encoders for batch in encoder.batches) == 8
    batcher.close()


async def test_a_session_that_dies_fails_its_batch_alone_and_comes_back(
    supervisor: Supervisor, falls: Any
) -> None:
    renewed: list[int] = []

    def renew(number: int) -> Doubled:
        renewed.append(number)
        return Doubled()

    batcher = Batcher("test", Doubled(), Doubled(), max_batch=4, supervisor=supervisor, renew=renew)
    assert await answers(submit(batcher, [KILL])) == [ModelFailure]
    assert not batcher.is_dead
    assert await answers(submit(batcher, [1, 2, 3])) == [2, 4, 6]
    await until(lambda: batcher.alive == 2)
    assert renewed == [0] or renewed == [1]
    assert (falls.down, falls.up) == ([], [])
    batcher.close()


async def test_one_that_hangs_leaves_the_queue_to_the_other(supervisor: Supervisor, falls: Any) -> None:
    encoders = [Doubled(), Doubled()]
    batcher = Batcher("test", *encoders, max_batch=4, supervisor=supervisor, renew=lambda _: Doubled())
    stuck = submit(batcher, [HANG])
    await until(lambda: any(encoder.batches for encoder in encoders))
    numbers = list(range(40))
    assert await answers(submit(batcher, numbers)) == [2 * n for n in numbers]
    assert await answers(stuck) == [ModelFailure]
    await until(lambda: batcher.alive == 2)
    assert falls.down == []
    for encoder in encoders:
        encoder.free.set()
    batcher.close()


async def test_only_the_last_one_to_fall_takes_the_tower_down_and_the_first_brings_it_back(
    supervisor: Supervisor, falls: Any
) -> None:
    barrier = threading.Barrier(2)
    encoders = [Doubled(barrier), Doubled(barrier)]
    batcher = Batcher("test", *encoders, max_batch=4, supervisor=supervisor, renew=lambda _: Doubled())
    assert await answers(submit(batcher, [KILL, KILL])) == [ModelFailure, ModelFailure]
    await until(lambda: falls.down == ["test"])
    await until(lambda: falls.up == ["test"])
    assert await answers(submit(batcher, [4])) == [8]
    await until(lambda: batcher.alive == 2)
    assert (falls.down, falls.up) == (["test"], ["test"])
    batcher.close()


async def test_a_session_that_gets_no_threads_is_down_until_it_does(
    supervisor: Supervisor, falls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher("test", Doubled(), max_batch=4, supervisor=supervisor)
    start, refused = Life.start_thread, threading.Event()

    def refuse_engines(self: Life, name: str, loop: Any) -> None:
        if name == "test engine":
            refused.set()
            raise RuntimeError("can't start new thread")
        start(self, name, loop)

    with monkeypatch.context() as patch:
        patch.setattr(Life, "start_thread", refuse_engines)
        assert await answers(submit(batcher, [KILL])) == [ModelFailure]
        await until(refused.is_set)
        await until(lambda: batcher.is_dead)
        assert await answers(submit(batcher, [1])) == [NotReady]
        assert falls.up == []
    await until(lambda: falls.up == ["test"])
    assert await answers(submit(batcher, [1])) == [2]
    batcher.close()


async def test_with_none_left_what_comes_is_refused_until_one_is_back(
    calm_supervisor: Supervisor, falls: Any
) -> None:
    batcher = Batcher("test", Doubled(), Doubled(), max_batch=1, supervisor=calm_supervisor)
    for _ in range(2):
        assert await answers(submit(batcher, [KILL])) == [ModelFailure]
    await until(lambda: batcher.is_dead)
    assert await answers(submit(batcher, [1])) == [NotReady]
    batcher.close()
    assert falls.up == ["test"]  # what is closed is not down any more: health must not wait for it


def embed(stubs: Any, *inputs: bytes | str) -> Any:
    items = [{"image" if isinstance(item, bytes) else "text": item} for item in inputs]
    return stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=items, cache={"skip_read": True}))


def test_two_sessions_of_a_server_give_the_vectors_of_one(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    images: list[bytes],
) -> None:
    replies = []
    for sessions in (1, 2):
        engine = {"sessions": sessions, "threads": 1}
        config = config_of([tiny_bundle], tmp_path / str(sessions), engine=engine)
        with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
            stubs = stubs_of(channel)
            runtime = stubs.models.GetModel(model_pb2.GetModelRequest()).runtime
            assert (runtime.sessions, runtime.threads, runtime.device) == (sessions, 1, "cpu")
            replies.append(embed(stubs, *images, "a dog", "a cat").vectors.data)
    one, two = (np.frombuffer(reply, "<f4") for reply in replies)
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_health_and_metrics_of_a_server_that_lost_one_of_two_sessions(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(self: Any, rows: Any) -> Any:
        raise Killed

    engine = {"sessions": 2, "restart_seconds": 0.5}
    config = config_of([tiny_bundle], tmp_path, engine=engine)
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        stubs, health = stubs_of(channel), health_pb2_grpc.HealthStub(channel)

        def alive() -> float:
            with urlopen(f"http://{server.metrics_address}/metrics") as page:
                lines = page.read().decode().splitlines()
            [line] = [
                line for line in lines if line.startswith('nearlight_engine_sessions{tower="tiny/text"')
            ]
            return float(line.split()[-1])

        def lose_one() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(OnnxEncoder, "encode", die)
                [error] = embed(stubs, "a word").errors
            assert error.code == 13

        assert alive() == 2
        lose_one()
        assert alive() == 1
        assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
        assert not embed(stubs, "a word").errors
        lose_one()
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == NOT_SERVING
        assert next(watch).status == SERVING
        asyncio.run(until(lambda: alive() == 2))


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"devices": "cpu,cuda:0"}, "one kind"),
        ({"devices": ("cuda:0", "cuda:0")}, "each named once"),
        ({"devices": ("cuda:0",), "provider": "cpu"}, "provider is cpu"),
        ({"devices": ("cpu",), "provider": "cuda"}, "provider is cuda"),
        ({"devices": ("gpu",)}, "pattern"),
        ({"sessions": 0}, "sessions"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, config_of: Callable[..., ServerConfig], engine: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of([], tmp_path, engine=engine)


def test_sessions_share_the_cores_unless_told_otherwise(
    tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    cores = cpu_budget()
    for sessions, threads, each in ((1, 0, cores), (2, 0, max(1, cores // 2)), (3, 5, 5), (64, 0, 1)):
        engine = config_of([], tmp_path, engine={"sessions": sessions, "threads": threads}).engine
        assert engine.session_threads == each
    assert config_of([], tmp_path, engine={"devices": "cuda:1,cuda:3"}).engine.gpu_indexes == [1, 3]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU here")
def test_gpus_that_are_not_there_are_no_start(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    with pytest.raises(BundleUnusable, match="is there a GPU"):
        LocalServer(config_of([tiny_bundle], tmp_path, engine={"devices": "cuda:0,cuda:1"}))
