from pathlib import Path

import pytest

from nearlight.store import (
    Collection,
    Filter,
    InvalidQuery,
    PayloadIndexExists,
    PayloadIndexNotFound,
    Point,
    Store,
)
from nearlight.store.filters.conditions import Field, Integer, Keyword

IS_A = Filter(must=(Field(("tags",), Keyword("a")),))


def found(collection: Collection) -> list[object]:
    records, _ = collection.scroll(filter=IS_A)
    [hits], n_matching = collection.search_matching([[1, 0, 0, 0]], IS_A, limit=100)
    assert sorted(str(hit.id) for hit in hits) == sorted(str(record.id) for record in records)
    assert n_matching == len(records)
    return [record.id for record in records]


def test_an_index_follows_every_write_and_a_reopen(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        collection = store.create_collection("c", space_id="s", dim=4)
        collection.upsert([Point(i, [1, i, 0, 0], {"tags": ["a"] if i < 3 else "b"}) for i in range(6)])
        collection.create_payload_index(("tags",), "keyword")
        collection.create_payload_index(("tags",), "keyword")
        assert found(collection) == [0, 1, 2]
        collection.upsert([Point(2, [1, 0, 0, 0], {}), Point(9, [1, 0, 0, 0], {"tags": "a"})])
        collection.set_payload([5], {"tags": ["b", "a"]})
        collection.delete([0])
        assert found(collection) == [1, 5, 9]
    with Store.open(tmp_path, n_threads=1) as store:
        collection = store.collection("c")
        [index] = collection.info.payload_indexes
        assert (index.path, index.kind) == (("tags",), "keyword")
        assert found(collection) == [1, 5, 9]
        collection.set_payload(Filter(), {"tags": "a"})
        assert len(found(collection)) == 6
        collection.delete_payload_index(("tags",))
        assert collection.info.payload_indexes == ()
        assert len(found(collection)) == 6


def test_refusals_change_nothing(collection: Collection) -> None:
    collection.create_payload_index(("k",), "integer")
    with pytest.raises(PayloadIndexExists, match="has an index of kind integer, not keyword"):
        collection.create_payload_index(("k",), "keyword")
    with pytest.raises(PayloadIndexNotFound, match="has no index"):
        collection.delete_payload_index(("other",))
    with pytest.raises(InvalidQuery, match="kind is 'text'; it must be one of keyword"):
        collection.create_payload_index(("k",), "text")  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="key is of 0 parts"):
        collection.create_payload_index((), "integer")
    assert [index.path for index in collection.info.payload_indexes] == [("k",)]


def test_a_deleted_collection_takes_its_indexes_along(store: Store) -> None:
    for name in ("a", "b"):
        collection = store.create_collection(name, space_id="s", dim=2)
        collection.create_payload_index(("k",), "integer")
        collection.upsert([Point(i, [1, i], {"k": i}) for i in range(5)])
    store.delete_collection("a")
    for _ in range(9):  # the writer cleans a little after each group
        store.collection("b").upsert([Point(9, [1, 0], {"k": 9})])
    with store._readers.snapshot() as connection:
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'payload_index_[0-9]*'"
        assert len(connection.execute(tables).fetchall()) == 1
    [hit], _ = store.collection("b").search_matching(
        [[1, 0]], Filter(must=(Field(("k",), Integer(9)),)), limit=5
    )
    assert [one.id for one in hit] == [9]
