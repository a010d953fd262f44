"""Collections that are large enough for an index, where an index is worth little."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import Collection, IndexSettings, Point, Store
from nearlight.store.generations import keeping, search

F32 = npt.NDArray[np.float32]
DIM = 16
GRAPH = IndexSettings(kind="hnsw")
BUILD_SECONDS = 60.0


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches with some hundred points."""
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(keeping, "HEAD_ROWS", 200)
    monkeypatch.setattr(keeping, "MIN_DEAD", 50)
    monkeypatch.setattr(search, "FEW_ROWS", 20)


def clustered(n: int, seed: int, dim: int = DIM) -> F32:
    """(n, dim) vectors around 20 centres, which are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((20, dim))
    rng = np.random.default_rng([1, seed])
    vectors = centres[rng.integers(0, 20, n)] + 0.6 * rng.standard_normal((n, dim))
    unit: F32 = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


Fill = Callable[..., Collection]


@pytest.fixture
def fill(store: Store) -> Fill:
    """Makes a collection of `n` points in `store` and waits for its index."""

    def make(n: int = 600, settings: IndexSettings = GRAPH, name: str = "c", dim: int = DIM) -> Collection:
        collection = store.create_collection(name, space_id="s", dim=dim, index=settings)
        vectors = clustered(n, 7, dim)
        collection.upsert([Point(i, vectors[i], {"n": i, "even": i % 2 == 0}) for i in range(n)])
        kept(store)
        return collection

    return make


def kept(store: Store) -> None:
    """Waits until no index is due."""
    assert store.indexes.wait_until_kept(BUILD_SECONDS), [one.work.problem for one in store._handles()]


def index_files(folder: Path) -> list[Path]:
    """The index files of a data folder."""
    return sorted((folder / "indexes").glob("generation-*.index"))
