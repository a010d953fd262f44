"""Images per second through the server over images per second of the same bundle in this process.

    python tests/bench/bench_serving.py --bundle BUNDLE [--rounds 5] [--seconds 4] [--json]

Both decode the same JPEG files (imagenet-sample100.parquet in NEARLIGHT_DATA, else ../shared/data) and run the
same graph with the same threads. In-process: a pool decodes ahead while full batches run, nothing else: the limit.
Server: a process of its own, asked by a client that keeps 32 single-image calls in flight and shares the same
cores. Rounds of both are interleaved, so that whatever else the machine does touches both; the ratio is the
median over rounds.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow.parquet as pq

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.registry import find_bundle
from nearlight.server.config import ServerConfig
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc, input_pb2

F32 = npt.NDArray[np.float32]
COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]
METHOD = "/nearlight.v1.EmbeddingService/Embed"


@dataclass(frozen=True, slots=True)
class Round:
    """Images per second of both, one right after the other."""

    in_process: float
    server: float

    @property
    def ratio(self) -> float:
        return self.server / self.in_process


class InProcess:
    """The limit: decode ahead in threads, run full batches.

    Args:
        bundle: what the server serves too.
        config: for the same threads and batch size.
    """

    def __init__(self, bundle: Bundle, config: ServerConfig) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.engine.session_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(bundle.image_path), options, providers=["CPUExecutionProvider"]
        )
        self._spec = bundle.manifest.towers.image.preprocess
        self._pool = ThreadPoolExecutor(config.engine.preparing_threads)
        self._batch = config.batching.max_images

    def embed(self, images: list[bytes]) -> F32:
        rows = np.stack(list(self._pool.map(self._decode, images)))  # (B, H, W, 3)
        vectors: F32 = self._session.run(None, {"pixels": rows})[0]
        return vectors

    def images_per_s(self, images: list[bytes], seconds: float) -> float:
        endless = itertools.cycle(images)
        ahead = deque(self._pool.submit(self._decode, next(endless)) for _ in range(2 * self._batch))
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            rows = np.stack([ahead.popleft().result() for _ in range(self._batch)])  # (B, H, W, 3)
            ahead.extend(self._pool.submit(self._decode, next(endless)) for _ in range(self._batch))
            self._session.run(None, {"pixels": rows})
            done += self._batch
        rate = done / (time.perf_counter() - started)
        for future in ahead:
            future.result()
        return rate

    def _decode(self, image: bytes) -> npt.NDArray[np.uint8]:
        return load_pixels(image, self._spec, ImageLimits())


async def server_images_per_s(address: str, requests: list[bytes], seconds: float, in_flight: int) -> float:
    """Closed loop: `in_flight` callers, each asks again as soon as it is answered."""
    endless = itertools.cycle(requests)
    done, started = 0, time.perf_counter()

    async with grpc.aio.insecure_channel(address) as channel:
        # Requests are encoded before: the client's work is not the server's.
        embed = channel.unary_unary(METHOD, response_deserializer=embedding_pb2.EmbedResponse.FromString)

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                reply = await embed(next(endless))
                if reply.errors:
                    raise RuntimeError(f"the server failed: {reply.errors[0].message}")
                done += 1

        await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (time.perf_counter() - started)


def check_same(address: str, images: list[bytes], local: InProcess) -> float:
    """Least cosine between the server's vectors and those made here."""
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        inputs = [input_pb2.Input(image=image) for image in images]
        reply = stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
    vectors = np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, -1)
    return float((vectors * local.embed(images)).sum(axis=1).min())


@contextmanager
def running_server(bundle: Path) -> Iterator[str]:
    """A server process on a free port; yields its address."""
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
        ]
        child = subprocess.Popen(
            [*COMMAND, *arguments, "--provider", "cpu"], stdout=subprocess.PIPE, text=True
        )
        try:
            line = child.stdout.readline() if child.stdout else ""
            match = re.search(r" on (\S+) ", line)
            if not match:
                raise SystemExit("the server did not start")
            yield match[1]
        finally:
            child.terminate()
            child.wait()


def measure(
    bundle: Bundle, images: list[bytes], rounds: int, seconds: float, in_flight: int
) -> dict[str, object]:
    config = ServerConfig()
    local = InProcess(bundle, config)
    requests = [
        embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(image=image)]).SerializeToString()
        for image in images
    ]
    with running_server(bundle.path) as address:
        cosine = check_same(address, images[:32], local)
        local.images_per_s(images, seconds / 2)
        asyncio.run(server_images_per_s(address, requests, seconds / 2, in_flight))
        measured = []
        for number in range(rounds):
            # Who goes first changes, so that a drift of the machine favours neither.
            first = local.images_per_s(images, seconds) if number % 2 else 0.0
            served = asyncio.run(server_images_per_s(address, requests, seconds, in_flight))
            measured.append(Round(first or local.images_per_s(images, seconds), served))
    return {
        "bundle": bundle.manifest.name,
        "image_px": bundle.manifest.towers.image.preprocess.size_px,
        "in_flight": in_flight,
        "batch": config.batching.max_images,
        "engine_threads": config.engine.session_threads,
        "decode_threads": config.engine.preparing_threads,
        "rounds": [
            {"in_process": round(r.in_process, 1), "server": round(r.server, 1), "ratio": round(r.ratio, 3)}
            for r in measured
        ],
        "median_in_process_images_per_s": round(statistics.median(r.in_process for r in measured), 1),
        "median_server_images_per_s": round(statistics.median(r.server for r in measured), 1),
        "median_ratio": round(statistics.median(r.ratio for r in measured), 3),
        "min_cosine": round(cosine, 7),
        "onnxruntime": onnxruntime.__version__,
        "grpc": grpc.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
    }


def print_table(result: dict[str, object]) -> None:
    rounds = result["rounds"]
    assert isinstance(rounds, list)
    print(
        f"{'round':>8} {'in-process':>12} {'server':>12} {'ratio':>8}   images/s, {result['in_flight']} in flight"
    )
    for number, row in enumerate(rounds):
        print(f"{number:>8} {row['in_process']:>12} {row['server']:>12} {row['ratio']:>8}")
    medians = (
        result[f"median_{name}"] for name in ("in_process_images_per_s", "server_images_per_s", "ratio")
    )
    print("{:>8} {:>12} {:>12} {:>8}".format("median", *medians))
    print({key: value for key, value in result.items() if key != "rounds" and not key.startswith("median")})


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
    images = pq.read_table(data, columns=["image"])["image"].to_pylist()
    bundle = Bundle.open(find_bundle(arguments.bundle))
    result = measure(bundle, images, arguments.rounds, arguments.seconds, arguments.in_flight)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
