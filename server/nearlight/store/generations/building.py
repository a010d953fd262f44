"""Building an index: what the process apart does, from the rows of the database to a file on the disk.

The rows pass by once, in short reads that keep no state of the database. Some of them are held out; when all
others are in the index, it is tuned with those, then they are added too. Memory is that of the index, of a
sample to train on and of the rows under way, never of all vectors.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import faiss
import numpy as np

from nearlight.store import rows
from nearlight.store.errors import IndexBuildFailed
from nearlight.store.generations.index_file import Header, write_index_file
from nearlight.store.generations.sealed import near
from nearlight.store.generations.settings import BuildPlan
from nearlight.store.generations.tuning import (
    GRAPH_EFFORTS,
    LIMITS,
    LIST_EFFORTS,
    TrueBest,
    Tuning,
    tune,
)
from nearlight.store.points import F32, I64
from nearlight.store.rows import Place
from nearlight.store.schema import open_reader

_BLOCK_ROWS = 8192
_HELD_OUT = 256
_LEAST_ROWS = 32
_MAX_TEXTS = 256


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What to build, and where.

    Attributes:
        database: the store's file.
        place: of the collection's rows.
        up_to_seq: the last row to take in.
        plan: of the index.
        file: a new file to write.
        texts: file of text queries (T, D) as numpy saves them, None where there are none.
        n_threads: for building.
        budget_bytes: memory that building may take.
    """

    database: str
    place: Place
    up_to_seq: int
    plan: BuildPlan
    file: str
    texts: str | None
    n_threads: int
    budget_bytes: int

    def to_json(self) -> str:
        """For the process that builds."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "BuildOrder":
        """Of what `to_json` gave."""
        stored = json.loads(text)
        stored["place"] = Place(**stored["place"])
        stored["plan"] = BuildPlan(**stored["plan"])
        return cls(**stored)


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: the file's SHA-256 in hexadecimal, rows, kind, and the recall@10 it reaches."""

    sha256: str
    n_rows: int
    kind: str
    recall: float


def build(order: BuildOrder) -> Built:
    """Build an index, tune it, and write it to the disk.

    Raises:
        IndexBuildFailed: there are too few rows.
        OSError: the disk is full, or failed.
    """
    faiss.omp_set_num_threads(order.n_threads)
    source = _Rows(order)
    texts = np.load(order.texts) if order.texts else np.empty((0, order.place.dim), np.float32)  # (T, D)
    index, kind, seqs, tuning = _built(order, source, order.plan.kind, texts)
    if kind == "hnsw" and order.plan.fallback_to_ivf and not tuning.reaches(order.plan.recall_target):
        other = _built(order, source, "ivf", texts)
        if _best_recall(other[3]) > _best_recall(tuning):
            index, kind, seqs, tuning = other
    place = order.place
    header = Header(
        place.collection_id, place.space_no, place.dim, order.up_to_seq, len(seqs), kind, tuning.to_json()
    )
    sha256 = write_index_file(Path(order.file), header, seqs, index)
    return Built(sha256.hex(), len(seqs), kind, _best_recall(tuning))


class _Rows:
    """The rows to index: some held out, some to train on, and all others block by block."""

    def __init__(self, order: BuildOrder) -> None:
        self._order = order
        self._connection = open_reader(Path(order.database))
        found = self._connection.execute(
            "SELECT seq FROM points WHERE collection_id = ? AND seq <= ? ORDER BY seq",
            (order.place.collection_id, order.up_to_seq),
        )
        seqs = np.fromiter((row[0] for row in found), np.int64)  # (N,)
        needed = order.plan.n_lists if order.plan.kind == "ivf" else _LEAST_ROWS
        if len(seqs) < needed:  # many were deleted since it was planned
            raise IndexBuildFailed(f"{len(seqs)} rows are left; the index needs {needed}")
        rng = np.random.default_rng(order.up_to_seq)
        held = rng.choice(seqs, min(_HELD_OUT, len(seqs) // 8), replace=False)
        self.held_seqs, self.held = self._read(np.sort(held))  # (H,), (H, D)
        self._training_seqs = np.sort(
            rng.choice(seqs, min(order.plan.n_training_rows, len(seqs)), replace=False)
        )

    def training(self) -> F32:
        """(T, D) rows to train on."""
        return self._read(self._training_seqs)[1]

    def others(self) -> Iterator[tuple[I64, F32]]:
        """All rows that are not held out, (N,) seqs and (N, D) vectors at a time."""
        order = self._order
        for seqs, vectors in rows.load_in_steps(self._connection, order.place, order.up_to_seq, _BLOCK_ROWS):
            kept = ~np.isin(seqs, self.held_seqs)
            yield seqs[kept], np.ascontiguousarray(vectors[kept])

    def _read(self, seqs: I64) -> tuple[I64, F32]:
        """Those of the rows that still exist."""
        found = rows.existing_vectors(self._connection, self._order.place, seqs)
        return found[0], np.ascontiguousarray(found[1])


def _built(
    order: BuildOrder, source: _Rows, kind: Literal["hnsw", "ivf"], texts: F32
) -> tuple[faiss.Index, str, I64, Tuning]:
    """An index of all rows, its kind, the seqs of its rows, and what was measured of it."""
    index = _empty_index(order.plan, kind)
    index.train(source.training())
    k = max(LIMITS)
    true_images, true_texts = TrueBest(source.held, k), TrueBest(texts[:_MAX_TEXTS], k)
    seen: list[I64] = []
    for seqs, vectors in source.others():
        index.add(vectors)
        true_images.see(seqs, vectors)
        true_texts.see(seqs, vectors)
        seen.append(seqs)
    seqs = np.concatenate([np.empty(0, np.int64), *seen])  # (N,)

    def propose(queries: F32, n_wanted: int, effort: int) -> I64:
        found = near(index, kind, queries, n_wanted, effort)
        return np.where(found < 0, -1, seqs[found])

    efforts = GRAPH_EFFORTS if kind == "hnsw" else [e for e in LIST_EFFORTS if e <= order.plan.n_lists]
    queries_of_texts = (texts[:_MAX_TEXTS], true_texts) if len(texts) else None
    tuning = tune(efforts, propose, (source.held, true_images), queries_of_texts, order.plan.recall_target)
    index.add(source.held)
    return index, kind, np.concatenate([seqs, source.held_seqs]), tuning


def _empty_index(plan: BuildPlan, kind: Literal["hnsw", "ivf"]) -> faiss.Index:
    codes, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        graph = faiss.IndexHNSWSQ(plan.dim, codes, plan.hnsw_m, metric)  # type: ignore[arg-type]
        graph.hnsw.efConstruction = plan.hnsw_ef_construction  # of an index that nobody searches yet
        return graph
    lists = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(plan.dim), plan.dim, plan.n_lists, codes, metric)
    lists.cp.spherical = True
    lists.cp.seed = 1
    return lists


def _best_recall(tuning: Tuning) -> float:
    return max(point.recall for point in tuning.points if point.limit == LIMITS[0])
