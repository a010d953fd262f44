import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import Point, Store, StoreCorrupt, StoreTooNew
from nearlight.store.migrating import SCHEMA_VERSION
from nearlight.store.schema import DATABASE_FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store of 200 points, dim 64."""
    with Store.open(tmp_path) as store:
        rows = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)
        store.create_collection("a", space_id="s", dim=64).upsert(
            [Point(i, row, {"text": f"payload-{i:04d}"}) for i, row in enumerate(rows)]
        )
    return tmp_path


def test_a_closed_store_is_one_database_file(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["store.lock", "store.sqlite3"]


def test_the_database_is_durable_and_in_wal_mode(folder: Path) -> None:
    with Store.open(folder) as store:
        connection = store._writer._transaction.connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_vector_is_readable_without_our_code(folder: Path) -> None:
    connection = sqlite3.connect(folder / DATABASE_FILE)
    (blob,) = connection.execute("SELECT vector FROM vectors ORDER BY seq LIMIT 1").fetchone()
    connection.close()
    row = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)[0]
    assert np.allclose(np.frombuffer(blob, "<f4"), row / np.linalg.norm(row))


def test_a_newer_store_is_refused(folder: Path) -> None:
    connection = sqlite3.connect(folder / DATABASE_FILE)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreTooNew, match="schema version 3; this Nearlight reads up to 2"):
        Store.open(folder)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / DATABASE_FILE
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="of another program"):
        Store.open(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, not at all " * 1000, b"x", bytes(100_000)])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"store\.sqlite3 is not a database"):
        Store.open(tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_truncated_database_is_refused(folder: Path, share: float) -> None:
    path = folder / DATABASE_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreCorrupt):
        Store.open(folder)


def test_a_database_without_its_last_byte_is_refused(folder: Path) -> None:
    path = folder / DATABASE_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match="is cut short: "):
        Store.open(folder)


def test_a_flipped_bit_of_a_vector_is_noticed_at_open(folder: Path) -> None:
    path = folder / DATABASE_FILE
    connection = sqlite3.connect(path)
    (blob,) = connection.execute("SELECT vector FROM vectors WHERE seq = 77").fetchone()
    connection.close()
    flip(path, blob[100:], 0)
    with pytest.raises(StoreCorrupt, match="the vector of seq 77 is not what was written"):
        Store.open(folder)


def test_a_flipped_bit_of_a_payload_is_never_served(folder: Path) -> None:
    flip(folder / DATABASE_FILE, b"payload-0033", 9)
    with Store.open(folder) as store:
        collection = store.collection("a")
        assert collection.get([32])[0].payload == {"text": "payload-0032"}
        with pytest.raises(StoreCorrupt, match="the point of seq 34 is not what was written"):
            collection.get([33])
        with pytest.raises(StoreCorrupt, match="the point of seq 34"):
            collection.scroll(limit=1000)
        with pytest.raises(StoreCorrupt, match="the point of seq 34"):
            collection.search(np.ones((1, 64)), limit=200)


def test_a_missing_vector_is_noticed_at_open(folder: Path) -> None:
    connection = sqlite3.connect(folder / DATABASE_FILE)
    connection.execute("DELETE FROM vectors WHERE seq = 5")
    connection.commit()
    connection.close()
    with pytest.raises(StoreCorrupt, match="the vector of seq 5 is missing"):
        Store.open(folder)


def test_a_refused_store_can_be_opened_once_it_is_mended(folder: Path) -> None:
    path = folder / DATABASE_FILE
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreCorrupt):
        Store.open(folder)
    path.write_bytes(content)
    with Store.open(folder) as store:
        assert store.collection("a").count() == 200


def flip(path: Path, place: bytes, offset: int) -> None:
    """Flip one bit where these bytes lie in the file."""
    content = bytearray(path.read_bytes())
    at = content.index(place) + offset
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_reader_that_outlives_its_server_does_not_make_the_file_look_short(folder: Path) -> None:
    """A build whose server was killed dies a moment later; until then the log cannot all be moved."""
    reader = sqlite3.connect(folder / DATABASE_FILE)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM points").fetchone()
    rows = np.random.default_rng(1).standard_normal((2000, 64)).astype(np.float32)
    with Store.open(folder) as store:
        store.collection("a").upsert([Point(f"new {i}", row, {}) for i, row in enumerate(rows)])
    try:
        with Store.open(folder) as store:
            assert store.collection("a").count() == 2200
    finally:
        reader.close()
    with Store.open(folder) as store:
        assert store.collection("a").verify(50).problems == []
