"""What is left of the throughput at four times the load, and of single calls beside a bulk stream.

    python tests/bench/bench_overload.py --bundle BUNDLE [--rounds 3] [--seconds 5] [--json]

Each round measures, one after the other on one running server, so that whatever else the machine does touches
all of them:

- peak: closed loop, 32 single-image calls in flight, no deadlines: images per second.
- overload: open loop, calls arrive at random at four times that rate, each with a deadline. goodput counts
  answers that came in time; its ratio is over the peak. Also how long a refusal took to come.
- interactive: one caller who pauses between single calls, alone, and beside streams of full batches. The
  ratio is p95 beside them over (p95 alone + the time of one bulk batch, which it may have to wait for).

The client shares the cores. The server's cache of vectors is off.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import onnxruntime
import pyarrow.parquet as pq

from nearlight.v1 import embedding_pb2, input_pb2

COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]
SERVICE = "/nearlight.v1.EmbeddingService"
IN_FLIGHT = 32
OVERLOAD = 4.0


@dataclass(slots=True)
class Answers:
    """Milliseconds that calls took, by how they ended."""

    ok_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


async def ask(embed: Any, request: bytes, answers: Answers, timeout_s: float | None = None) -> None:
    """One call."""
    started = time.perf_counter()
    try:
        reply = await embed(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            answers.refused_ms.append(1e3 * (time.perf_counter() - started))
        else:
            answers.others[error.code().name] += 1
        return
    if reply.errors:
        answers.others[f"item error {reply.errors[0].code}"] += 1
    else:
        answers.ok_ms.append(1e3 * (time.perf_counter() - started))


class Load:
    """The client side of all measurements.

    Args:
        channel: to the server.
        requests: encoded EmbedRequests of one image each.
        seconds: of one measurement.
    """

    def __init__(self, channel: grpc.aio.Channel, requests: list[bytes], seconds: float) -> None:
        self._embed: Any = channel.unary_unary(
            f"{SERVICE}/Embed", response_deserializer=embedding_pb2.EmbedResponse.FromString
        )
        self._stream: Any = channel.stream_stream(
            f"{SERVICE}/EmbedStream", response_deserializer=embedding_pb2.EmbedStreamResponse.FromString
        )
        self._requests = itertools.cycle(requests)
        self._seconds = seconds

    async def peak(self) -> float:
        """Images per second with as many calls in flight as a full server needs."""
        answers, ends = Answers(), time.perf_counter() + self._seconds

        async def caller() -> None:
            while time.perf_counter() < ends:
                await ask(self._embed, next(self._requests), answers)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        if answers.others or answers.refused_ms:
            raise SystemExit(f"the server failed: {answers.others}, {len(answers.refused_ms)} refused")
        return len(answers.ok_ms) / (time.perf_counter() - started)

    async def overload(self, per_s: float, deadline_s: float) -> tuple[Answers, float]:
        """Calls that arrive at random, whatever became of the others; answers, and seconds until the last."""
        answers, rng = Answers(), random.Random(0)
        started = due = time.perf_counter()
        calls = []
        while due - started < self._seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            request = next(self._requests)
            calls.append(asyncio.create_task(ask(self._embed, request, answers, deadline_s)))
            due += rng.expovariate(per_s)
        await asyncio.gather(*calls)
        return answers, time.perf_counter() - started

    async def interactive(self) -> list[float]:
        """Milliseconds of single calls with pauses between them."""
        answers, rng = Answers(), random.Random(0)
        ends = time.perf_counter() + self._seconds
        while time.perf_counter() < ends:
            await ask(self._embed, next(self._requests), answers)
            await asyncio.sleep(rng.uniform(0.0, 0.1))
        if answers.others or answers.refused_ms:
            raise SystemExit(f"single calls failed: {answers.others}, {len(answers.refused_ms)} refused")
        return answers.ok_ms

    async def beside_bulk(self, batch: int) -> tuple[list[float], float, float]:
        """The same beside two streams; with the bulk images per second, and milliseconds of a bulk batch."""
        done, batch_ms = 0, list[float]()

        async def requests() -> AsyncIterator[bytes]:
            while True:
                inputs = [embedding_pb2.EmbedRequest.FromString(next(self._requests)) for _ in range(batch)]
                merged = embedding_pb2.EmbedRequest(inputs=[part.inputs[0] for part in inputs])
                yield embedding_pb2.EmbedStreamRequest(batch=merged).SerializeToString()

        async def stream() -> None:
            nonlocal done
            async for reply in self._stream(requests()):
                if not reply.HasField("result") or reply.result.errors:
                    raise SystemExit("a bulk batch failed")
                done += batch
                batch_ms.append(reply.result.timings.infer_ms)

        streams = [asyncio.create_task(stream()) for _ in range(2)]
        while len(batch_ms) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        done, started = 0, time.perf_counter()
        batch_ms.clear()
        single = await self.interactive()
        bulk_per_s = done / (time.perf_counter() - started)
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        return single, bulk_per_s, statistics.median(batch_ms)


def p(share: float, values: list[float]) -> float:
    """A percentile; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


async def one_round(load: Load, batch: int, deadline_s: float) -> dict[str, float]:
    """One line of the table."""
    peak = await load.peak()
    answers, took_s = await load.overload(OVERLOAD * peak, deadline_s)
    peak_after = await load.peak()
    alone = await load.interactive()
    beside, bulk_per_s, batch_ms = await load.beside_bulk(batch)
    mean_peak = (peak + peak_after) / 2
    return {
        "peak_per_s": mean_peak,
        "goodput_per_s": len(answers.ok_ms) / took_s,
        "goodput_ratio": len(answers.ok_ms) / took_s / mean_peak,
        "refused": len(answers.refused_ms),
        "refused_p50_ms": p(0.5, answers.refused_ms),
        "refused_p95_ms": p(0.95, answers.refused_ms),
        "too_late": sum(answers.others.values()),
        "alone_p95_ms": p(0.95, alone),
        "beside_p50_ms": p(0.5, beside),
        "beside_p95_ms": p(0.95, beside),
        "bulk_batch_ms": batch_ms,
        "bulk_per_s": bulk_per_s,
        "interactive_ratio": p(0.95, beside) / (p(0.95, alone) + batch_ms),
    }


@contextmanager
def running_server(bundle: str | None, settings: list[str]) -> Iterator[str]:
    """A server process on a free port; its address."""
    with tempfile.TemporaryDirectory() as data:
        arguments = ["--data", data, "--listen", "127.0.0.1:0", "--log-level", "error", "--provider", "cpu"]
        arguments += ["--bundle", bundle] if bundle else []
        for setting in ["cache.max_bytes=0", *settings]:
            arguments += ["--set", setting]
        child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            line = child.stdout.readline() if child.stdout else ""
            match = re.search(r" on (\S+) ", line)
            if not match:
                raise SystemExit("the server did not start")
            yield match[1]
        finally:
            child.terminate()
            child.wait()


async def measure(
    address: str, requests: list[bytes], arguments: argparse.Namespace
) -> list[dict[str, float]]:
    """All rounds; the first warms everything and is left out."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        load = Load(channel, requests, arguments.seconds)
        table = [
            await one_round(load, arguments.batch, arguments.deadline_seconds)
            for _ in range(arguments.rounds + 1)
        ]
    return table[1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="folder or name; default: the bundle shipped with Nearlight")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of a round")
    parser.add_argument("--deadline-seconds", type=float, default=2.0, help="of each call under overload")
    parser.add_argument("--batch", type=int, default=16, help="images of one bulk batch")
    parser.add_argument("--set", action="append", default=[], help="a setting of the server; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    arguments = parser.parse_args()
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    data = Path(os.environ.get("NEARLIGHT_DATA", default)) / "imagenet-sample100.parquet"
    if not data.is_file():
        raise SystemExit(f"no images at {data}; set NEARLIGHT_DATA to the folder that holds {data.name}")
    images: list[bytes] = [cell.as_py() for cell in pq.read_table(data, columns=["image"])["image"]]
    requests = [
        embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(image=image)]).SerializeToString()
        for image in images
    ]
    load_before = os.getloadavg()[0]
    with running_server(arguments.bundle, arguments.set) as address:
        table = asyncio.run(measure(address, requests, arguments))
    median = {key: statistics.median(line[key] for line in table) for key in table[0]}
    about = {
        "bundle": arguments.bundle or "default",
        "deadline_s": arguments.deadline_seconds,
        "overload": OVERLOAD,
        "seconds": arguments.seconds,
        "onnxruntime": onnxruntime.__version__,
        "grpc": grpc.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load_before, 2),
    }
    if arguments.json:
        print(json.dumps({"rounds": table, "median": median, **about}, indent=2))
        return
    for key, middle in median.items():
        cells = "".join(f"{line[key]:>11.3f}" for line in table)
        print(f"{key:>20}{cells}   median {middle:.3f}")
    print(", ".join(f"{key} {value}" for key, value in about.items()))


if __name__ == "__main__":
    main()
