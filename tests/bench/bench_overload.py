"""What is left of the throughput at four times the load, and of single calls beside a bulk stream.

    python -m tests.bench.bench_overload --bundle BUNDLE [--rounds 3] [--seconds 5] [--json]

Each round measures, one after the other on one running server, so that whatever else the machine does touches
all of them:

- peak: closed loop, 32 single-image calls in flight, no deadlines: images per second.
- overload: open loop, calls arrive at random at four times that rate, each with a deadline. goodput counts
  answers that came in time; its ratio is over the peak (the mean of one before and one after). Also how long
  a refusal took to come, from when the call was sent; and client_lag, by how much the client itself, which
  shares the cores, was behind with sending. cpu_ratio compares processor time for each answer, at the peak
  before over the overload: with all cores in use it is the same ratio, and it tells it on a busy machine too.
- interactive: one caller who pauses between single calls, alone, and beside streams of full batches. The
  ratio is p95 beside them over (p95 alone + the time of one bulk batch, which it may have to wait for).

The client shares the cores: `PlainChannel` sends single calls for little, of the peak and of the overload
alike, and client_cores_used says how little. The server's cache of vectors is off.
"""

import argparse
import asyncio
import gc
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.client.bench.target import requests_of
from nearlight.v1 import embedding_pb2
from tests.bench.plain_http2 import PlainChannel
from tests.bench.record import MEDIAN, Line, Promise, Table, rounds_and_median, surroundings, tell
from tests.bench.samples import photographs
from tests.bench.server_process import Clock, ServerProcess, Side, running_server

SERVICE = "/nearlight.v1.EmbeddingService"
REFUSED: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
IN_FLIGHT = 32
OVERLOAD = 4.0
# Answers of one batch come within less than this, those of two batches do not.
BATCH_GAP_S = 0.02
LEAST_BATCHES = 4
WARM_SECONDS = 2.0


@dataclass(slots=True)
class Answers:
    """Milliseconds that calls took, by how they ended."""

    ok_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    ok_at: list[float] = field(default_factory=list)

    def per_s(self, until: float) -> float:
        """Answers a second while the load lasted.

        They come by batches. So it is counted from the end of one batch to the end of another: a window that
        cuts batches would be wrong by one of them.

        Args:
            until: when the load ended, on `time.perf_counter`.
        """
        moments = sorted(moment for moment in self.ok_at if moment <= until)
        ends = [a for a, b in itertools.pairwise(moments) if b - a > BATCH_GAP_S]
        if len(ends) < LEAST_BATCHES:
            raise SystemExit(f"only {len(ends)} batches were answered; measure for longer (--seconds)")
        first, last = ends[1], ends[-1]  # without what was answered first: the server had been idle
        return sum(first < moment <= last for moment in moments) / (last - first)


async def ask(
    channel: PlainChannel, request: bytes, answers: Answers, timeout_s: float | None = None
) -> None:
    """One call."""
    started = time.perf_counter()
    reply = await channel.call(request, timeout_s)
    ended = time.perf_counter()
    took_ms = 1e3 * (ended - started)
    if reply.status == REFUSED:
        answers.refused_ms.append(took_ms)
    elif reply.status:
        answers.others[f"status {reply.status}"] += 1
    elif embedding_pb2.EmbedResponse.FromString(reply.message).errors:
        answers.others["item error"] += 1
    elif timeout_s is not None and took_ms > 1e3 * timeout_s:
        answers.others["answered too late"] += 1
    else:
        answers.ok_at.append(ended)
        answers.ok_ms.append(took_ms)


class Load:
    """The client side of all measurements.

    Args:
        calls: to the server's Embed.
        channel: to the server, for streams.
        requests: encoded EmbedRequests of one image each.
        batches: encoded EmbedStreamRequests.
        seconds: of one measurement.
    """

    def __init__(
        self,
        calls: PlainChannel,
        channel: grpc.aio.Channel,
        requests: list[bytes],
        batches: list[bytes],
        seconds: float,
    ) -> None:
        self._calls = calls
        self._stream: Any = channel.stream_stream(
            f"{SERVICE}/EmbedStream", response_deserializer=embedding_pb2.EmbedStreamResponse.FromString
        )
        self._requests = itertools.cycle(requests)
        self._batches = itertools.cycle(batches)
        self._seconds = seconds

    async def peak(self) -> float:
        """Images per second with as many calls in flight as a full server needs."""
        answers, ends = Answers(), time.perf_counter() + self._seconds

        async def caller() -> None:
            while time.perf_counter() < ends:
                await ask(self._calls, next(self._requests), answers)

        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        if answers.others or answers.refused_ms:
            raise SystemExit(f"the server failed: {answers.others}, {len(answers.refused_ms)} refused")
        return answers.per_s(ends)

    async def overload(self, per_s: float, deadline_s: float) -> tuple[Answers, float]:
        """Calls that arrive at random, whatever became of the others; and how many were answered a second."""
        answers, rng = Answers(), random.Random(0)
        started = due = time.perf_counter()
        calls = []
        while due - started < self._seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answers.lag_ms.append(1e3 * (time.perf_counter() - due))
            request = next(self._requests)
            calls.append(asyncio.create_task(ask(self._calls, request, answers, deadline_s)))
            due += rng.expovariate(per_s)
        await asyncio.gather(*calls)
        return answers, answers.per_s(started + self._seconds)

    async def interactive(self) -> list[float]:
        """Milliseconds of single calls with pauses between them."""
        answers, rng = Answers(), random.Random(0)
        ends = time.perf_counter() + self._seconds
        while time.perf_counter() < ends:
            await ask(self._calls, next(self._requests), answers)
            await asyncio.sleep(rng.uniform(0.0, 0.1))
        if answers.others or answers.refused_ms:
            raise SystemExit(f"single calls failed: {answers.others}, {len(answers.refused_ms)} refused")
        return answers.ok_ms

    async def beside_bulk(self, batch: int) -> tuple[list[float], float, float]:
        """The same beside two streams; with the bulk images per second, and milliseconds of a bulk batch."""
        done, batch_ms = 0, list[float]()

        async def requests() -> AsyncIterator[bytes]:
            while True:
                yield next(self._batches)

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


async def overload_line(load: Load, pid: int, deadline_s: float) -> Line:
    """One round of peak, overload, peak."""
    clock, own, before = Clock(pid), Clock(), await load.peak()
    peak_side, peak_own, clock, own = clock.side(1), own.side(1), Clock(pid), Clock()
    answers, goodput = await load.overload(OVERLOAD * before, deadline_s)
    side, own_side = clock.side(1), own.side(1)
    peak = (before + await load.peak()) / 2
    return {
        "peak_per_s": peak,
        "peak_cores_used": peak_side.cpu_s / peak_side.wall_s,
        "peak_client_cores_used": peak_own.cpu_s / peak_own.wall_s,
        "goodput_per_s": goodput,
        "goodput_cores_used": side.cpu_s / side.wall_s,
        "goodput_client_cores_used": own_side.cpu_s / own_side.wall_s,
        "goodput_ratio": goodput / peak,
        "cpu_ratio": _cpu_s(peak_side, before) / _cpu_s(side, goodput),
        "refused": len(answers.refused_ms),
        "refused_p50_ms": p(0.5, answers.refused_ms),
        "refused_p95_ms": p(0.95, answers.refused_ms),
        "refused_max_ms": max(answers.refused_ms, default=0.0),
        "too_late": sum(answers.others.values()),
        "answered_p95_ms": p(0.95, answers.ok_ms),
        "client_lag_p95_ms": p(0.95, answers.lag_ms),
    }


def _cpu_s(side: Side, per_s: float) -> float:
    """Processor seconds of an answer, those of refusals included, of server and client."""
    return side.cpu_s / side.wall_s / per_s


async def bulk_line(load: Load, batch: int) -> Line:
    """One round of single calls, alone and beside bulk streams."""
    alone = await load.interactive()
    beside, bulk_per_s, batch_ms = await load.beside_bulk(batch)
    return {
        "alone_p50_ms": p(0.5, alone),
        "alone_p95_ms": p(0.95, alone),
        "beside_p50_ms": p(0.5, beside),
        "beside_p95_ms": p(0.95, beside),
        "bulk_batch_ms": batch_ms,
        "bulk_per_s": bulk_per_s,
        "ratio": p(0.95, beside) / (p(0.95, alone) + batch_ms),
    }


async def measure(
    server: ServerProcess, requests: list[bytes], batches: list[bytes], arguments: argparse.Namespace
) -> dict[str, Table]:
    """All rounds of what was asked for; a short one before warms everything."""
    options = [("grpc.max_send_message_length", -1)]
    found: dict[str, Table] = {}
    calls = await PlainChannel.connect(server.address, f"{SERVICE}/Embed")
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        load = Load(calls, channel, requests, batches, arguments.seconds)
        await Load(calls, channel, requests, batches, WARM_SECONDS).interactive()
        rounds = range(arguments.rounds)
        if "overload" in arguments.what:
            lines = [await overload_line(load, server.pid, arguments.deadline_seconds) for _ in rounds]
            found["overload"] = rounds_and_median(lines)
        if "bulk" in arguments.what:
            found["bulk"] = rounds_and_median([await bulk_line(load, arguments.batch) for _ in rounds])
    calls.close()
    return found


def promises_of(tables: dict[str, Table]) -> list[Promise]:
    """On the medians."""
    promises = []
    if "overload" in tables:
        middle = tables["overload"][MEDIAN]
        promises.append(Promise("goodput at 4 x overload over the peak", middle["goodput_ratio"], 0.95))
        promises.append(Promise("p95 of refusals, ms", middle["refused_p95_ms"], 50, is_at_most=True))
    if "bulk" in tables:
        what = "interactive p95 beside bulk over (alone + one batch)"
        promises.append(Promise(what, tables["bulk"][MEDIAN]["ratio"], 1.5, is_at_most=True))
    return promises


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="folder or name; default: the bundle shipped with Nearlight")
    parser.add_argument("--what", default="overload,bulk", help="of overload, bulk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of a round")
    parser.add_argument("--deadline-seconds", type=float, default=2.0, help="of each call under overload")
    parser.add_argument("--batch", type=int, default=16, help="images of one bulk batch")
    parser.add_argument("--set", action="append", default=[], help="a setting of the server; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    arguments = parser.parse_args()
    bundle = Bundle.open(find_bundle(arguments.bundle))
    about = surroundings() | {"bundle": bundle.manifest.name, "deadline_s": arguments.deadline_seconds}
    images = photographs()
    requests = requests_of(images, 1, "", use_cache=False)
    batches = [
        embedding_pb2.EmbedStreamRequest(
            batch=embedding_pb2.EmbedRequest.FromString(request)
        ).SerializeToString()
        for request in requests_of(images, arguments.batch, "", use_cache=False)
    ]
    gc.collect()
    gc.freeze()  # the client shares the cores: its collections would be work for nothing
    with running_server(bundle.path, arguments.set) as server:
        tables = asyncio.run(measure(server, requests, batches, arguments))
    tell(about, tables, promises_of(tables), as_json=arguments.json)


if __name__ == "__main__":
    main()
