"""What happens to a whole process: told to stop under load, stopped and woken, its disk for logs full."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearlight.v1 import embedding_pb2, embedding_pb2_grpc, input_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]


def request_of(*contents: bytes | str) -> embedding_pb2.EmbedRequest:
    inputs = [
        input_pb2.Input(image=content) if isinstance(content, bytes) else input_pb2.Input(text=content)
        for content in contents
    ]
    return embedding_pb2.EmbedRequest(inputs=inputs)


def embedding_of(channel: Any) -> Any:
    return embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]


def started(*arguments: str | Path, logs: Path = Path("/dev/null")) -> tuple[subprocess.Popen[str], str]:
    with logs.open("w") as errors:
        child = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert child.stdout
    line = child.stdout.readline()
    return child, line.partition(" on ")[2].split()[0]


async def test_sigterm_under_load_answers_everyone_and_ends_well(
    tiny_bundle: Path, tmp_path: Path, images: list[bytes]
) -> None:
    child, address = await asyncio.to_thread(started, "--bundle", tiny_bundle, "--data", tmp_path)
    before: Counter[grpc.StatusCode] = Counter()
    after: Counter[grpc.StatusCode] = Counter()
    is_asked, is_over = asyncio.Event(), asyncio.Event()

    async def caller(stub: Any, number: int) -> None:
        while not is_over.is_set():
            ends = after if is_asked.is_set() else before
            try:
                reply = await stub.Embed(request_of(images[number % 24], f"word {number}"), timeout=30)
                assert not reply.errors
                ends[grpc.StatusCode.OK] += 1
            except grpc.aio.AioRpcError as error:
                ends[error.code()] += 1
                await asyncio.sleep(0.01)

    try:
        async with grpc.aio.insecure_channel(address) as channel:
            callers = [asyncio.create_task(caller(embedding_of(channel), number)) for number in range(16)]
            while before[grpc.StatusCode.OK] < 50:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            is_asked.set()
            child.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, 60) == 0
            is_over.set()
            await asyncio.gather(*callers)
    finally:
        child.kill()
        child.communicate()
    assert set(before) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert before[grpc.StatusCode.OK] >= 50
    # gRPC itself answers CANCELLED to a call that reaches it in the very moment in which it closes.
    allowed = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert set(after) <= allowed
    assert after[grpc.StatusCode.UNAVAILABLE]


async def test_a_process_that_was_stopped_and_a_full_disk_for_logs_change_nothing(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """Stopped for longer than the watchdog waits: that is not held against the stages."""
    settings = ("--set", "engine.call_limit_seconds=0.4", "--log-level", "debug")
    arguments = ("--bundle", tiny_bundle, "--data", tmp_path, *settings)
    child, address = await asyncio.to_thread(started, *arguments, logs=Path("/dev/full"))
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = embedding_of(channel)
            assert not (await stub.Embed(request_of("dog"), timeout=30)).errors
            statuses = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await statuses.read()).status == SERVING
            child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)
            child.send_signal(signal.SIGCONT)
            assert not (await stub.Embed(request_of("dog", "cat"), timeout=30)).errors
            with suppress(TimeoutError):
                async with asyncio.timeout(0.8):
                    pytest.fail(f"health changed: {await statuses.read()}")
        child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 60) == 0
    finally:
        child.kill()
        child.communicate()
