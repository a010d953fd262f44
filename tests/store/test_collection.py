import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import Collection, InvalidPoint, InvalidQuery, Point, PointId, Store, WrongSpace
from nearlight.store.validation import unit_rows

F32 = npt.NDArray[np.float32]
ALPHABET: list[PointId] = [*range(40), *(str(i) for i in range(40)), 2**63 - 1, 2**63, 2**64 - 1]
ALPHABET += ["é", "e\u0301", "日本/写真.jpg", "a\x00b", "a", "🐕", "'; --", "%"]


class Model:
    """The collection as a dict: what every operation should do, in the plainest way."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, PointId], tuple[PointId, F32, dict[str, Any], int]] = {}
        self.seq = 0

    @staticmethod
    def key(point_id: PointId) -> tuple[str, PointId]:
        return type(point_id).__name__, point_id

    def upsert(self, points: list[Point]) -> None:
        last = {self.key(point.id): i for i, point in enumerate(points)}
        for i, point in enumerate(points):
            if last[self.key(point.id)] == i:
                self.seq += 1
                vector = unit_rows(np.asarray(point.vector, np.float32)[None])[0]
                self.points.pop(self.key(point.id), None)
                self.points[self.key(point.id)] = (point.id, vector, dict(point.payload), self.seq)

    def delete(self, ids: list[PointId]) -> int:
        gone = {self.key(i) for i in ids} & set(self.points)
        for key in gone:
            del self.points[key]
        self.seq += bool(gone)
        return len(gone)

    def order(self) -> list[PointId]:
        numbers = sorted(i for kind, i in self.points if kind == "int")
        texts = sorted((i for kind, i in self.points if kind == "str"), key=lambda text: str(text).encode())
        return [*numbers, *texts]

    def search(self, query: F32, limit: int, offset: int, threshold: float | None) -> list[tuple[int, float]]:
        scored = [
            (seq, float(vector.astype(np.float64) @ query)) for _, vector, _, seq in self.points.values()
        ]
        kept = [(seq, score) for seq, score in scored if threshold is None or score >= threshold]
        return sorted(kept, key=lambda item: (-item[1], item[0]))[offset : offset + limit]


def check_all(collection: Collection, model: Model) -> None:
    """Everything the collection holds equals the model."""
    assert collection.count() == collection.info.count == len(model.points)
    assert collection.info.last_seq == model.seq
    records, after = collection.scroll(limit=10_000, with_vectors=True)
    assert after is None
    assert [record.id for record in records] == model.order()
    for record in records:
        _, vector, payload, seq = model.points[model.key(record.id)]
        assert (record.payload, record.seq) == (payload, seq)
        assert record.vector is not None
        assert record.vector.tobytes() == vector.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_random_operations_equal_a_naive_model_across_reopens(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = Model()
    store = Store.open(tmp_path, n_threads=2)
    collection = store.create_collection("c", space_id="s", dim=6)

    def some_ids(most: int) -> list[PointId]:
        return [ALPHABET[i] for i in rng.integers(0, len(ALPHABET), rng.integers(0, most + 1))]

    def upsert() -> None:
        points = [
            Point(i, rng.standard_normal(6), {"n": int(rng.integers(1000)), "i": str(i)}) for i in some_ids(8)
        ]
        model.upsert(points)
        assert collection.upsert(points) == model.seq

    def delete() -> None:
        ids = some_ids(5)
        assert collection.delete(ids) == model.delete(ids)

    def get() -> None:
        ids = some_ids(6)
        found = [record.id for record in collection.get(ids)]
        assert [Model.key(i) for i in found] == [Model.key(i) for i in ids if Model.key(i) in model.points]

    def search() -> None:
        queries = unit_rows(rng.standard_normal((int(rng.integers(1, 8)), 6)))
        limit, offset = int(rng.integers(1, 30)), int(rng.integers(0, 10))
        threshold = None if rng.random() < 0.5 else float(rng.uniform(-1, 1))
        found = collection.search(
            queries, limit=limit, offset=offset, score_threshold=threshold, with_vectors=True
        )
        for hits, query in zip(found, queries, strict=True):
            expected = model.search(query, limit, offset, threshold)
            assert [hit.seq for hit in hits] == [seq for seq, _ in expected]
            for hit, (_, score) in zip(hits, expected, strict=True):
                point_id, vector, payload, _ = model.points[Model.key(hit.id)]
                assert (hit.id, hit.payload) == (point_id, payload)
                assert hit.score == pytest.approx(score, abs=1e-6)
                assert hit.vector is not None
                assert hit.vector.tobytes() == vector.tobytes()

    def scroll() -> None:
        limit, seen, after = int(rng.integers(1, 20)), [], None
        while True:
            records, after = collection.scroll(after, limit=limit)
            seen += [record.id for record in records]
            if after is None:
                break
            assert len(records) == limit
        assert seen == model.order()

    operations: list[Callable[[], None]] = [upsert, upsert, upsert, delete, get, search, scroll]
    for _ in range(1000):
        if rng.random() < 0.01:
            store.close()
            store = Store.open(tmp_path, n_threads=2)
            collection = store.collection("c")
            check_all(collection, model)
        operations[rng.integers(len(operations))]()
    check_all(collection, model)
    store.close()


def test_one_bad_point_stores_nothing_of_its_call(collection: Collection) -> None:
    collection.upsert([Point("kept", [1, 2, 3, 4], {"old": 1})])
    for bad in (
        Point("", [1, 2, 3, 4], {}),
        Point("x", [1, 2, 3], {}),
        Point("x", [1, 2, float("nan"), 4], {}),
        Point("x", [0, 0, 0, 0], {}),
        Point("x", [1, 2, 3, 4], {"a": float("nan")}),
        Point("\ud800", [1, 2, 3, 4], {}),
    ):
        with pytest.raises(InvalidPoint) as caught:
            collection.upsert(
                [Point("kept", [4, 3, 2, 1], {"new": 1}), Point("other", [1, 1, 1, 1], {}), bad]
            )
        assert caught.value.index == 2
        assert str(caught.value).startswith("points[2].")
    assert collection.count() == 1
    assert collection.get(["kept", "other"])[0].payload == {"old": 1}
    with pytest.raises(InvalidPoint, match=r"points\[1\].id is 513 bytes long"):
        collection.delete(["kept", "x" * 513])
    assert collection.count() == 1


def test_a_string_and_a_number_are_two_points(collection: Collection) -> None:
    collection.upsert(
        [Point(7, [1, 0, 0, 0], {"kind": "number"}), Point("7", [0, 1, 0, 0], {"kind": "text"})]
    )
    assert [record.payload["kind"] for record in collection.get(["7", 7])] == ["text", "number"]
    assert collection.delete(["7"]) == 1
    assert [record.id for record in collection.scroll()[0]] == [7]


def test_get_of_what_an_upsert_stored_changes_nothing_when_stored_again(collection: Collection) -> None:
    collection.upsert([Point("a", [0.1, 0.7, -3, 1e-9], {})])
    (first,) = collection.get(["a"], with_vectors=True)
    assert first.vector is not None
    collection.upsert([Point("a", first.vector, {})])
    (second,) = collection.get(["a"], with_vectors=True)
    assert second.vector is not None
    assert first.vector.tobytes() == second.vector.tobytes()
    assert second.seq > first.seq


def test_results_belong_to_the_caller(collection: Collection) -> None:
    collection.upsert([Point("a", [1, 0, 0, 0], {"list": [1]})])
    ((hit,),) = collection.search([[1, 0, 0, 0]], limit=1, with_vectors=True)
    assert hit.vector is not None
    assert hit.payload is not None
    hit.vector[:] = 9
    hit.payload["list"].append(2)
    ((again,),) = collection.search([[1, 0, 0, 0]], limit=1, with_vectors=True)
    assert (again.score, again.payload) == (1.0, {"list": [1]})


def test_search_returns_only_what_was_asked_for(collection: Collection) -> None:
    collection.upsert([Point("a", [1, 0, 0, 0], {"x": 1})])
    ((hit,),) = collection.search([[2, 0, 0, 0]], limit=5, with_payload=False)
    assert (hit.id, hit.score, hit.payload, hit.vector) == ("a", 1.0, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, r"limit is 0; it must be an integer in 1\.\."),
        ({"limit": 2**40}, "limit is 1099511627776"),
        ({"limit": True}, "limit is True"),
        ({"limit": 1, "offset": -1}, r"offset is -1; it must be an integer in 0\.\."),
        ({"limit": 1, "score_threshold": float("nan")}, "score_threshold is nan; it must be a finite number"),
        ({"limit": 1, "queries": [[1, 2, 3]]}, r"queries is of shape \(1, 3\); .* dim is 4"),
        ({"limit": 1, "queries": [1, 2, 3, 4]}, r"queries is of shape \(4,\)"),
        ({"limit": 1, "queries": [[1, 2, 3, 4], [1, 2]]}, "queries is rows of different lengths"),
        ({"limit": 1, "queries": [[1, 1, 1, 1], [0, 0, 0, 0]]}, r"queries\[1\] is all zeros"),
        ({"limit": 1, "queries": [[1, 1, float("inf"), 1]]}, r"queries\[0\] is not finite"),
        ({"limit": 1, "queries": [["a", "b", "c", "d"]]}, "queries is of type <U1"),
    ],
)
def test_a_bad_query_is_refused_by_name_value_and_limit(
    collection: Collection, arguments: dict[str, Any], message: str
) -> None:
    collection.upsert([Point("a", [1, 2, 3, 4], {})])
    with pytest.raises(InvalidQuery, match=message):
        collection.search(arguments.pop("queries", [[1, 2, 3, 4]]), **arguments)


def test_a_bad_scroll_is_refused(collection: Collection) -> None:
    with pytest.raises(InvalidQuery, match="limit is 0"):
        collection.scroll(limit=0)
    with pytest.raises(InvalidPoint, match=r"point.id is 0 bytes long"):
        collection.scroll("")


def test_a_huge_limit_gives_all_there_is(collection: Collection) -> None:
    collection.upsert([Point(i, [1, i, 0, 0], {}) for i in range(5)])
    assert len(collection.search([[1, 1, 1, 1]], limit=10**9)[0]) == 5
    assert collection.search([[1, 1, 1, 1]], limit=10**9, offset=10**9) == [[]]
    assert collection.search(np.empty((0, 4)), limit=1) == []


def test_vectors_of_another_space_are_refused(collection: Collection) -> None:
    collection.upsert([Point("a", [1, 2, 3, 4], {})], space_id="s")
    with pytest.raises(WrongSpace, match="are of space 'other', collection 'photos' is of space 's'"):
        collection.upsert([Point("b", [1, 2, 3, 4], {})], space_id="other")
    with pytest.raises(WrongSpace):
        collection.search([[1, 2, 3, 4]], limit=1, space_id="other")
    assert collection.count() == 1


def test_nothing_to_write_is_no_error(collection: Collection) -> None:
    assert collection.upsert([]) == 0
    assert collection.delete([]) == 0
    assert collection.delete(["nobody"]) == 0
    assert collection.get([]) == []
    assert collection.info.last_seq == 0


def test_a_scroll_gives_every_lasting_point_once_while_others_come_and_go(store: Store) -> None:
    collection = store.create_collection("c", space_id="s", dim=4)
    collection.upsert([Point(i, [1, i, 0, 0], {}) for i in range(0, 300, 3)])
    seen: list[PointId] = []
    after: PointId | None = None
    step = 0
    while True:
        records, after = collection.scroll(after, limit=7)
        seen += [record.id for record in records]
        if after is None:
            break
        # Overwrite all, add some before and after the cursor, delete them again, the cursor's own point too.
        collection.upsert([Point(i, [1, i, 1, 0], {}) for i in range(0, 300, 3) if i % 2])
        collection.upsert([Point(i * 3 + 1, [1, 0, 0, 1], {}) for i in range(step % 5, 100, 5)])
        collection.delete([i * 3 + 1 for i in range(step % 7, 100, 7)])
        step += 1
    lasting = [i for i in seen if isinstance(i, int) and i % 3 == 0]
    assert lasting == list(range(0, 300, 3))
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("sizes", [{20}, {0, 20}])
def test_readers_never_see_half_a_call(tmp_path: Path, sizes: set[int]) -> None:
    """Each call writes or deletes the same 20 points; a read finds those of one call, or no point."""
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.create_collection("c", space_id="s", dim=20)
        basis = np.eye(20, dtype=np.float32)
        collection.upsert([Point(i, basis[i], {"call": -1}) for i in range(20)])
        stop = threading.Event()
        faults: list[str] = []
        n_reads = [0, 0, 0]

        def write(first: int) -> None:
            number = first
            while not stop.is_set():
                collection.upsert([Point(i, basis[i], {"call": number}) for i in range(20)])
                number += 2
                if 0 in sizes and number % 10 == first:
                    collection.delete(list(range(20)))

        def read(which: int) -> None:
            newest = -1
            while not stop.is_set():
                if which == 0:
                    payloads = [hit.payload for hit in collection.search(np.ones((1, 20)), limit=50)[0]]
                elif which == 1:
                    payloads = [record.payload for record in collection.get(list(range(20)))]
                else:
                    payloads = [record.payload for record in collection.scroll(limit=50)[0]]
                calls = {json.dumps(payload) for payload in payloads}
                if len(payloads) not in sizes or len(calls) > 1 or collection.count() not in sizes:
                    faults.append(f"{which}: {len(payloads)} points of {len(calls)} calls")
                n_reads[which] += 1
                seq = collection.info.last_seq
                if seq < newest:
                    faults.append("last_seq fell")
                newest = seq

        threads = [threading.Thread(target=write, args=(i,)) for i in range(2)]
        threads += [threading.Thread(target=read, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5 or (min(n_reads) <= 5 and time.monotonic() < begun + 60):
            stop.wait(0.1)  # longer where the machine is busy
        stop.set()
        for thread in threads:
            thread.join(30)
        assert faults == []
        assert min(n_reads) > 5


def test_a_write_is_seen_by_every_read_that_starts_after_it(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=2) as store:
        collection = store.create_collection("c", space_id="s", dim=8)
        faults: list[str] = []

        def work(name: int) -> None:
            rng = np.random.default_rng(name)
            for i in range(40):
                vector = rng.standard_normal(8)
                collection.upsert([Point(f"{name}", vector, {"i": i})])
                ((hit, *_),) = collection.search(vector[None], limit=1)
                if collection.get([f"{name}"])[0].payload != {"i": i} or hit.score < 0.9999:
                    faults.append(f"{name}: {i}")

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert faults == []
        assert collection.count() == 8


def test_memory_follows_the_points_not_the_writes(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        collection = store.create_collection("c", space_id="s", dim=4)
        rng = np.random.default_rng(0)
        for _ in range(30):
            collection.upsert([Point(i, row, {}) for i, row in enumerate(rng.standard_normal((300, 4)))])
        assert collection.count() == 300
        assert collection._head.view.n_rows <= 300 + 1024
        assert len(collection.search(np.ones((1, 4)), limit=1000)[0]) == 300
