import json
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import (
    Collection,
    CollectionExists,
    CollectionNotFound,
    Filter,
    IndexSettings,
    InvalidCollection,
    Point,
    SnapshotDamaged,
    SnapshotNotFound,
    Store,
    StoreCorrupt,
    StoreError,
)
from nearlight.store.filters.conditions import Field, Keyword
from nearlight.store.restoring import Restoration

IDS: list[str | int] = [0, 2**64 - 1, "7", 7, "é", "a\x00b"]


def filled(store: Store, name: str = "c") -> Collection:
    collection = store.create_collection(name, space_id="s", dim=16, metadata={"owner": "é"})
    vectors = np.random.default_rng(1).standard_normal((2200, 16))
    points = [Point(IDS[i] if i < 6 else i * 10, vectors[i], {"n": i, "t": f"t{i % 9}"}) for i in range(2200)]
    collection.upsert(points)
    collection.create_payload_index(("t",), "keyword")
    collection.delete([60, 70])
    collection.set_payload([80], {"more": [1, None, {"deep": "x"}]})
    return collection


def contents(collection: Collection) -> dict[Any, Any]:
    records, after = collection.scroll(limit=10_000, with_vectors=True)
    assert after is None
    return {
        record.id: (record.payload, record.vector.tobytes())
        for record in records
        if record.vector is not None
    }


def folder_of(store: Store) -> Path:
    return store.snapshots._folder


def test_what_is_restored_is_what_was_there(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a", n_threads=1) as store:
        collection = filled(store)
        then = contents(collection)
        last_seq = collection.info.last_seq
        made = store.snapshots.create("c")
        assert (made.collection, made.n_points, made.last_seq) == ("c", 2198, last_seq)
        collection.delete(Filter())
        store.snapshots.restore(made.name, "again")
        again = store.collection("again")
        assert contents(again) == then
        assert again.verify().problems == []
        assert again.info.metadata == {"owner": "é"}
        assert [(index.path, index.kind) for index in again.info.payload_indexes] == [(("t",), "keyword")]
        t3 = Filter(must=(Field(("t",), Keyword("t3")),))
        assert again.count(t3) == sum(payload["t"] == "t3" for payload, _ in then.values())
        again.upsert([Point("new", np.ones(16), {})])
        shutil.copytree(folder_of(store), tmp_path / "b" / "snapshots")
    with Store.open(tmp_path / "a", n_threads=1) as store:
        assert store.collection("again").count() == 2199
        assert store.collection("again").verify().problems == []
    with Store.open(tmp_path / "b", n_threads=1) as other:  # another store, from the copied files
        assert [one.name for one in other.snapshots.list()] == [made.name]
        assert contents(other.snapshots.restore(made.name, "c")) == then


def test_images_and_hashes_come_along(store: Store) -> None:
    collection = store.create_collection("c", space_id="s", dim=2)
    hashes = (None, 2**64 - 5, 7)
    collection.upsert([Point(i, [1, i], {}, perceptual_hash=one) for i, one in enumerate(hashes)])

    def add(transaction: Any) -> None:
        transaction.connection.execute("INSERT INTO images (seq, image) VALUES (2, x'ff')")
        transaction.connection.execute(
            "UPDATE points SET content_sha256 = x'aa', created_unix_ms = 3 WHERE seq = 2"
        )

    store._writer.run(add, lambda _: None)
    restored = store.snapshots.restore(store.snapshots.create("c").name, "d")
    [record] = restored.get([1])
    with store._readers.snapshot() as connection:
        row = connection.execute(
            "SELECT content_sha256, perceptual_hash, created_unix_ms FROM points WHERE seq = ?", (record.seq,)
        ).fetchone()
        assert row == (b"\xaa", -5, 3)
        assert connection.execute("SELECT image FROM images WHERE seq = ?", (record.seq,)).fetchall() == [
            (b"\xff",)
        ]


def test_settings_come_along(store: Store) -> None:
    store.create_collection("c", space_id="s", dim=2, index=IndexSettings(kind="exact"), durability="relaxed")
    restored = store.snapshots.restore(store.snapshots.create("c").name, "d")
    assert restored.info.index_settings == IndexSettings(kind="exact")
    assert restored.info.durability == "relaxed"


def test_snapshots_are_listed_newest_first_and_removed(store: Store) -> None:
    store.create_collection("a", space_id="s", dim=2)
    assert store.snapshots.list() == []
    names = [store.snapshots.create("a").name for _ in range(3)]
    assert sorted(one.name for one in store.snapshots.list()) == sorted(names)
    (folder_of(store) / "other.json").write_text("{}")
    (folder_of(store) / "killed.tmp").write_text("half")
    store.snapshots.delete(names[0])
    assert sorted(one.name for one in store.snapshots.list()) == sorted(names[1:])
    assert store.snapshots.restore(names[1], "empty").count() == 0
    store.snapshots.create("a")
    assert not list(folder_of(store).glob("*.tmp"))
    for name in (names[0], "none"):
        with pytest.raises(SnapshotNotFound):
            store.snapshots.delete(name)
    for name in ("../store", "..", "a/b", ""):
        for call in (store.snapshots.delete, lambda name: store.snapshots.restore(name, "x")):
            with pytest.raises(InvalidCollection, match="snapshot is"):
                call(name)
    with pytest.raises(CollectionNotFound):
        store.snapshots.create("none")


def test_a_snapshot_under_writes_is_one_committed_state(store: Store) -> None:
    """Every write moves all points to the next value, so a state has one value only."""
    collection = store.create_collection("c", space_id="s", dim=4)
    collection.upsert([Point(i, [1, i, 0, 0], {"v": 0}) for i in range(300)])
    stop = threading.Event()

    def write() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            collection.upsert([Point(i, [1, i, value, 0], {"v": value}) for i in range(300)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [store.snapshots.create("c") for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    for i, one in enumerate(made):
        restored = store.snapshots.restore(one.name, f"r{i}")
        assert restored.count() == one.n_points == 300
        records, _ = restored.scroll(limit=300)
        assert len({record.payload["v"] for record in records}) == 1


@pytest.mark.parametrize("how", ["flip", "header", "cut", "missing", "foreign"])
def test_a_damaged_file_is_refused_and_nothing_is_made(store: Store, how: str) -> None:
    filled(store)
    name = store.snapshots.create("c").name
    file = folder_of(store) / f"{name}.sqlite3"
    content = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    else:
        content[60 if how == "header" else len(content) // 2] ^= 1  # 60: a number that nobody reads
        file.write_bytes(
            {
                "flip": bytes(content),
                "header": bytes(content),
                "cut": bytes(content[:-1]),
                "foreign": b"x" * 99,
            }[how]
        )
    with pytest.raises(SnapshotDamaged, match=name):
        store.snapshots.restore(name, "x")
    assert [info.name for info in store.collections()] == ["c"]


def test_rows_are_checked_even_where_the_checksum_of_the_file_fits(store: Store) -> None:
    """A file that was changed on purpose, with its SHA-256 made anew: no row enters unchecked."""
    from nearlight.store.snapshots import _sha256_of

    filled(store)
    name = store.snapshots.create("c").name
    file, described = folder_of(store) / f"{name}.sqlite3", folder_of(store) / f"{name}.json"
    whole, description = file.read_bytes(), json.loads(described.read_text())
    for statement in (
        "UPDATE points SET payload = 'nonsense' WHERE seq = 2150",
        "UPDATE points SET vector = zeroblob(64) WHERE seq = 2150",
        "UPDATE points SET vector = zeroblob(64), vector_checksum = 0 WHERE seq = 2150",
        "UPDATE points SET vector = x'00' WHERE seq = 2150",
        "UPDATE points SET id = x'00' WHERE seq = 2150",
        "DROP TABLE points",
    ):
        file.write_bytes(whole)
        connection = sqlite3.connect(file)
        connection.execute(statement)
        connection.commit()
        connection.close()
        described.write_text(json.dumps({**description, "sha256": _sha256_of(file)}))
        with pytest.raises(SnapshotDamaged):
            store.snapshots.restore(name, "x")
        with pytest.raises(CollectionNotFound):
            store.collection("x")
    for text in ("{", json.dumps({**description, "format": 2}), "[]", "{}"):
        described.write_text(text)
        with pytest.raises(SnapshotDamaged):
            store.snapshots.restore(name, "x")


def test_a_damaged_collection_makes_no_snapshot(store: Store) -> None:
    filled(store)
    damage = "UPDATE points SET payload = '{}' WHERE seq = 2100"
    store._writer.run(lambda transaction: transaction.connection.execute(damage), lambda _: None)
    with pytest.raises(StoreCorrupt, match="seq 2100 is not what was written"):
        store.snapshots.create("c")
    assert list(folder_of(store).iterdir()) == []


def test_names_that_are_taken_or_bad(store: Store) -> None:
    collection = filled(store)
    name = store.snapshots.create("c").name
    with pytest.raises(CollectionExists):
        store.snapshots.restore(name, "c")
    with pytest.raises(InvalidCollection, match=r"name is '\.x'"):
        store.snapshots.restore(name, ".x")
    assert collection.count() == 2198
    assert len(store.collections()) == 1


def test_a_restoration_that_was_killed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        filled(store)
        name = store.snapshots.create("c").name
        monkeypatch.setattr(Restoration, "reveal", lambda *_: (_ for _ in ()).throw(StoreError("killed")))
        monkeypatch.setattr(Restoration, "abandon", lambda _: None)
        with pytest.raises(StoreError, match="killed"):
            store.snapshots.restore(name, "x")
        with store._readers.snapshot() as connection:
            assert connection.execute("SELECT count(*) FROM points").fetchone() == (2 * 2198,)
    monkeypatch.undo()
    with Store.open(tmp_path, n_threads=1) as store:
        assert [info.name for info in store.collections()] == ["c"]
        for i in range(9):  # the writer cleans a little after each group
            store.collection("c").upsert([Point("again", np.ones(16), {"i": i})])
        with store._readers.snapshot() as connection:
            assert connection.execute("SELECT count(*) FROM points").fetchone() == (2199,)
        assert store.snapshots.restore(name, "x").count() == 2198
