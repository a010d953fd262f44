"""Ten minutes of everything at once: `pytest -m slow tests/server/test_soak.py`.

NEARLIGHT_SOAK_SECONDS sets another length.
"""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    embedding_pb2,
    embedding_pb2_grpc,
    input_pb2,
    point_pb2_grpc,
    query_pb2,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SECONDS = float(os.environ.get("NEARLIGHT_SOAK_SECONDS", "600"))
COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]
CALLERS = 24
POISON_SHARE = 0.05
CANCEL_SHARE = 0.05
TEXTS = 400  # more than the cache holds
# A call that has no answer by then has none at all.
CALL_SECONDS = 60.0
REFUSED = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}

Content = bytes | str


class Traffic:
    """Callers of every kind, and what became of their calls.

    Args:
        vectors: what each good input must become.
        poison: inputs that must fail.
    """

    def __init__(self, vectors: dict[Content, Any], poison: list[Content]) -> None:
        self.ends: Counter[str] = Counter()
        self.checked = 0
        self._vectors = vectors
        self._good = list(vectors)
        self._poison = poison
        self._ends_at = time.monotonic() + SECONDS

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends_at

    def contents(self, rng: random.Random, most: int) -> list[Content]:
        return [
            rng.choice(self._poison if rng.random() < POISON_SHARE else self._good)
            for _ in range(rng.randrange(1, most + 1))
        ]

    def check(self, contents: list[Content], reply: Any) -> None:
        """Every vector equals the one made in this process, and exactly the poison failed."""
        bad = {i for i, content in enumerate(contents) if content in self._poison}
        assert {error.index for error in reply.errors} == bad, list(reply.errors)
        rows = np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, -1)
        for i, content in enumerate(contents):
            if i not in bad:
                np.testing.assert_allclose(rows[i], self._vectors[content], atol=1e-5)
                self.checked += 1

    async def single(self, channel: grpc.aio.Channel, seed: int) -> None:
        """Lists and single inputs; some cancel, some have little time."""
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        rng = random.Random(seed)
        while not self.is_over:
            contents = self.contents(rng, 8)
            timeout = rng.choice([0.001, 0.02]) if rng.random() < CANCEL_SHARE else CALL_SECONDS
            call = stub.Embed(request_of(contents), timeout=timeout)
            if rng.random() < CANCEL_SHARE:
                await asyncio.sleep(rng.random() * 0.02)
                call.cancel()
            await self.settle(call, contents)
            await asyncio.sleep(rng.random() * 0.02)

    async def settle(self, call: Any, contents: list[Content]) -> None:
        try:
            reply = await call
        except asyncio.CancelledError:
            self.ends["CANCELLED"] += 1
        except grpc.aio.AioRpcError as error:
            self.ends[error.code().name] += 1
        else:
            self.ends["OK"] += 1
            self.check(contents, reply)

    async def stream(self, channel: grpc.aio.Channel, seed: int) -> None:
        """Bulk streams, some of which are left in the middle."""
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        rng = random.Random(seed)
        while not self.is_over:
            batches = [self.contents(rng, 16) for _ in range(rng.randrange(1, 30))]

            async def requests(batches: list[list[Content]] = batches) -> AsyncIterator[Any]:
                for number, batch in enumerate(batches):
                    yield embedding_pb2.EmbedStreamRequest(sequence=number, batch=request_of(batch))

            leaves_after = rng.randrange(30) if rng.random() < 0.3 else 10**9
            stream = stub.EmbedStream(requests(), timeout=5 * CALL_SECONDS)
            got = 0
            async for reply in stream:
                assert reply.sequence == got
                self.check(batches[got], reply.result)
                got += 1
                if got > leaves_after:
                    stream.cancel()
                    break
            else:
                assert got == len(batches)
            self.ends["stream"] += 1

    async def query(self, channel: grpc.aio.Channel, seed: int) -> None:
        """Searches by text."""
        stub: Any = point_pb2_grpc.PointServiceStub(channel)  # type: ignore[no-untyped-call]
        rng = random.Random(seed)
        while not self.is_over:
            request = query_pb2.QueryRequest(
                collection="soak", query={"text": f"text number {rng.randrange(TEXTS)}"}, limit=5
            )
            await stub.Query(request, timeout=CALL_SECONDS)
            self.ends["query"] += 1
            await asyncio.sleep(0.05)


def request_of(contents: list[Content]) -> embedding_pb2.EmbedRequest:
    inputs = [
        input_pb2.Input(image=content) if isinstance(content, bytes) else input_pb2.Input(text=content)
        for content in contents
    ]
    return embedding_pb2.EmbedRequest(inputs=inputs)


def known_vectors(bundle: Bundle, images: list[bytes]) -> dict[Content, Any]:
    """The right answers, one input at a time."""
    text_path = bundle.text_path
    assert text_path is not None
    image = OnnxEncoder(bundle.image_path, dim=bundle.manifest.dim, threads=1)
    text = OnnxEncoder(text_path, dim=bundle.manifest.dim, threads=1)
    spec, tokenizer = bundle.manifest.towers.image.preprocess, bundle.tokenizer()
    known: dict[Content, Any] = {}
    for content in images:
        known[content] = image.encode(load_pixels(content, spec, ImageLimits())[np.newaxis])[0]
    for number in range(TEXTS):
        sentence = f"text number {number} " + "word " * (number % 40)
        known[sentence] = text.encode(np.asarray(tokenizer.encode([sentence]), np.int64))[0]
    return known


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024


async def sample_rss(pid: int, traffic: Traffic) -> list[int]:
    samples = []
    while not traffic.is_over:
        samples.append(rss_bytes(pid))
        await asyncio.sleep(SECONDS / 100)
    return samples


async def soak(address: str, pid: int, traffic: Traffic) -> list[int]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = collection_pb2_grpc.CollectionServiceStub(channel)  # type: ignore[no-untyped-call]
        await stub.CreateCollection(collection_pb2.CreateCollectionRequest(name="soak"))
        jobs = [traffic.single(channel, seed) for seed in range(CALLERS)]
        jobs += [traffic.stream(channel, 1000 + seed) for seed in range(3)]
        jobs += [traffic.query(channel, 2000)]
        async with asyncio.timeout(SECONDS + 2 * CALL_SECONDS):  # no call hangs
            sampling = asyncio.create_task(sample_rss(pid, traffic))
            await asyncio.gather(*jobs)
            samples = await sampling
        last = await embedding_pb2_grpc.EmbeddingServiceStub(channel).Embed(  # type: ignore[no-untyped-call]
            request_of(["still here"])
        )
        assert not last.errors
    return samples


async def test_ten_minutes_of_mixed_traffic(
    tiny_bundle: Path, tmp_path: Path, images: list[bytes], tiny: Any
) -> None:
    poison: list[Content] = [f"{tiny.raises} x", f"{tiny.gives_nan} x", "", " ", b"no image", images[0][:200]]
    traffic = Traffic(known_vectors(Bundle.open(tiny_bundle), images), poison)
    arguments = ["--bundle", str(tiny_bundle), "--data", str(tmp_path), "--listen", "127.0.0.1:0"]
    arguments += ["--log-level", "error", "--set", "cache.max_bytes=50000"]
    with (tmp_path / "log").open("w") as log:
        child = await asyncio.to_thread(
            lambda: subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=log, text=True)
        )
    try:
        assert child.stdout
        line = await asyncio.to_thread(child.stdout.readline)
        samples = await soak(line.partition(" on ")[2].split()[0], child.pid, traffic)
    finally:
        child.terminate()
        code = await asyncio.to_thread(child.wait, 60)
        child.communicate()
    assert code == 0
    warm, late = np.median(samples[30:40]), np.median(samples[-10:])
    print(
        f"{dict(traffic.ends)}, {traffic.checked} vectors checked, RSS {warm / 1e6:.1f} → {late / 1e6:.1f} MB"
    )
    assert traffic.checked > 1000
    assert set(traffic.ends) <= {"OK", "CANCELLED", "stream", "query", *REFUSED}
    assert late <= 1.05 * warm
