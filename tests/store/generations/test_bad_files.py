"""Whatever an index file has become: answers are right, the file is put aside, another is built."""

import hashlib
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import Collection, IndexSettings, Point, SearchParams, Store
from nearlight.store.generations import keeping
from nearlight.store.generations.building import build
from nearlight.store.generations.index_file import _LEAD, MAGIC, VERSION
from tests.store.generations.conftest import DIM, GRAPH, clustered, index_files, kept

N = 400
VECTORS = clustered(N, 3)


def exact_ids(queries: np.ndarray) -> list[list[int]]:
    return [np.lexsort((np.arange(N), -(VECTORS @ query)))[:10].tolist() for query in queries]


def check_answers(collection: Collection) -> None:
    queries = clustered(8, 4)
    found = collection.answer(queries, limit=10, params=SearchParams(hnsw_ef=2000))
    assert [[hit.id for hit in hits] for hits in found.hits] == exact_ids(queries)
    assert collection.verify().problems == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed data folder with an indexed collection, and one more that is not."""
    folder = tmp_path_factory.mktemp("built") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "run_build", lambda order, stop: build(order))
        with Store.open(folder, n_threads=1) as store:
            for name in ("c", "other"):
                collection = store.create_collection(name, space_id="s", dim=DIM, index=GRAPH)
                vectors = VECTORS if name == "c" else clustered(N, 5)
                collection.upsert([Point(i, vectors[i], {}) for i in range(N)])
            kept(store)
    return folder


def file_of(folder: Path, name: str) -> Path:
    statement = "SELECT file_name FROM index_files JOIN collections USING (collection_id) WHERE name = ?"
    with sqlite3.connect(folder / "store.sqlite3") as connection:
        (found,) = connection.execute(statement, (name,)).fetchone()
    connection.close()
    return folder / "indexes" / str(found)


def truncated(path: Path, folder: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path, folder: Path) -> None:
    os.truncate(path, 0)


def missing(path: Path, folder: Path) -> None:
    path.unlink()


def flipped(at: float) -> Callable[[Path, Path], None]:
    def damage(path: Path, folder: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def foreign(path: Path, folder: Path) -> None:
    shutil.copy(file_of(folder, "other"), path)


def zeroed(path: Path, folder: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def a_folder(path: Path, folder: Path) -> None:
    path.unlink()
    path.mkdir()


def named_as_written(path: Path, folder: Path, content: bytes) -> None:
    """Writes a file that the database takes for its own."""
    path.write_bytes(content)
    with sqlite3.connect(folder / "store.sqlite3") as connection:
        digest = hashlib.sha256(content).digest()
        connection.execute("UPDATE index_files SET sha256 = ? WHERE file_name = ?", (digest, path.name))
    connection.close()


def foreign_but_named(path: Path, folder: Path) -> None:
    named_as_written(path, folder, file_of(folder, "other").read_bytes())


def newer(path: Path, folder: Path) -> None:
    named_as_written(path, folder, _LEAD.pack(MAGIC, VERSION + 1, 2) + b"{}")


def another_programs(path: Path, folder: Path) -> None:
    named_as_written(path, folder, b"IHNsomething else" * 10)


def without_a_header(path: Path, folder: Path) -> None:
    named_as_written(path, folder, _LEAD.pack(MAGIC, VERSION, 9) + b"{not json")


def with_a_huge_header(path: Path, folder: Path) -> None:
    named_as_written(path, folder, _LEAD.pack(MAGIC, VERSION, 2**31) + b"{}")


def of_a_newer_faiss(path: Path, folder: Path) -> None:
    content = bytearray(path.read_bytes())
    (n_bytes,) = struct.unpack_from("<I", content, 12)
    n_rows = json.loads(content[16 : 16 + n_bytes])["n_rows"]
    at = 16 + n_bytes + 8 * n_rows
    content[at : at + 4] = b"IxZZ"  # a kind of index that this FAISS does not know
    named_as_written(path, folder, bytes(content))


DAMAGES = [
    truncated,
    emptied,
    missing,
    flipped(0.0),
    flipped(0.02),
    flipped(0.5),
    flipped(1.0),
    foreign,
    zeroed,
    a_folder,
    foreign_but_named,
    newer,
    another_programs,
    without_a_header,
    with_a_huge_header,
    of_a_newer_faiss,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: getattr(one, "__qualname__", "").split(".")[0])
def test_a_bad_file_is_put_aside_and_another_is_built(
    built: Path, tmp_path: Path, damage: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(built, folder)
    path = file_of(folder, "c")
    damage(path, folder)
    with monkeypatch.context() as patch:
        patch.setattr(
            keeping.IndexKeeper, "_build", lambda *_: pytest.fail("not now")
        )  # in the keeper's thread
        patch.setattr(keeping.IndexKeeper, "_due", lambda *_: False)
        with Store.open(folder, n_threads=1) as store:
            collection = store.collection("c")
            status = collection.info.index
            assert (status.state, status.kind, status.head_points) == ("degraded", "exact", N)
            assert status.problem
            check_answers(collection)
            assert store.collection("other").info.index.kind == "hnsw"
            assert not path.exists()
            aside = list((folder / "indexes" / "quarantine").glob("*"))
            assert len(aside) == (damage is not missing)
    monkeypatch.setattr(keeping, "run_build", lambda order, stop: build(order))
    with Store.open(folder, n_threads=1) as store:
        kept(store)
        collection = store.collection("c")
        assert (collection.info.index.state, collection.info.index.kind) == ("ready", "hnsw")
        check_answers(collection)
        assert len(index_files(folder)) == 2


def test_what_nobody_names_is_swept_away(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(built, folder)
    for name in ("building-1.tmp", "building-1.npy", "generation-99.index"):
        (folder / "indexes" / name).write_bytes(b"left behind")
    with Store.open(folder, n_threads=1) as store:
        assert len(list((folder / "indexes").iterdir())) == 2
        assert store.collection("c").info.index.kind == "hnsw"


def test_few_bad_files_are_kept(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearlight.store.generations.publishing import quarantine

    for i in range(9):
        path = tmp_path / f"generation-{i}.index"
        path.write_bytes(b"bad")
        quarantine(path)
    assert len(list((tmp_path / "quarantine").iterdir())) == 4


def test_an_index_of_other_rows_is_not_published(built: Path, tmp_path: Path) -> None:
    """A builder that loses rows is found out before anybody searches what it built."""
    from nearlight.store.errors import IndexFileBad
    from nearlight.store.generations.publishing import read_checked

    folder = tmp_path / "data"
    shutil.copytree(built, folder)
    with Store.open(folder, n_threads=1) as store:
        path = file_of(folder, "other")
        sha256 = hashlib.sha256(path.read_bytes()).digest()
        with pytest.raises(IndexFileBad, match="lacks rows of the collection"):
            read_checked(path, sha256, 7, store.collection("c")._head.view)


def test_vectors_that_do_not_find_themselves_condemn_an_index(built: Path, tmp_path: Path) -> None:
    from nearlight.store.errors import IndexFileBad
    from nearlight.store.generations.sealed import check_finds

    folder = tmp_path / "data"
    shutil.copytree(built, folder)
    with Store.open(folder, n_threads=1) as store:
        sealed = store.collection("c")._head.view.sealed
        assert sealed is not None
        rows = sealed.generation.rows_of(np.arange(1, 17))
        check_finds(sealed, rows, VECTORS[:16])
        with pytest.raises(IndexFileBad, match="of 16 stored vectors find themselves"):
            check_finds(sealed, rows, -VECTORS[:16])


def test_settings_survive_a_bad_file(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(built, folder)
    truncated(file_of(folder, "c"), folder)
    with Store.open(folder, n_threads=1) as store:
        assert store.collection("c").info.index_settings == IndexSettings(kind="hnsw")
