"""Images per second through the server over images per second of the same bundle in this process.

    python tests/bench/bench_serving.py --bundle BUNDLE [--rounds 5] [--seconds 4] [--json]

Both decode the same JPEG files (imagenet-sample100.parquet in NEARLIGHT_DATA, else ../shared/data)
and run the same graph with the same threads. In-process: a pool decodes ahead while full batches run,
nothing else: the limit. Server: a process of its own, asked by a client that keeps 32 single-image
calls in flight and shares the same cores. Rounds of both are interleaved, so that whatever else the
machine does touches both; the ratio is the median over rounds. cpu_ratio compares processor time per
image (client included): it tells the same on a busy machine.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pyarrow.parquet as pq

from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.client import Connection
from nearlight.client.bench.load import closed_loop
from nearlight.client.bench.results import Answer
from nearlight.client.bench.target import asking, requests_of
from nearlight.server.config import ServerConfig
from nearlight.server.limit import InProcessLimit
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc, input_pb2

COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a round did.

    Args:
        images: embedded.
        wall_s: seconds it took.
        cpu_s: processor seconds it used, of all its processes: it tells the cost where the machine is busy.
    """

    images: int
    wall_s: float
    cpu_s: float

    @property
    def images_per_s(self) -> float:
        return self.images / self.wall_s

    @property
    def cpu_ms_per_image(self) -> float:
        return 1e3 * self.cpu_s / self.images


class Clock:
    """Wall and processor time since it was made, of this process and of another one."""

    def __init__(self, other_pid: int | None = None) -> None:
        self._pid = other_pid
        self._wall, self._cpu = time.perf_counter(), self._cpu_s()

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._wall

    def side(self, images: int) -> Side:
        return Side(images, self.wall_s, self._cpu_s() - self._cpu)

    def _cpu_s(self) -> float:
        own = time.process_time()
        if self._pid is None:
            return own
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(") ")[2].split()
        return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_limit(limit: InProcessLimit, images: list[bytes], seconds: float) -> Side:
    """The bundle in this process: decoded ahead in threads, full batches."""
    clock = Clock()
    done, _ = limit.run(images, seconds)
    return clock.side(done)


async def ask_server(server: "Server", requests: list[bytes], seconds: float, in_flight: int) -> Side:
    """Closed loop: `in_flight` callers, each asks again as soon as it is answered."""
    done, clock = 0, Clock(server.pid)
    async with asking(Connection(server.address), requests) as ask:

        async def counted() -> Answer:
            nonlocal done
            answer = await ask()
            if answer.failures:
                raise RuntimeError(f"the server failed: {answer.failures[0]}")
            done += 1
            return answer

        await closed_loop(counted, in_flight=in_flight, seconds=seconds)
    return clock.side(done)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    address: str
    pid: int


def check_same(address: str, images: list[bytes], local: InProcessLimit) -> float:
    """Least cosine between the server's vectors and those made here."""
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        inputs = [input_pb2.Input(image=image) for image in images]
        reply = stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
    vectors = np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, -1)
    return float((vectors * local.embed(images)).sum(axis=1).min())


@contextmanager
def running_server(bundle: Path) -> Iterator[Server]:
    """A server process on a free port."""
    with tempfile.TemporaryDirectory() as data:
        arguments = [
            "--bundle",
            str(bundle),
            "--data",
            data,
            "--listen",
            "127.0.0.1:0",
            "--log-level",
            "warning",
            "--set",
            "cache.max_bytes=0",  # the same images come round and round
        ]
        child = subprocess.Popen(
            [*COMMAND, *arguments, "--provider", "cpu"], stdout=subprocess.PIPE, text=True
        )
        try:
            line = child.stdout.readline() if child.stdout else ""
            match = re.search(r" on (\S+) ", line)
            if not match:
                raise SystemExit("the server did not start")
            yield Server(match[1], child.pid)
        finally:
            child.terminate()
            child.wait()


def measure(
    bundle: Bundle, images: list[bytes], rounds: int, seconds: float, in_flight: int
) -> dict[str, object]:
    """Interleave both sides; a document of every round and the medians."""
    config = ServerConfig()
    local = InProcessLimit(bundle, config)
    requests = requests_of(images, 1, "", use_cache=False)
    load = os.getloadavg()[0]
    table = []
    with running_server(bundle.path) as server:
        cosine = check_same(server.address, images[:32], local)
        for number in range(rounds + 1):
            # Who goes first changes, so that a drift of the machine favours neither.
            first = run_limit(local, images, seconds) if number % 2 else None
            served = asyncio.run(ask_server(server, requests, seconds, in_flight))
            limit = first or run_limit(local, images, seconds)
            if number:  # the first round warms both
                table.append(row(limit, served))
    return {
        "rounds": table,
        "median": {key: round(statistics.median(line[key] for line in table), 3) for key in table[0]},
        "bundle": bundle.manifest.name,
        "image_px": bundle.manifest.towers.image.preprocess.size_px,
        "in_flight": in_flight,
        "batch": config.batching.max_images,
        "engine_threads": config.engine.session_threads,
        "decode_threads": config.engine.preparing_threads,
        "min_cosine": round(cosine, 7),
        "onnxruntime": onnxruntime.__version__,
        "grpc": grpc.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 2),
    }


def row(limit: Side, served: Side) -> dict[str, float]:
    """One line of the table."""
    return {
        "in_process_images_per_s": round(limit.images_per_s, 1),
        "server_images_per_s": round(served.images_per_s, 1),
        "ratio": round(served.images_per_s / limit.images_per_s, 3),
        "in_process_cpu_ms": round(limit.cpu_ms_per_image, 2),
        "server_and_client_cpu_ms": round(served.cpu_ms_per_image, 2),
        "cpu_ratio": round(limit.cpu_ms_per_image / served.cpu_ms_per_image, 3),
    }


def print_table(result: dict[str, object]) -> None:
    """For people."""
    rounds, median = result.pop("rounds"), result.pop("median")
    assert isinstance(rounds, list)
    assert isinstance(median, dict)
    names = list(median)
    print("".join(f"{name:>27}" for name in ["round", *names]))
    for name, line in [*enumerate(rounds), ("median", median)]:
        print("".join(f"{cell:>27}" for cell in [name, *(line[key] for key in names)]))
    print(", ".join(f"{key} {value}" for key, value in result.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="folder or name; default: the bundle shipped with Nearlight")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each side of a round")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout instead of the table"
    )
    arguments = parser.parse_args()
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    data = Path(os.environ.get("NEARLIGHT_DATA", default)) / "imagenet-sample100.parquet"
    if not data.is_file():
        raise SystemExit(f"no images at {data}; set NEARLIGHT_DATA to the folder that holds {data.name}")
    images: list[bytes] = [cell.as_py() for cell in pq.read_table(data, columns=["image"])["image"]]
    bundle = Bundle.open(find_bundle(arguments.bundle))
    result = measure(bundle, images, arguments.rounds, arguments.seconds, arguments.in_flight)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
