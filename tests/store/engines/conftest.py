"""The three stores that must answer alike."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nearlight.store import Store, VectorStore
from nearlight.store.engines.store import EngineStore

ENGINES = ["embedded", "milvus", "qdrant"]
LONG_S = 3600.0  # no look at the engine while a test runs, unless it asks


def milvus(folder: Path) -> EngineStore:
    pytest.importorskip("pymilvus", reason="pymilvus is not installed: pip install nearlight[milvus]")
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed: pip install nearlight[milvus]")
    from nearlight.store.engines.milvus import Milvus

    engine = Milvus(str(folder / "milvus.db"), index_type="FLAT")
    return EngineStore(engine, Store.open(folder / "data"), refresh_seconds=LONG_S)


def qdrant(folder: Path) -> EngineStore:
    pytest.importorskip(
        "qdrant_client", reason="qdrant-client is not installed: pip install nearlight[qdrant]"
    )
    from nearlight.store.engines.qdrant import Qdrant

    engine = Qdrant(":memory:")
    return EngineStore(engine, Store.open(folder / "data"), refresh_seconds=LONG_S)


OPEN: dict[str, Callable[[Path], VectorStore]] = {
    "embedded": lambda folder: Store.open(folder / "data", n_threads=2),
    "milvus": milvus,
    "qdrant": qdrant,
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def store(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """One store for a file of tests: an engine takes a second to open."""
    opened = OPEN[engine](tmp_path_factory.mktemp(engine))
    yield opened
    opened.close()
