import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import (
    CollectionExists,
    CollectionNotFound,
    InvalidCollection,
    Point,
    Store,
    StoreClosed,
    StoreError,
    StoreFull,
    WrongSpace,
)


def points(n: int, dim: int = 4) -> list[Point]:
    rows = np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)
    return [Point(f"p{i}", row, {"i": i}) for i, row in enumerate(rows)]


def test_collections_are_kept_with_all_they_were_made_with(tmp_path: Path) -> None:
    metadata = {"bundle": "tiny", "größe": [1, 2**60]}
    with Store.open(tmp_path) as store:
        store.create_collection("b.2", space_id="space-1", dim=4, metadata=metadata).upsert(points(3))
        store.create_collection("A", space_id="space-2", dim=7)
        before = store.collections()
    with Store.open(tmp_path) as store:
        assert store.collections() == before
        assert [info.name for info in before] == ["A", "b.2"]
        info = store.collection("b.2").info
        assert (info.space_id, info.dim, info.count, info.metadata, info.last_seq) == (
            "space-1",
            4,
            3,
            metadata,
            3,
        )
        assert abs(info.created_unix_ms / 1000 - time.time()) < 600
        info.metadata["bundle"] = "changed by the caller"
        assert store.collection("b.2").info.metadata == metadata


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "a b", "ä", "x" * 256, "a\n", "a\x00", "\ud800", None, 7]
)
def test_a_bad_name_is_refused(store: Store, name: Any) -> None:
    with pytest.raises(
        InvalidCollection, match="name is .*; it must be 1 to 255 of A-Z a-z 0-9 . _ - and not start"
    ):
        store.create_collection(name, space_id="s", dim=4)


@pytest.mark.parametrize("name", ["a", "x" * 255, "A.b_c-9", "-", "_"])
def test_a_good_name_is_accepted(store: Store, name: str) -> None:
    assert store.create_collection(name, space_id="s", dim=4).info.name == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, r"dim is 0; it must be an integer in 1\.\.16384"),
        ({"dim": 16385}, "dim is 16385"),
        ({"dim": True}, "dim is True"),
        ({"space_id": ""}, "space_id is 0 bytes long"),
        ({"space_id": "\ud800"}, "space_id is .*valid Unicode"),
        ({"metadata": {"a": float("nan")}}, "metadata is nan; JSON has no NaN"),
        ({"metadata": [1]}, "metadata is a list"),
    ],
)
def test_a_bad_argument_is_refused(store: Store, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCollection, match=message):
        store.create_collection("a", **{"space_id": "s", "dim": 4, **arguments})
    assert store.collections() == []


def test_a_name_is_taken_once(store: Store) -> None:
    store.create_collection("a", space_id="s", dim=4)
    with pytest.raises(CollectionExists, match="collection 'a' exists already"):
        store.create_collection("a", space_id="s", dim=4)


def test_a_space_has_one_dim(store: Store) -> None:
    store.create_collection("a", space_id="s", dim=4)
    with pytest.raises(WrongSpace, match="space 's' has dim 4 in this store; dim 5 was asked for"):
        store.create_collection("b", space_id="s", dim=5)


def test_an_unknown_collection_is_named(store: Store) -> None:
    with pytest.raises(CollectionNotFound, match="there is no collection 'nobody'"):
        store.collection("nobody")
    with pytest.raises(CollectionNotFound, match="there is no collection 'nobody'"):
        store.delete_collection("nobody")


def test_a_deleted_collection_is_gone_for_old_handles_and_its_name_is_free(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        old = store.create_collection("a", space_id="s", dim=4)
        old.upsert(points(10))
        last_seq = old.info.last_seq
        store.delete_collection("a")
        for call in (
            lambda: old.info,
            old.count,
            lambda: old.upsert(points(1)),
            lambda: old.delete(["p1"]),
            lambda: old.get(["p1"]),
            old.scroll,
            lambda: old.search(np.ones((1, 4)), limit=1),
        ):
            with pytest.raises(CollectionNotFound, match="collection 'a' was deleted"):
                call()
        new = store.create_collection("a", space_id="other", dim=7)
        assert new.count() == 0
        assert new.upsert(points(1, 7)) > last_seq
    with Store.open(tmp_path) as store:
        assert [(info.name, info.count) for info in store.collections()] == [("a", 1)]


def test_a_deleted_collections_room_is_reclaimed(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.create_collection("big", space_id="s", dim=256).upsert(points(9000, 256))
        store.create_collection("small", space_id="s", dim=256).upsert(points(10, 256))
        full = used_bytes(tmp_path)
        store.delete_collection("big")
        deadline = time.monotonic() + 60
        while used_bytes(tmp_path) > full / 5 or n_collection_rows(tmp_path) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (tmp_path / "store.sqlite3").stat().st_size < full / 5
    connection = sqlite3.connect(tmp_path / "store.sqlite3")
    assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (10,)
    connection.close()


def n_collection_rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / "store.sqlite3")
    (n_rows,) = connection.execute("SELECT count(*) FROM collections").fetchone()
    connection.close()
    return int(n_rows)


def used_bytes(folder: Path) -> int:
    connection = sqlite3.connect(folder / "store.sqlite3")
    (n_pages,), (page_bytes,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    connection.close()
    return int(n_pages * page_bytes)


def test_a_full_disk_fails_the_call_and_the_store_goes_on(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        collection = store.create_collection("a", space_id="s", dim=256)
        collection.upsert(points(50, 256))
        connection = store._writer._transaction.connection
        (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {n_pages + 5}")
        with pytest.raises(StoreFull, match="no room left for the store .*; nothing of this call was stored"):
            collection.upsert(points(2000, 256))
        with pytest.raises(StoreFull, match="no room left"):
            collection.upsert([Point("big", np.ones(256), {"x": "x" * 10**6})])
        assert collection.count() == 50
        assert len(collection.search(np.ones((1, 256)), limit=100)[0]) == 50
        assert collection.delete(["p1"]) == 1
        connection.execute("PRAGMA max_page_count = 1000000")
        collection.upsert(points(2000, 256))
    with Store.open(tmp_path) as store:
        assert store.collection("a").count() == 2000


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    collection = store.create_collection("a", space_id="s", dim=4)
    store.close()
    store.close()
    for call in (
        store.collections,
        collection.count,
        lambda: collection.upsert(points(1)),
        collection.scroll,
    ):
        with pytest.raises(StoreClosed, match="the store was closed"):
            call()


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot use the data folder"):
        Store.open(tmp_path / "file" / "data")
