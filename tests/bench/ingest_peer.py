"""One peer of bench_ingest.py, in the peer's own Python: what it needs is there, and nothing of ours.

    PYTHON tests/bench/ingest_peer.py milvus-lite|chroma FOLDER

FOLDER holds vectors.npy (N, D) and queries.npy (Q, D), float32 of unit length. Prints one line of JSON. Rows
count as ingested when the peer has said that they are durable.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

BATCH_ROWS = 1000
K = 10
M, EF_CONSTRUCTION = 16, 200
SINGLE_SECONDS, BATCH_SECONDS = 4.0, 4.0


def milvus_lite(folder: Path, vectors: Any, ef: int) -> tuple[float, Callable[[Any], list[list[int]]], str]:
    """Seconds of the ingest, and what searches a block of queries."""
    pymilvus, milvus_lite = import_module("pymilvus"), import_module("milvus_lite")
    kinds, client = pymilvus.DataType, pymilvus.MilvusClient(str(folder / "milvus.db"))
    schema = client.create_schema()
    schema.add_field("id", kinds.INT64, is_primary=True)
    schema.add_field("vector", kinds.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection("bench", schema=schema)
    started = time.perf_counter()
    for at in range(0, len(vectors), BATCH_ROWS):
        block = vectors[at : at + BATCH_ROWS]
        client.insert("bench", [{"id": at + i, "vector": row} for i, row in enumerate(block)])
    client.flush("bench")
    seconds = time.perf_counter() - started
    index = client.prepare_index_params()
    params = {"M": M, "efConstruction": EF_CONSTRUCTION}
    index.add_index("vector", index_type="HNSW", metric_type="IP", params=params)
    client.create_index("bench", index)
    client.load_collection("bench")

    def search(queries: Any) -> list[list[int]]:
        wanted = {"metric_type": "IP", "params": {"ef": ef}}
        found = client.search("bench", data=list(queries), limit=K, search_params=wanted, anns_field="vector")
        return [[hit["id"] for hit in hits] for hits in found]

    return seconds, search, str(milvus_lite.__version__)


def chroma(folder: Path, vectors: Any, ef: int) -> tuple[float, Callable[[Any], list[list[int]]], str]:
    """Seconds of the ingest, and what searches a block of queries."""
    chromadb = import_module("chromadb")
    client = chromadb.PersistentClient(str(folder / "chroma"))
    settings = {"space": "ip", "ef_construction": EF_CONSTRUCTION, "ef_search": ef, "max_neighbors": M}
    collection = client.create_collection("bench", configuration={"hnsw": settings}, embedding_function=None)
    started = time.perf_counter()
    for at in range(0, len(vectors), BATCH_ROWS):
        block = vectors[at : at + BATCH_ROWS]
        collection.add(ids=[str(at + i) for i in range(len(block))], embeddings=block)
    seconds = time.perf_counter() - started

    def search(queries: Any) -> list[list[int]]:
        found = collection.query(query_embeddings=queries, n_results=K, include=[])
        return [[int(one) for one in ids] for ids in found["ids"]]

    return seconds, search, str(chromadb.__version__)


def rate(search: Callable[[Any], Any], queries: Any, size: int, seconds: float) -> float:
    """Queries per second in blocks of so many."""
    search(queries[:size])
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        at = n % (len(queries) - size + 1)
        search(queries[at : at + size])
        n += size
    return n / (time.perf_counter() - started)


def main() -> None:
    """Measure one peer."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    with_queries, ef = sys.argv[3] == "queries", int(sys.argv[4])
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    open_peer = {"milvus-lite": milvus_lite, "chroma": chroma}[name]
    seconds, search, version = open_peer(folder, vectors, ef)
    report: dict[str, Any] = {"version": version, "rows_per_s": len(vectors) / seconds}
    if with_queries:
        best = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
        found = [search(query[np.newaxis])[0] for query in queries]
        right = [len(set(one) & set(row.tolist())) for one, row in zip(found, best, strict=True)]
        report["recall"] = sum(right) / (K * len(queries))
        report["single_per_s"] = rate(search, queries, 1, SINGLE_SECONDS)
        report["batch_per_s"] = rate(search, queries, min(64, len(queries)), BATCH_SECONDS)
    print("REPORT " + json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
