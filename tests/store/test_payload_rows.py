import json
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import Changed, Collection, Filter, InvalidPoint, Point, Store
from nearlight.store.filters.conditions import Field, Integer
from nearlight.store.validation import MAX_PAYLOAD_BYTES


def test_a_change_keeps_the_vector_gets_a_new_seq_and_survives_a_reopen(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.create_collection("c", space_id="s", dim=6)
        collection.upsert([Point(i, rng.standard_normal(6), {"n": i}) for i in range(5)])
        before = {record.id: record for record in collection.get(range(5), with_vectors=True)}
        assert collection.set_payload([3, 1, 99, 3], {"m": [1, 2]}) == Changed(7, 2)
        assert collection.set_payload([3], {"m": [1, 2]}) == Changed(0, 0)
        assert collection.delete_payload(Filter(must=(Field(("n",), Integer(0)),)), [("n",)]) == Changed(8, 1)
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.collection("c")
        after = collection.get(range(5), with_vectors=True)
        assert [record.payload for record in after] == [
            {},
            {"n": 1, "m": [1, 2]},
            {"n": 2},
            {"n": 3, "m": [1, 2]},
            {"n": 4},
        ]
        assert [record.seq for record in after] == [8, 6, 3, 7, 5]
        for record in after:
            old = before[record.id].vector
            assert old is not None
            assert record.vector is not None
            assert record.vector.tobytes() == old.tobytes()
            [[hit]] = collection.search(old[None], limit=1)
            assert (hit.id, hit.seq) == (record.id, record.seq)
        assert collection.info.last_seq == 8
        assert collection.upsert([Point("new", rng.standard_normal(6), {})]) == 9


def test_vectors_of_other_spaces_images_and_tombstones_follow(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        store.create_collection("other", space_id="t", dim=2)
        collection = store.create_collection("c", space_id="s", dim=2)
        collection.upsert([Point("a", [1, 0], {})])

        def add(transaction: object) -> None:
            run = transaction.connection.execute  # type: ignore[attr-defined]
            run("INSERT INTO vectors (seq, space_no, vector, checksum) VALUES (1, 1, x'00', 0)")
            run("INSERT INTO images (seq, image) VALUES (1, x'ff')")

        store._writer.run(add, lambda _: None)
        assert collection.set_payload(["a"], {"k": 1}) == Changed(2, 1)
        with store._readers.snapshot() as connection:
            assert connection.execute("SELECT seq FROM vectors ORDER BY space_no").fetchall() == [(2,), (2,)]
            assert connection.execute("SELECT seq FROM images").fetchall() == [(2,)]


def test_one_payload_too_big_and_none_is_changed(collection: Collection) -> None:
    big = "x" * (MAX_PAYLOAD_BYTES - 40)
    collection.upsert([Point("a", [1, 0, 0, 0], {}), Point("b", [0, 1, 0, 0], {"big": big})])
    with pytest.raises(InvalidPoint, match=f"the limit is {MAX_PAYLOAD_BYTES}"):
        collection.set_payload(["a", "b"], {"more": "y" * 50})
    records = collection.get(["a", "b"])
    assert [len(json.dumps(record.payload)) for record in records] == [2, len(big) + 11]
    assert [record.seq for record in records] == [1, 2]
    with pytest.raises(InvalidPoint, match="NaN"):
        collection.set_payload(["a"], {"x": float("nan")})
