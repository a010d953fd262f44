from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, InvalidQuery, Point, Store
from nearlight.store.verifying import MAX_PROBLEMS


@pytest.fixture
def filled(store: Store) -> Collection:
    """500 points of several writes, some deleted, with twins and a payload index."""
    collection = store.create_collection("c", space_id="s", dim=8)
    vectors = np.random.default_rng(1).standard_normal((500, 8))
    vectors[480:] = vectors[0]
    collection.upsert([Point(i, vectors[i], {"n": [i, i % 3]}) for i in range(500)])
    collection.create_payload_index(("n",), "integer")
    collection.delete(list(range(0, 100, 7)))
    collection.set_payload([5, 6], {"n": "x"})
    return collection


def damage(store: Store, statement: str) -> None:
    """Changes the database behind the collection's back."""
    store._writer.run(lambda transaction: transaction.connection.execute(statement), lambda _: None)


def test_a_healthy_collection_has_no_problems(store: Store, filled: Collection) -> None:
    report = filled.verify()
    assert report.problems == []
    assert report.n_points == filled.count() == 485
    empty = store.create_collection("empty", space_id="s", dim=8)
    assert empty.verify(0).problems == []
    with pytest.raises(InvalidQuery, match="sample is -1"):
        filled.verify(-1)


SEQ = 40  # of the point 39
DAMAGE: list[tuple[str, set[str], str]] = [
    ("UPDATE points SET payload = '{}' WHERE seq = 40", {"point_damaged"}, "point 39 (seq 40)"),
    ("UPDATE points SET id = 'evil' WHERE seq = 40", {"point_damaged"}, "point 'evil' (seq 40)"),
    ("DELETE FROM vectors WHERE seq = 40", {"vector_missing"}, "point 39 (seq 40) has no vector"),
    ("UPDATE vectors SET vector = x'00' WHERE seq = 40", {"vector_damaged"}, "1 bytes, not 32"),
    ("UPDATE vectors SET vector = zeroblob(32) WHERE seq = 40", {"vector_damaged"}, "not what was written"),
    (
        "UPDATE vectors SET vector = zeroblob(32), checksum = 0 WHERE seq = 40",
        {"vector_differs"},
        "another vector than is stored",
    ),
    ("DELETE FROM points WHERE seq = 40", {"unknown_in_index"}, "seq 40 is searched"),
    (
        "UPDATE points SET seq = 9999 WHERE seq = 40",
        {"unknown_in_index", "missing_in_index", "vector_missing", "point_damaged"},
        "seq, id, payload or hash is not what was written",
    ),
]


@pytest.mark.parametrize(("statement", "kinds", "words"), DAMAGE)
def test_each_damage_is_named(
    store: Store, filled: Collection, statement: str, kinds: set[str], words: str
) -> None:
    damage(store, statement)
    report = filled.verify()
    assert {problem.kind for problem in report.problems} == kinds
    assert len(report.problems) == len(kinds)
    assert any(words in problem.message for problem in report.problems)


@pytest.mark.parametrize("change", ["DELETE FROM {} WHERE seq = 40", "INSERT INTO {} VALUES (77, 40)"])
def test_a_payload_index_that_differs(store: Store, filled: Collection, change: str) -> None:
    from nearlight.store.filters.indexes import table_of

    damage(store, change.format(table_of(1, ("n",))))
    assert {problem.kind for problem in filled.verify().problems} == {"payload_index_differs"}


def test_a_search_that_misses_a_point_is_noticed(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    search: Callable[..., Any] = filled._scanner.search

    def without_first(view: Any, queries: Any, span: Any) -> Any:
        found = search(view, queries, span)
        for one in found:
            object.__setattr__(one, "seqs", one.seqs[1:])
        return found

    monkeypatch.setattr(filled._scanner, "search", without_first)
    report = filled.verify(n_sample=60)
    assert {problem.kind for problem in report.problems} == {"not_found_by_itself"}
    assert 40 < len(report.problems) <= 60


def test_there_is_an_end_to_problems(store: Store) -> None:
    collection = store.create_collection("c", space_id="s", dim=2)
    collection.upsert([Point(i, [1, i], {}) for i in range(1500)])
    damage(store, "DELETE FROM vectors")
    assert len(collection.verify().problems) == MAX_PROBLEMS
