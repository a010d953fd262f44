"""Random operations, with indexes that are built, outgrown and opened again, equal a naive model."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import Collection, IndexSettings, Point, PointId, SearchParams, Store
from nearlight.store.durability import Durability
from nearlight.store.filters.conditions import Field, Filter, Range
from nearlight.store.generations import keeping, settings
from nearlight.store.generations.building import build
from nearlight.store.upserts import ANY
from tests.store.generations.conftest import kept
from tests.store.test_collection import Model, check_all

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

DIM = 6
N_IDS = 500
WIDE = SearchParams(hnsw_ef=4096, ivf_nprobe=4096)


class Columns(Model):
    """The same model with its points as rows of arrays, one for each id: all scores are one product."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = np.zeros((N_IDS, DIM))
        self.numbers = np.zeros(N_IDS, np.int64)
        self.seqs = np.zeros(N_IDS, np.int64)  # 0: there is no such point

    def upsert(self, points: list[Point]) -> None:
        super().upsert(points)
        for point in points:
            _, vector, payload, seq = self.points[self.key(point.id)]
            row = int(point.id)
            self.vectors[row], self.numbers[row], self.seqs[row] = vector, payload["n"], seq

    def delete(self, ids: list[PointId]) -> int:
        self.seqs[[int(i) for i in ids]] = 0
        return super().delete(ids)

    def rows_of(self, seqs: I64) -> I64:
        """The rows of these seqs (K,), which are the points' ids; each is of a point there is."""
        order = np.argsort(self.seqs)
        rows: I64 = order[np.searchsorted(self.seqs, seqs, sorter=order).clip(max=N_IDS - 1)]
        assert (self.seqs[rows] == seqs).all()
        return rows

    def scores_of(self, seqs: I64, query: F32, below: int | None) -> F64:
        """The scores (K,) of these rows, each of which passes."""
        rows = self.rows_of(seqs)
        assert below is None or (self.numbers[rows] < below).all()
        scores: F64 = self.vectors[rows] @ query
        return scores

    def nearest(self, query: F32, limit: int, offset: int, below: int | None) -> tuple[I64, F64]:
        """The seqs (K,) and scores (K,) of the best rows, best first; equals by seq."""
        rows = np.flatnonzero((self.seqs > 0) & (self.numbers < (N_IDS if below is None else below)))
        scores = self.vectors[rows] @ query
        best = np.lexsort((self.seqs[rows], -scores))[offset : offset + limit]
        return self.seqs[rows[best]], scores[best]


class Run:
    """A store beside its model.

    Args:
        folder: of the store.
        seed: of the operations.
        kind: of index.
        relaxed: share of the writes that do not wait for the disk.
    """

    def __init__(self, folder: Path, seed: int, kind: str, relaxed: float = 0.0) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.relaxed = relaxed
        self.model = Columns()
        self.settings = IndexSettings(kind=kind)  # type: ignore[arg-type]
        self.store = self.opened()
        self.collection = self.store.create_collection("c", space_id="s", dim=DIM, index=self.settings)
        self.kinds: set[str] = set()
        self.generations: set[int] = set()
        self.n_near_ties = 0

    def opened(self) -> Store:
        store = Store.open(self.folder, n_threads=2)
        store.indexes.n_threads = 1
        return store

    def ids(self, most: int) -> list[PointId]:
        return [int(i) for i in self.rng.integers(0, N_IDS, self.rng.integers(0, most + 1))]

    def durability(self) -> Durability:
        return "relaxed" if self.relaxed and self.rng.random() < self.relaxed else "full"

    def upsert(self) -> None:
        points = [
            Point(i, self.rng.standard_normal(DIM), {"n": int(self.rng.integers(100))}) for i in self.ids(20)
        ]
        self.model.upsert(points)
        # Of no points it is the collection's last seq.
        assert self.collection.upsert_on(ANY, points, durability=self.durability()).seq == self.model.seq

    def delete(self) -> None:
        ids = self.ids(12)
        assert self.collection.delete(ids, durability=self.durability()) == self.model.delete(ids)

    def search(self) -> None:
        queries = self.rng.standard_normal((int(self.rng.integers(1, 4)), DIM))
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        limit, offset = int(self.rng.integers(1, 30)), int(self.rng.integers(0, 5))
        below = int(self.rng.integers(1, 101)) if self.rng.random() < 0.4 else None
        filter = None if below is None else Filter(must=(Field(("n",), Range(lt=below)),))
        answer = self.collection.answer(queries, filter, limit=limit, offset=offset, params=WIDE)
        self.kinds.add(answer.how.index_kind)
        self.generations.add(answer.how.generation)
        for hits, query in zip(answer.hits, queries, strict=True):
            seqs, scores = self.model.nearest(query, limit, offset, below)
            found = np.array([hit.seq for hit in hits], np.int64)
            if found.tolist() != seqs.tolist():  # which only scores that float32 cannot tell apart excuse
                self.n_near_ties += 1
                assert len(set(found.tolist())) == len(found) == len(seqs)
                own = self.model.scores_of(found, query, below)
                assert np.allclose(own, scores, rtol=0, atol=1e-6)
                seqs, scores = found, own
            served = [(-hit.score, hit.seq) for hit in hits]
            assert served == sorted(served)
            assert np.allclose([hit.score for hit in hits], scores, rtol=0, atol=1e-6)
            assert [hit.id for hit in hits] == self.model.rows_of(seqs).tolist()

    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()
        self.collection = self.store.collection("c")
        check_all(self.collection, self.model)

    def run(self, n_operations: int) -> None:
        operations = [
            self.upsert,
            self.upsert,
            self.upsert,
            self.delete,
            self.delete,
            self.search,
            self.search,
        ]
        for number in range(n_operations):
            if self.rng.random() < 0.004:
                self.reopen()
            if number % 250 == 100:
                kept(self.store)
            operations[self.rng.integers(len(operations))]()
        check_all(self.collection, self.model)
        assert self.collection.verify().problems == []
        self.store.close()


@pytest.fixture(autouse=True)
def built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and from few rows on, so that many indexes are built."""
    monkeypatch.setattr(keeping, "run_build", lambda order, stop: build(order))
    monkeypatch.setattr(keeping, "HEAD_ROWS", 60)
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(settings, "MIN_ROWS", 40)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_random_operations_with_indexes_equal_a_naive_model(tmp_path: Path, kind: str) -> None:
    run = Run(tmp_path, 1, kind)
    run.run(600)
    assert run.kinds == {"flat", kind}
    assert len(run.generations) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_200_000_operations_equal_a_naive_model(tmp_path: Path) -> None:
    run = Run(tmp_path, 2, "hnsw", relaxed=0.9)  # what the disk holds after a crash is tested elsewhere
    run.run(200_000)
    assert len(run.generations) >= 100
    assert run.n_near_ties < 50


def test_views_of_searches_under_way_outlive_what_replaces_them(tmp_path: Path) -> None:
    """A generation that a search has taken stays whole when the next takes its place."""
    with Store.open(tmp_path, n_threads=1) as store:
        collection: Collection = store.create_collection(
            "c", space_id="s", dim=DIM, index=IndexSettings(kind="hnsw")
        )
        vectors = np.random.default_rng(1).standard_normal((600, DIM))
        collection.upsert([Point(i, vectors[i], {}) for i in range(600)])
        kept(store)
        old = collection._head.view
        sealed = old.sealed
        assert sealed is not None
        rows = np.arange(600).reshape(1, -1)
        query = np.ones((1, DIM), np.float32) / np.float32(np.sqrt(DIM))
        before = sealed.scores(query, rows)
        collection.delete(list(range(0, 600, 2)))
        collection.upsert([Point(f"x{i}", vectors[i], {}) for i in range(300)])
        kept(store)
        assert collection._head.view.sealed is not sealed
        assert sealed.scores(query, rows).tobytes() == before.tobytes()
