"""Ratios of the store against raw FAISS and an empty grpc.aio call, all in one run.

`prepare` fills a data folder and waits for its index; each other part measures one thing on it and adds a
table to the file of results:

    python tests/bench/bench_store.py prepare --folder DIR [--rows 100000] [--graph-rows N]
    python tests/bench/bench_store.py exact|graph|calls|filters|open --folder DIR [--out FILE]

Vectors: 512 numbers around 1,000 centres (sigma 0.05), k = 10. The server is a process of its own, and so is
that of empty calls; the load is made by this process. Raw FAISS has the threshold of its matrix product at
20, and as many threads as the store.
"""

import argparse
import asyncio
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import grpc
import numpy as np
import numpy.typing as npt

from nearlight.store import Collection, IndexSettings, SearchParams, Store, Terms, checked_block
from nearlight.store.filters.conditions import Field, Filter, Range
from nearlight.v1 import filter_pb2, point_pb2_grpc, query_pb2, vector_pb2

F32 = npt.NDArray[np.float32]
Table = Sequence[tuple[str, ...]]
DIM, K, BATCH = 512, 10, 64
THREADS = len(os.sched_getaffinity(0))
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
N_TURNS, N_LEFT_OUT = 5, 4
EXACT = SearchParams(exact=True)
RAW_EFS = (16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 384)


def vectors(n: int, seed: int) -> F32:
    centres = np.random.default_rng(0).standard_normal((1000, DIM)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rng = np.random.default_rng([7, seed])
    made = centres[rng.integers(0, 1000, n)] + 0.05 * rng.standard_normal((n, DIM)).astype(np.float32)
    unit: F32 = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


def prepare(folder: Path, n_exact: int, n_graph: int) -> None:
    with Store.open(folder) as store:
        there = {info.name for info in store.collections()}
        for name, kind, n_rows in (("exact", "exact", n_exact), ("graph", "hnsw", n_graph)):
            if name in there:
                continue
            collection = store.create_collection(
                name,
                space_id="bench",
                dim=DIM,
                index=IndexSettings(kind=kind, exact_up_to=n_rows - 1),  # type: ignore[arg-type]
            )
            data, started = vectors(n_rows, 1), time.monotonic()
            for at in range(0, n_rows, 5000):
                ids = range(at, min(at + 5000, n_rows))
                payloads = [f'{{"n":{i}}}' for i in ids]
                collection.upsert_on(Terms(), checked_block(ids, data[ids.start : ids.stop], payloads)[0])
            took = time.monotonic() - started
            collection.create_payload_index(("n",), "number")
            print(f"{name}: {n_rows} rows in {took:.1f} s, {n_rows / took:.0f} rows/s", flush=True)
        started = time.monotonic()
        if not store.indexes.wait_until_kept(3600):
            raise SystemExit(store.collection("graph").info.index.problem)
        print(f"index: {store.collection('graph').info.index} after {time.monotonic() - started:.1f} s")


def median_ms(work: Callable[[int], object], repeats: int) -> float:
    """The median time of one call, after a few that do not count."""
    for i in range(min(5, repeats)):
        work(i)
    times = []
    for i in range(repeats):
        started = time.perf_counter()
        work(i)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def alternating(works: Sequence[Callable[[int], object]], repeats: int) -> list[float]:
    """The median of each, taken in turns, so that a disturbance meets all.

    The first calls of a turn do not count: OpenMP's threads, which raw FAISS has left behind, still spin.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(N_TURNS):
        for work, own in zip(works, times, strict=True):
            for i in range(-N_LEFT_OUT, repeats // N_TURNS):
                started = time.perf_counter()
                work(i % 32)
                if i >= 0:
                    own.append((time.perf_counter() - started) * 1e3)
    return [statistics.median(own) for own in times]


def recall(found: Sequence[Sequence[int]], true: Sequence[Sequence[int]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, true, strict=True)]))


def ids_of(answer: Any) -> list[list[int]]:
    return [[hit.id for hit in hits] for hits in answer.hits]


def answered(collection: Collection, queries: F32, **options: Any) -> Any:
    return collection.answer(queries, limit=K, with_payload=False, **options)


def query(collection: str, vector: F32, share: float = 1.0, n_rows: int = 0, **params: Any) -> Any:
    request = query_pb2.QueryRequest(
        collection=collection,
        query=query_pb2.Query(vector=vector_pb2.Vector(data=vector.tobytes(), dim=DIM, dtype="DTYPE_F32")),
        limit=K,
        with_payload=query_pb2.WithPayload(enable=False),
    )
    if share < 1:
        below = filter_pb2.Range(lt=share * n_rows)
        field = filter_pb2.FieldCondition(key="n", range=below)
        request.filter.CopyFrom(filter_pb2.Filter(must=[filter_pb2.Condition(field=field)]))
    if params:
        request.params.CopyFrom(query_pb2.SearchParams(**params))
    return request


class Served:
    """The server and the one of empty calls, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        serve = ["-m", "nearlight.client.cli", "serve", "--data", str(folder), "--listen", "127.0.0.1:0"]
        self._processes = [
            subprocess.Popen(
                [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            for arguments in ([*serve, "--metrics", "off"], [__file__, "empty", "--folder", str(folder)])
        ]
        self.address, self.empty = (self._address(process) for process in self._processes)

    def _address(self, process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        return next(word for word in line.split() if word.startswith("127.0.0.1:"))

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()


async def serve_empty() -> None:
    async def nothing(request: bytes, context: Any) -> bytes:
        return b""

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "bench", {"Empty": grpc.unary_unary_rpc_method_handler(nothing)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"empty calls on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


Call = Callable[[int], Awaitable[object]]


async def one_by_one(calls: Sequence[Call], repeats: int) -> list[float]:
    """Median milliseconds of each, taken in turns."""
    times: list[list[float]] = [[] for _ in calls]
    for i in range(-20, repeats):
        for call, own in zip(calls, times, strict=True):
            started = time.perf_counter()
            await call(i % 64)
            if i >= 0:
                own.append((time.perf_counter() - started) * 1e3)
    return [statistics.median(own) for own in times]


async def rate(call: Call, in_flight: int, seconds: float) -> float:
    """Calls a second with so many in flight."""
    n_done, end = 0, time.perf_counter() + seconds

    async def work(number: int) -> None:
        nonlocal n_done
        while time.perf_counter() < end:
            await call(number)
            n_done += 1
            number = (number + 7) % 64

    await asyncio.gather(*(work(i) for i in range(in_flight)))
    return n_done / seconds


def measure_exact(folder: Path, n_rows: int) -> Table:
    faiss.cvar.distance_compute_blas_threshold = 20
    queries = vectors(2048, 2)
    with Store.open(folder) as store:
        collection = store.collection("exact")
        raw = faiss.IndexFlatIP(DIM)
        raw.add(vectors(n_rows, 1))
        batches = [np.ascontiguousarray(queries[i * BATCH : (i + 1) * BATCH]) for i in range(32)]
        true = raw.search(batches[0], K)[1].tolist()
        same = recall(ids_of(answered(collection, batches[0])), true)
        raw_batch, own_batch = alternating(
            [lambda i: raw.search(batches[i], K), lambda i: answered(collection, batches[i])], 15
        )
        raw_one, own_one = alternating(
            [lambda i: raw.search(queries[i : i + 1], K), lambda i: answered(collection, queries[i : i + 1])],
            80,
        )
    batch_rpc, one_rpc = asyncio.run(_exact_calls(folder, queries))
    return [
        ("exact, batch of 64, raw FAISS Flat", f"{64e3 / raw_batch:.0f}/s", "1", ""),
        (
            "the same, store",
            f"{64e3 / own_batch:.0f}/s",
            f"{raw_batch / own_batch:.2f}",
            f"recall {same:.4f}",
        ),
        (
            "the same, QueryBatch over gRPC",
            f"{64e3 / batch_rpc:.0f}/s",
            f"{raw_batch / batch_rpc:.2f}",
            ">= 0.90",
        ),
        ("exact, single, raw FAISS Flat", f"{raw_one:.2f} ms", "1", ""),
        ("the same, store", f"{own_one:.2f} ms", f"{own_one / raw_one:.2f}", ""),
        ("the same, Query over gRPC", f"{one_rpc:.2f} ms", f"{one_rpc / raw_one:.2f}", "<= 1.1"),
    ]


async def _exact_calls(folder: Path, queries: F32) -> tuple[float, float]:
    with Served(folder) as served:
        async with grpc.aio.insecure_channel(
            served.address, options=[("grpc.max_receive_message_length", -1)]
        ) as one:
            stub: Any = point_pb2_grpc.PointServiceStub(one)  # type: ignore[no-untyped-call]
            batch = batch_of("exact", queries)
            singles = [query("exact", queries[i]) for i in range(64)]
            (batch_ms,) = await one_by_one([lambda i: stub.QueryBatch(batch)], 15)
            (single_ms,) = await one_by_one([lambda i: stub.Query(singles[i])], 80)
    return batch_ms, single_ms


def batch_of(collection: str, queries: F32) -> query_pb2.QueryBatchRequest:
    return query_pb2.QueryBatchRequest(
        collection=collection, queries=[query(collection, queries[i]) for i in range(BATCH)]
    )


def measure_graph(folder: Path, n_rows: int) -> Table:
    queries = vectors(2048, 2)
    batches = [np.ascontiguousarray(queries[i * BATCH : (i + 1) * BATCH]) for i in range(32)]
    raw = raw_graph(folder, n_rows)
    faiss.omp_set_num_threads(THREADS)
    with Store.open(folder) as store:
        collection = store.collection("graph")
        true = ids_of(answered(store.collection("exact"), queries[:512], params=EXACT))
        answer = answered(collection, queries[:512])
        own_recall = recall(ids_of(answer), true)
        raw_ef, raw_recall = 0, 0.0
        for raw_ef in RAW_EFS:
            params = faiss.SearchParametersHNSW(efSearch=raw_ef)  # type: ignore[attr-defined]
            raw_recall = recall(raw.search(queries[:512], K, params=params)[1].tolist(), true)
            if raw_recall >= own_recall - 0.002:
                break
        raw_batch, own_batch = alternating(
            [
                lambda i: raw.search(batches[i], K, params=params),
                lambda i: answered(collection, batches[i]),
            ],
            200,
        )
        raw_one, own_one = alternating(
            [
                lambda i: raw.search(queries[i : i + 1], K, params=params),
                lambda i: answered(collection, queries[i : i + 1]),
            ],
            400,
        )
    graph = asyncio.run(_graph_calls(folder, queries))
    batch_rpc, empty_one, one_rpc, with_payload, empty_rate, own_rate = graph
    beyond, full_beyond = (ms - raw_one - empty_one for ms in (one_rpc, with_payload))
    ours = f"the same, store (ef {answer.how.hnsw_ef})"
    return [
        (f"HNSW, batch of 64, raw (M 32, ef {raw_ef})", per_s(raw_batch), "1", f"recall {raw_recall:.3f}"),
        (ours, per_s(own_batch), f"{raw_batch / own_batch:.2f}", f"recall {own_recall:.3f}, >= 0.80"),
        ("the same, QueryBatch over gRPC", per_s(batch_rpc), f"{raw_batch / batch_rpc:.2f}", ""),
        ("HNSW, single, raw FAISS", f"{raw_one:.3f} ms", "", ""),
        ("the same, store", f"{own_one:.3f} ms", "", ""),
        ("an empty grpc.aio call", f"{empty_one:.3f} ms", "", ""),
        ("Query over gRPC", f"{one_rpc:.3f} ms", f"{beyond:+.3f} ms beyond raw and empty", "<= +0.300"),
        ("the same with payloads", f"{with_payload:.3f} ms", f"{full_beyond:+.3f} ms", ""),
        ("empty calls, 32 in flight", f"{empty_rate:.0f}/s", "1", ""),
        ("Query, 32 in flight", f"{own_rate:.0f}/s", f"{own_rate / empty_rate:.2f}", ">= 0.50"),
    ]


def per_s(batch_ms: float) -> str:
    return f"{BATCH * 1e3 / batch_ms:.0f}/s"


def raw_graph(folder: Path, n_rows: int) -> Any:
    """FAISS's own HNSW over the same vectors, kept beside the data folder, for it takes long to build."""
    path = folder / f"raw-hnsw-{n_rows}.faiss"
    if path.exists():
        return faiss.read_index(str(path))
    raw = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
    raw.hnsw.efConstruction = 80
    started = time.monotonic()
    raw.add(vectors(n_rows, 1))
    print(f"raw HNSW built in {time.monotonic() - started:.1f} s", flush=True)
    faiss.write_index(raw, str(path))
    return raw


async def _graph_calls(folder: Path, queries: F32) -> tuple[float, ...]:
    with Served(folder) as served:
        async with (
            grpc.aio.insecure_channel(served.address) as one,
            grpc.aio.insecure_channel(served.empty) as other,
        ):
            stub: Any = point_pb2_grpc.PointServiceStub(one)  # type: ignore[no-untyped-call]
            empty: Any = other.unary_unary("/bench/Empty")
            batch = batch_of("graph", queries)
            singles = [query("graph", queries[i]) for i in range(64)]
            full = [query("graph", queries[i]) for i in range(64)]
            for request in full:
                request.ClearField("with_payload")
            (batch_ms,) = await one_by_one([lambda i: stub.QueryBatch(batch)], 100)
            empty_ms, single_ms, full_ms = await one_by_one(
                [lambda i: empty(b""), lambda i: stub.Query(singles[i]), lambda i: stub.Query(full[i])], 500
            )
            rates = [
                await rate(call, 32, 4.0)
                for call in (lambda i: empty(b""), lambda i: stub.Query(singles[i])) * 2
            ]
    return batch_ms, empty_ms, single_ms, full_ms, max(rates[0], rates[2]), max(rates[1], rates[3])


def measure_filters(folder: Path, n_rows: int) -> Table:
    queries = vectors(256, 2)
    rows: list[tuple[str, ...]] = []
    with Store.open(folder) as store:
        collection = store.collection("graph")
        for share in SHARES:
            filter = None if share == 1 else Filter(must=(Field(("n",), Range(lt=share * n_rows)),))
            true = ids_of(answered(collection, queries, filter=filter, params=EXACT))
            answer = answered(collection, queries, filter=filter)
            kind = "exact" if answer.how.exact else f"{answer.how.index_kind}, ef {answer.how.hnsw_ef}"
            single = median_ms(lambda i: answered(collection, queries[i : i + 1], filter=filter), 60)  # noqa: B023
            batch = median_ms(lambda i: answered(collection, queries[:BATCH], filter=filter), 10)  # noqa: B023
            rows.append(
                (
                    f"filter keeps {100 * share:g} %, {kind}",
                    f"{1e3 / single:.0f}/s single, {64e3 / batch:.0f}/s batched",
                    f"recall {recall(ids_of(answer), true):.3f}",
                    ">= 0.95",
                )
            )
    return rows


def measure_open(folder: Path, n_rows: int) -> Table:
    """Kill a process that has the store open, then open it."""
    script = """
import pathlib, sys, time
from nearlight.store import Point, Store
collection = Store.open(pathlib.Path(sys.argv[1])).collection("graph")
collection.upsert([Point("last", [1.0] * collection.info.dim, {})])
print("up", flush=True)
time.sleep(99)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    started = time.monotonic()
    with Store.open(folder) as store:
        took = time.monotonic() - started
        collection = store.collection("graph")
        index, total = collection.info.index, sum(info.count for info in store.collections())
        answer = answered(collection, vectors(1, 2))
        collection.delete(["last"])
    note = f"index {index.kind}, exact {answer.how.exact}"
    what = f"open after kill -9, {total} rows in two collections"
    return [(what, f"{took:.2f} s", f"{total / took:.0f} rows/s", note)]


PARTS: dict[str, Callable[[Path, int], Table]] = {
    "exact": measure_exact,
    "graph": measure_graph,
    "filters": measure_filters,
    "open": measure_open,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["prepare", "empty", *PARTS])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument(
        "--graph-rows", type=int, help="rows of the collection with an index, where not as many"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "prepare":
        prepare(arguments.folder, arguments.rows, arguments.graph_rows or arguments.rows)
        if not arguments.graph_rows:
            raw_graph(arguments.folder, arguments.rows)
        return
    if arguments.part == "empty":
        asyncio.run(serve_empty())
        return
    rows = PARTS[arguments.part](arguments.folder, arguments.rows)
    versions = f"Python {platform.python_version()}, FAISS {faiss.__version__}, grpcio {grpc.__version__}"
    lines = [
        f"## {arguments.part}, {arguments.rows} x {DIM}, {time.strftime('%Y-%m-%d')}",
        f"{THREADS} CPUs, {platform.machine()}, {versions}, numpy {np.__version__}",
        "",
        "| what | measured | ratio | target or note |",
        "|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    print("\n".join(lines))
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
