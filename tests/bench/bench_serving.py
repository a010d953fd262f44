"""What a server costs: inputs per second and single calls through gRPC over the same in this process.

    python -m tests.bench.bench_serving --bundle BUNDLE [--what images,texts,single] [--rounds 5] [--json]
        [--client grpcio]

- images: JPEG files (imagenet-sample100) become vectors. In-process: a pool of threads decodes ahead while
  full batches run, and nothing else: the limit. Server: a process of its own, asked by a client that keeps
  32 single-image calls in flight and shares the cores. By default that is `PlainChannel`, which leaves them
  to the server; with `--client grpcio` it is one in Python like Nearlight's own.
- texts: captions (flickr8k-val) likewise.
- single: one image after the other, the median time of a call over that of decoding and running it here.

Both sides decode the same inputs and run the same graph with the same threads. Rounds of both are
interleaved, so that whatever else the machine does touches both; the ratio is the median over rounds.
cpu_ratio compares processor time per input (client included): it tells the same on a busy machine.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import grpc
import numpy as np

from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.client import Connection
from nearlight.client.bench.load import Ask, closed_loop
from nearlight.client.bench.results import Answer, Raw
from nearlight.client.bench.target import METHOD, asking, requests_of
from nearlight.server.config_layers import flag_layer, load_config
from nearlight.server.limit import InProcessLimit
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc, input_pb2
from tests.bench.plain_http2 import PlainChannel
from tests.bench.record import MEDIAN, Line, Promise, Table, rounds_and_median, surroundings, tell
from tests.bench.samples import captions, photographs
from tests.bench.server_process import Clock, ServerProcess, Side, running_server

T = TypeVar("T")
AT_LEAST = {"images": 0.95, "texts": 0.90}
# A model of 40 pixels does little work for each call.
AT_LEAST_SMALL = 0.80
SMALL_PX = 64
SINGLE_AT_MOST = 1.08


Asking = Callable[[str, Sequence[bytes]], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def asking_plainly(address: str, requests: Sequence[bytes]) -> AsyncIterator[Ask]:
    """Gives a function that sends the next request, for little."""
    endless, channel = itertools.cycle(requests), await PlainChannel.connect(address, METHOD)

    async def ask() -> Answer:
        reply = await channel.call(next(endless))
        if reply.status:
            return Answer(0, (f"status {reply.status}",))
        errors = embedding_pb2.EmbedResponse.FromString(reply.message).errors
        return Answer(1 - len(errors), tuple(f"status {error.code}" for error in errors))

    try:
        yield ask
    finally:
        channel.close()


def asking_by_grpcio(address: str, requests: Sequence[bytes]) -> AbstractAsyncContextManager[Ask]:
    """The same as clients in Python do it."""
    return asking(Connection(address), requests)


CLIENTS: dict[str, Asking] = {"plain": asking_plainly, "grpcio": asking_by_grpcio}


class Bench:
    """Both sides of every comparison.

    Args:
        server: running.
        local: the same bundle in this process.
        seconds: of each side of a round.
        in_flight: calls.
        asking: makes callers of requests, for throughput.
    """

    def __init__(
        self, server: ServerProcess, local: InProcessLimit, seconds: float, in_flight: int, asking: Asking
    ) -> None:
        self._server = server
        self._local = local
        self._seconds = seconds
        self._in_flight = in_flight
        self._asking = asking

    def throughput(self, inputs: Sequence[Raw], rounds: int) -> list[Line]:
        """A line for each round."""
        requests = requests_of(inputs, 1, "", use_cache=False)

        def here() -> Side:
            clock = Clock()
            done, _ = self._local.run(inputs, self._seconds)
            return clock.side(done)

        def served() -> Side:
            return asyncio.run(self._served(requests))

        return [_throughput_line(*pair) for pair in _interleaved(here, served, rounds)]

    def single(self, inputs: Sequence[Raw], rounds: int) -> list[Line]:
        """A line for each round."""
        requests = requests_of(inputs, 1, "", use_cache=False)

        def here() -> float:
            return self._local.single_ms(inputs, self._seconds)

        def served() -> float:
            return self._single_ms(requests)

        return [
            {"in_process_p50_ms": own, "server_p50_ms": call, "ratio": call / own}
            for own, call in _interleaved(here, served, rounds)
        ]

    async def _served(self, requests: list[bytes]) -> Side:
        """Callers who ask again as soon as they are answered."""
        done, clock = 0, Clock(self._server.pid)
        async with self._asking(self._server.address, requests) as ask:

            async def counted() -> Answer:
                nonlocal done
                answer = await ask()
                if answer.failures:
                    raise RuntimeError(f"the server failed: {answer.failures[0]}")
                done += 1
                return answer

            await closed_loop(counted, in_flight=self._in_flight, seconds=self._seconds)
        return clock.side(done)

    def _single_ms(self, requests: list[bytes]) -> float:
        """One caller, the way `nearlight.client.Client` calls."""
        times: list[float] = []
        with grpc.insecure_channel(self._server.address) as channel:
            read = embedding_pb2.EmbedResponse.FromString
            embed: Any = channel.unary_unary(METHOD, response_deserializer=read)
            ends = time.perf_counter() + self._seconds
            for request in itertools.cycle(requests):
                begun = time.perf_counter()
                if embed(request).errors:
                    raise RuntimeError("the server failed")
                times.append(1e3 * (time.perf_counter() - begun))
                if time.perf_counter() > ends:
                    break
        return statistics.median(times)


def _interleaved(here: Callable[[], T], served: Callable[[], T], rounds: int) -> list[tuple[T, T]]:
    """Both sides, round after round; the first round warms them and is left out."""
    pairs = []
    for number in range(rounds + 1):
        # Who goes first changes, so that a drift of the machine favours neither.
        if number % 2:
            own = here()
            pairs.append((own, served()))
        else:
            other = served()
            pairs.append((here(), other))
    return pairs[1:]


def _throughput_line(own: Side, served: Side) -> Line:
    return {
        "in_process_per_s": own.per_s,
        "server_per_s": served.per_s,
        "ratio": served.per_s / own.per_s,
        "in_process_cpu_ms": own.cpu_ms,
        "server_and_client_cpu_ms": served.cpu_ms,
        "cpu_ratio": own.cpu_ms / served.cpu_ms,
    }


def check_same(address: str, images: list[bytes], local: InProcessLimit) -> float:
    """Least cosine between the server's vectors and those made here."""
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        inputs = [input_pb2.Input(image=image) for image in images]
        reply = stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
    vectors = np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, -1)
    return float((vectors * local.embed(images)).sum(axis=1).min())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="folder or name; default: the bundle shipped with Nearlight")
    parser.add_argument("--what", default="images,texts,single", help="of images, texts, single")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each side of a round")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--client", choices=CLIENTS, default="plain", help="of images and texts")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of both sides; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    bundle = Bundle.open(find_bundle(arguments.bundle))
    about = surroundings() | {"bundle": bundle.manifest.name, "in_flight": arguments.in_flight}
    about |= {"client": arguments.client}
    config = load_config(None, flag_layer({}, arguments.set))
    local, images = InProcessLimit(bundle, config), photographs()
    size_px = bundle.manifest.towers.image.preprocess.size_px
    tables: dict[str, Table] = {}
    promises = []
    with running_server(bundle.path, arguments.set) as server:
        about |= local.describe() | {"min_cosine": round(check_same(server.address, images[:32], local), 7)}
        bench = Bench(server, local, arguments.seconds, arguments.in_flight, CLIENTS[arguments.client])
        for what in arguments.what.split(","):
            if what == "single":
                table = bench.single(images, arguments.rounds)
                bound = SINGLE_AT_MOST
            else:
                table = bench.throughput(images if what == "images" else captions(), arguments.rounds)
                bound = AT_LEAST_SMALL if size_px <= SMALL_PX else AT_LEAST[what]
            tables[what] = rounds_and_median(table)
            ratio = tables[what][MEDIAN]["ratio"]
            promises.append(Promise(f"{what}, server over in-process", ratio, bound, what == "single"))
    local.close()
    tell(about, tables, promises, as_json=arguments.json)


if __name__ == "__main__":
    main()
