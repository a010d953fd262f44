from typing import Any

import pytest

from nearlight.store import Collection, Filter, InvalidQuery, Order, Point
from nearlight.store.filters.conditions import Field, Integer

VALUES: list[Any] = [
    3, -1, 2.5, 2**53 + 1, 2**53, 10**30, True, None, "b", "a", "", "é", "2026-11-23T08:00:00Z",
    "2026-11-23T10:00:00+03:00", "2025-01-01", [5, 1], ["x", 4], [], [None], {"x": 1}, 3, 3.0, "b",
]  # fmt: skip
# The same by hand, ascending: numbers, moments, other strings; lists by their smallest item.
ASCENDING = [1, 15, 2, 0, 20, 21, 16, 4, 3, 5, 14, 13, 12, 10, 9, 8, 22, 11]
# By their largest item: ["x", 4] is a string, [5, 1] a 5.
DESCENDING = [11, 16, 8, 22, 9, 10, 12, 13, 14, 5, 3, 4, 15, 0, 20, 21, 2, 1]
WITHOUT = [6, 7, 17, 18, 19, 23]


@pytest.fixture
def filled(collection: Collection) -> Collection:
    points = [Point(i, [1, i, 0, 0], {"k": {"v": value}, "odd": i % 2}) for i, value in enumerate(VALUES)]
    collection.upsert([*points, Point(23, [1, 1, 1, 1], {})])
    return collection


def scrolled(collection: Collection, order: Order, limit: int, filter: Filter | None = None) -> list[Any]:
    seen: list[Any] = []
    after = None
    while True:
        records, after = collection.scroll_in_order(
            order, after, limit=limit, filter=filter, with_vectors=True
        )
        assert all(record.vector is not None for record in records)
        seen += [record.id for record in records]
        if after is None:
            return seen


@pytest.mark.parametrize("limit", [1, 2, 7, 24, 100])
def test_every_point_comes_once_in_the_order_of_its_value(filled: Collection, limit: int) -> None:
    path = ("k", "v")
    assert scrolled(filled, Order(path), limit) == ASCENDING + WITHOUT
    assert scrolled(filled, Order(path, descending=True), limit) == DESCENDING + WITHOUT
    odd = Filter(must=(Field(("odd",), Integer(1)),))
    assert scrolled(filled, Order(path), limit, odd) == [i for i in ASCENDING + WITHOUT[:-1] if i % 2]


def test_equal_values_by_id_numbers_before_strings(collection: Collection) -> None:
    ids: list[str | int] = ["b", 2**64 - 1, "a", 7, "7"]
    collection.upsert([Point(i, [1, 0, 0, 0], {"v": 1}) for i in ids])
    for descending in (False, True):
        order = Order(("v",), descending)
        assert scrolled(collection, order, 2) == [7, 2**64 - 1, "7", "a", "b"]


def test_writes_between_pages(filled: Collection) -> None:
    order = Order(("k", "v"))
    records, after = filled.scroll_in_order(order, limit=6)
    filled.delete([records[-1].id, ASCENDING[8]])
    filled.set_payload([ASCENDING[10]], {"odd": 9})
    filled.upsert([Point("new", [1, 0, 0, 0], {"k": {"v": 0}})])
    rest, following = filled.scroll_in_order(order, after, limit=100)
    assert following is None
    assert [record.id for record in rest] == [i for i in ASCENDING[6:] + WITHOUT if i != ASCENDING[8]]


def test_a_bad_order_is_refused(collection: Collection) -> None:
    with pytest.raises(InvalidQuery, match="order is of 0 parts"):
        collection.scroll_in_order(Order(()))
    with pytest.raises(InvalidQuery, match="limit is 0"):
        collection.scroll_in_order(Order(("v",)), limit=0)
