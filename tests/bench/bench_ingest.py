"""Durable rows per second, and queries per second, beside Milvus Lite and Chroma on the same vectors.

    python -m venv PEERS && PEERS/bin/pip install pymilvus milvus-lite chromadb
    python tests/bench/bench_ingest.py --peer-python PEERS/bin/python [--rows 20000] [--dim 512] [--queries]

Ours is a server in a process of its own, asked over gRPC (Client.upsert_blocks: 1,024 points a request; or,
"point by point", Client.upsert_stream: 256 points a request, 8 in flight); every row is acknowledged when it
is synced. The peers run in process, as their users run them, in batches of 1,000. Rounds take turns, so that
whatever else the machine does touches all; figures are medians over rounds. With --queries also single
queries and QueryBatch of 64, k = 10, with recall@10 against exact search; ours once as a collection of this
size is (exact up to 200,000 rows), once with HNSW as the peers have it, and once so in process, without
gRPC. The vectors lie near a 32-dimensional subspace, as embeddings do.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from nearlight.client import Client, IndexConfig, Point, PointBlock
from nearlight.store import IndexSettings, Store, checked_block

F32 = npt.NDArray[np.float32]
Search = Callable[[F32], list[list[Any]]]
COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]
PEER = Path(__file__).with_name("ingest_peer.py")
PEERS = ("milvus-lite", "chroma")
OWN = "nearlight"
EMBEDDED = f"{OWN}, HNSW, in process"
K = 10
LATENT_DIM = 32
SECONDS = 4.0
INDEX_SECONDS = 300.0


def embeddings(rng: np.random.Generator, n: int, basis: F32) -> F32:
    """(n, D) unit vectors near the span of a basis (LATENT_DIM, D)."""
    made = rng.normal(size=(n, len(basis))) @ basis + 0.05 * rng.normal(size=(n, basis.shape[1]))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


@contextmanager
def running_server(data: Path) -> Iterator[str]:
    """A server process on a free port; gives its address."""
    words = ["--data", str(data), "--listen", "127.0.0.1:0", "--log-level", "warning", "--metrics", "off"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as child:
        try:
            match = re.search(r" on (\S+) ", child.stdout.readline() if child.stdout else "")
            if not match:
                raise SystemExit("the server did not start")
            yield match[1]
        finally:
            child.terminate()


def ours(
    vectors: F32,
    queries: F32 | None,
    durability: Any = "full",
    *,
    singly: bool = False,
    index: IndexConfig | None = None,
) -> dict[str, float]:
    """One round of ours on a new data folder."""
    with (
        tempfile.TemporaryDirectory() as data,
        running_server(Path(data)) as address,
        Client(address) as client,
    ):
        space = ("bench", vectors.shape[1])
        client.create_collection("bench", space=space, durability=durability)
        started = time.perf_counter()
        if singly:
            points = (Point(i, vector=row) for i, row in enumerate(vectors))
            acks = client.upsert_stream("bench", points, batch_size=256, in_flight=8)
        else:
            acks = client.upsert_blocks("bench", PointBlock(range(len(vectors)), vectors))
        for ack in acks:
            assert not ack.errors
        report = {"rows_per_s": len(vectors) / (time.perf_counter() - started)}
        if index is not None:
            client.configure_index("bench", index)
            wait_for_index(client, len(vectors))
        if queries is not None:
            report |= query_rates(over_grpc(client), vectors, queries)
        return report


def wait_for_index(client: Client, n_rows: int) -> None:
    """Waits until the index that was asked for holds the rows."""
    limit = time.monotonic() + INDEX_SECONDS
    while (state := client.collection("bench").index).generation == 0 or state.head_points:
        if time.monotonic() > limit:
            raise SystemExit(f"no index of {n_rows} rows within {INDEX_SECONDS:g} s: {state}")
        time.sleep(0.1)


def embedded(vectors: F32, queries: F32) -> dict[str, float]:
    """One round of our store in this process, as the peers run in theirs, with HNSW."""
    with tempfile.TemporaryDirectory() as data, Store.open(Path(data)) as store:
        dim = vectors.shape[1]
        collection = store.create_collection(
            "bench", space_id="bench", dim=dim, index=IndexSettings(kind="hnsw", exact_up_to=1)
        )
        started = time.perf_counter()
        for first in range(0, len(vectors), 1024):
            part = vectors[first : first + 1024]
            points, _, wrong = checked_block(range(first, first + len(part)), part, [])
            assert not wrong
            collection.upsert(points)
        report = {"rows_per_s": len(vectors) / (time.perf_counter() - started)}
        limit = time.monotonic() + INDEX_SECONDS
        while (state := collection.info.index).generation == 0 or state.head_points:
            if time.monotonic() > limit:
                raise SystemExit(f"no index within {INDEX_SECONDS:g} s: {state}")
            store.indexes.wake()
            time.sleep(0.1)

        def search(block: F32) -> list[list[Any]]:
            found = collection.search(block, limit=K, with_payload=False)
            return [[hit.id for hit in one] for one in found]

        return report | query_rates(search, vectors, queries)


def over_grpc(client: Client) -> Search:
    """Searches by Query, and by QueryBatch for more than one."""

    def search(block: F32) -> list[list[Any]]:
        if len(block) == 1:
            return [[hit.id for hit in client.query("bench", vector=block[0], limit=K, with_payload=False)]]
        asked: Any = [{"vector": row, "limit": K, "with_payload": False} for row in block]
        found: list[Any] = client.query_batch("bench", asked)
        return [[hit.id for hit in one] for one in found]

    return search


def query_rates(search: Search, vectors: F32, queries: F32) -> dict[str, float]:
    """Recall, and queries per second singly and in batches of 64."""
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    found = [search(query[np.newaxis])[0] for query in queries]
    right = [len(set(one) & set(row.tolist())) for one, row in zip(found, best, strict=True)]
    size = min(64, len(queries))
    return {
        "recall": sum(right) / (K * len(queries)),
        "single_per_s": rate(search, queries, 1),
        "batch_per_s": rate(search, queries, size),
    }


def rate(search: Callable[[F32], Any], queries: F32, size: int) -> float:
    """Queries per second in blocks of so many."""
    search(queries[:size])
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        at = n % (len(queries) - size + 1)
        search(queries[at : at + size])
        n += size
    return n / (time.perf_counter() - started)


def peer(python: str, name: str, vectors: F32, queries: F32 | None, ef: int) -> dict[str, Any]:
    """One round of a peer on a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", vectors)
        np.save(Path(folder) / "queries.npy", vectors[:1] if queries is None else queries)
        words = [python, str(PEER), name, folder, "ingest" if queries is None else "queries", str(ef)]
        environment = {**os.environ, "PYTHONPATH": "", "ANONYMIZED_TELEMETRY": "False"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    if not lines:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(lines[-1].removeprefix("REPORT "))
    return report


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every figure."""
    numbers = [key for key, value in rounds[0].items() if not isinstance(value, str)]
    words = {key: value for key, value in rounds[0].items() if isinstance(value, str)}
    return {**words, **{key: statistics.median(one[key] for one in rounds) for key in numbers}}


def print_table(sides: dict[str, dict[str, Any]]) -> None:
    """Prints one line for each side; behind a peer's rate how often each of ours holds it, in their order."""
    own = sides[OWN]
    own_sides = [sides[name] for name in (OWN, f"{OWN}, HNSW", EMBEDDED) if name in sides]
    columns = [key for key in own if key in ("rows_per_s", "single_per_s", "batch_per_s", "recall")]
    print(f"| side | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for name, side in sides.items():
        cells = []
        for key in columns:
            value = side.get(key)
            if value is None or key == "recall":
                cells.append("-" if value is None else f"{value:.3f}")
                continue
            over = f" ({' / '.join(f'{one[key] / value:.1f}' for one in own_sides)})" if name in PEERS else ""
            cells.append(f"{value:,.0f}{over}")
        print(f"| {name} {side.get('version', '')} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--peer-python", help="Python with pymilvus, milvus-lite and chromadb")
    words.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    words.add_argument("--rows", type=int, default=20_000)
    words.add_argument("--dim", type=int, default=512)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--queries", action="store_true", help="also measure queries")
    words.add_argument("--ef", type=int, default=64, help="width of the peers' HNSW search")
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    rng = np.random.default_rng(0)
    basis = np.asarray(rng.normal(size=(LATENT_DIM, asked.dim)), np.float32)
    vectors = embeddings(rng, asked.rows, basis)
    queries = embeddings(rng, 128, basis) if asked.queries else None
    peers = asked.peers if asked.peer_python else []
    own: dict[str, Callable[[], dict[str, float]]] = {OWN: lambda: ours(vectors, queries)}
    if queries is None:
        own[f"{OWN}, relaxed"] = lambda: ours(vectors, None, "relaxed")
        own[f"{OWN}, point by point"] = lambda: ours(vectors, None, singly=True)
    else:
        own[f"{OWN}, HNSW"] = lambda: ours(vectors, queries, index=IndexConfig(kind="hnsw"))
        own[EMBEDDED] = lambda: embedded(vectors, queries)
    rounds: dict[str, list[dict[str, Any]]] = {}
    for _ in range(asked.rounds):
        for name, measure in own.items():
            rounds.setdefault(name, []).append(measure())
        for name in peers:
            rounds.setdefault(name, []).append(peer(asked.peer_python, name, vectors, queries, asked.ef))
    sides = {name: medians(found) for name, found in rounds.items()}
    if asked.json:
        print(json.dumps(sides, indent=1))
        return
    python, cores = platform.python_version(), f"{os.cpu_count()} cores, {platform.machine()}"
    versions = f"Python {python}, faiss {faiss.__version__}"
    print(f"{asked.rows} x {asked.dim}, {asked.rounds} rounds; {cores}; {versions}\n")
    print_table(sides)


if __name__ == "__main__":
    main()
