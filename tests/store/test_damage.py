"""A bit flipped or a page lost anywhere in the database: found, or without effect; never served wrong."""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from nearlight.store import Hit, Point, Record, SetAlias, Store, StoreCorrupt, StoreError
from nearlight.store.filters.conditions import Field, Filter, Range
from nearlight.store.label_sets import Label, LabelSet
from nearlight.store.schema import DATABASE_FILE, PAGE_BYTES

N, DIM = 300, 32
PETS = LabelSet(name="pets", space_id="s", dim=DIM, labels=(Label("cat"),), templates=("a {}",), model="m")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    rows = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with Store.open(folder) as store:
        collection = store.create_collection("a", space_id="s", dim=DIM, metadata={"of": "a"})
        points: list[Point] = []
        for i, row in enumerate(rows):
            key: Any = i if i % 2 else f"id {i}"
            look = None if i % 3 else (i // 6) * 0x0123_4567_89AB_CDEF % 2**64
            points.append(Point(key, row, {"n": i, "text": f"text of {i} " * 5}, perceptual_hash=look))
        collection.upsert(points)
        collection.delete([1, 3, "id 4"])
        collection.set_payload([5], {"n": -5})
        collection.create_payload_index(("n",), "integer")
        store.create_collection("b", space_id="s", dim=DIM).upsert([Point("of b", rows[0], {"n": 7})])
        store.update_aliases([SetAlias("live", "a"), SetAlias("other", "b")])
        store.label_sets.put(PETS)
    return folder


Content = dict[tuple[type, Any], tuple[str, bytes]]
T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """What a store serves: every point page by page, by search, by filter; whom by id; what else there is.

    Attributes:
        points: found by a scroll.
        hits: found by a search, and by one with a filter; the vectors are those that were searched.
        by_id: ids that a look-up gives.
        facts: names, spaces, aliases, label sets, pairs of images that look alike.
        damage: what was refused, and what the doctor finds.
    """

    points: Content
    hits: list[Content]
    by_id: set[Any]
    facts: set[str]
    damage: list[str]


def content(records: Iterable[Record | Hit]) -> Content:
    found: Content = {}
    for record in records:
        assert record.vector is not None
        found[type(record.id), record.id] = (json.dumps(record.payload), record.vector.tobytes())
    return found


def facts_of(store: Store) -> Iterator[str]:
    for info in store.collections():
        said = (info.space_id, info.dim, info.metadata, info.last_seq, info.aliases, info.payload_indexes)
        yield repr((info.name, *said))
    yield from map(repr, store.aliases().items())


def read(folder: Path) -> Reading:
    """Reads each part for itself: a refusal of one hides nothing of another."""
    damage: list[str] = []

    def part(ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except StoreError as error:
            damage.append(str(error))
            return None

    with Store.open(folder, n_threads=1) as store:
        facts = set(facts_of(store))
        collection = part(lambda: store.collection("a"))
        if collection is None:
            return Reading({}, [], set(), facts, damage)
        few = Filter(must=(Field(("n",), Range(lt=150)),))

        def hits(filter: Filter | None) -> Content:
            answer = collection.answer(np.ones((1, DIM)), filter, limit=N, with_vectors=True)
            return content(answer.hits[0])

        points = part(lambda: content(collection.scroll(limit=2 * N, with_vectors=True)[0])) or {}
        found = [part(lambda: hits(None)) or {}, part(lambda: hits(few)) or {}]
        keys = [key for _, key in points] or list(range(1, N, 2))
        by_id = {(type(one.id), one.id) for one in part(lambda: collection.get(keys)) or []}
        groups = store.duplicates.by_hash(collection, 0)
        for pair in part(lambda: store.duplicates.hits(collection, groups)) or []:
            facts.add(repr([(hit.id, hit.score) for hit in pair]))
        facts |= {repr(one) for one in part(lambda: store.label_sets.page("", 9)) or []}
        found_by_doctor = part(lambda: [*store.damaged_pages(), *map(str, collection.verify().problems)])
        return Reading(points, found, by_id, facts, damage or found_by_doctor or damage)


read_once = cache(read)


def is_found_or_harmless(whole: Path, folder: Path, damaged: bytes) -> bool:
    """Whether damage is noticed (True) or does nothing (False); fails where anything wrong is served.

    What is damaged in an index of SQLite's, or in a payload that a filter looks at, may hide a point from a
    scroll, a look-up by id or a filter: comparing every row with its index at each open would take too long.
    The doctor finds it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / DATABASE_FILE).write_bytes(damaged)
    try:
        found = read(folder)
    except StoreError:
        return True
    true = read_once(whole)
    for served in (found.points, *found.hits):
        assert all(true.points.get(key) == point for key, point in served.items())
    assert found.facts <= true.facts
    if (found.points, found.hits, found.by_id, found.facts) != (
        true.points,
        true.hits,
        true.by_id,
        true.facts,
    ):
        assert found.damage
    return bool(found.damage)


def flipped(whole: Path, rng: random.Random) -> bytes:
    """The database with one bit flipped, in a byte that is in use: most of a small database is empty."""
    damaged = bytearray((whole / DATABASE_FILE).read_bytes())
    at = rng.choice([i for i, byte in enumerate(damaged) if byte])
    damaged[at] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def test_a_flipped_bit_anywhere_is_found_or_harmless(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(11)
    n_found = sum(is_found_or_harmless(whole, tmp_path / "damaged", flipped(whole, rng)) for _ in range(25))
    assert n_found > 12


def test_an_index_that_points_to_the_vector_of_another_point_is_found(whole: Path, tmp_path: Path) -> None:
    original = (whole / DATABASE_FILE).read_bytes()
    seq = (280).to_bytes(2, "big")
    entry = b"\x04\x09\x02\x02" + seq + seq  # of vectors_by_seq: space 1, the seq, the number of the row
    assert original.count(entry) == 1
    damaged = original.replace(entry, entry[:-1] + bytes([entry[-1] ^ 1]))
    (tmp_path / DATABASE_FILE).write_bytes(damaged)
    with pytest.raises(StoreCorrupt, match="vector of seq 280"):
        read(tmp_path)


def row_number_bytes(path: Path, table: str) -> list[int]:
    """Where in the file the last byte of each row's number lies: of the leaves of a table."""
    with closing(sqlite3.connect(path)) as connection:
        statement = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (root,) = connection.execute(statement, (table,)).fetchone()
    file, places, waiting = path.read_bytes(), [], [root]
    while waiting:
        start = (waiting.pop() - 1) * PAGE_BYTES
        is_leaf = file[start] == 13
        n_cells = int.from_bytes(file[start + 3 : start + 5], "big")
        first = start + (8 if is_leaf else 12)
        if not is_leaf:
            waiting.append(int.from_bytes(file[start + 8 : start + 12], "big"))
        for i in range(n_cells):
            at = start + int.from_bytes(file[first + 2 * i : first + 2 * i + 2], "big")
            if not is_leaf:
                waiting.append(int.from_bytes(file[at : at + 4], "big"))
                continue
            for _ in range(2):  # the length of the row, then its number; a byte above 127 is not the last
                while file[at] > 127:
                    at += 1
                at += 1
            places.append(at - 1)
    return sorted(places)


def with_flip(original: bytes, at: int, bit: int) -> bytes:
    damaged = bytearray(original)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def n_refused_alone(whole: Path, folder: Path, damaged: bytes) -> int:
    """How many points a search for their own vector refuses; fails where one gives the id of another.

    A search for many refuses for the one that is lost, and so says nothing of the others.
    """
    folder.mkdir()
    (folder / DATABASE_FILE).write_bytes(damaged)
    n_refused = 0
    try:
        store = Store.open(folder, n_threads=1)
    except StoreCorrupt:
        return N
    with store:
        collection = store.collection("a")
        for (_, key), (payload, vector) in read_once(whole).points.items():
            try:
                [[hit]] = collection.search(np.frombuffer(vector, np.float32)[None], limit=1)
            except StoreCorrupt:
                n_refused += 1
                continue
            assert (hit.id, json.dumps(hit.payload)) == (key, payload)
    return n_refused


def test_a_flipped_row_number_gives_no_point_the_id_of_another(whole: Path, tmp_path: Path) -> None:
    original = (whole / DATABASE_FILE).read_bytes()
    places = row_number_bytes(whole / DATABASE_FILE, "points")
    assert len(places) == N - 3 + 1
    n_refused = 0
    for at in places[10:14]:  # to a neighbour's number: SQLite finds one of the two rows under it
        n_refused += n_refused_alone(whole, tmp_path / str(at), with_flip(original, at, 0))
    assert n_refused > 4  # the one that is lost, and at times the one whose number it has taken


@pytest.mark.slow
def test_every_flipped_row_number_is_found(whole: Path, tmp_path: Path) -> None:
    original = (whole / DATABASE_FILE).read_bytes()
    tables = ("points", "vectors", "collections", "spaces", "aliases", "label_sets", "payload_indexes")
    for table in tables:
        for at in row_number_bytes(whole / DATABASE_FILE, table):
            bit = at % 7
            if table == "points":
                n_refused_alone(whole, tmp_path / f"{at}", with_flip(original, at, bit))
            assert is_found_or_harmless(whole, tmp_path / "damaged", with_flip(original, at, bit)) or (
                table in ("aliases", "label_sets", "payload_indexes")  # whose rows are found by their names
            )


def test_a_write_removes_no_other_point_where_an_index_is_damaged(whole: Path, tmp_path: Path) -> None:
    original = (whole / DATABASE_FILE).read_bytes()
    entry = b"\x04\x09\x19\x02id 280" + (281).to_bytes(2, "big")  # of points_by_id: collection 1, id, seq
    assert original.count(entry) == 1
    (tmp_path / DATABASE_FILE).write_bytes(original.replace(entry, entry[:-1] + bytes([entry[-1] ^ 1])))
    with Store.open(tmp_path) as store:
        collection = store.collection("a")
        with pytest.raises(StoreCorrupt, match="the point of seq 280 is not what was written"):
            collection.get(["id 280"])
        for ids in (["id 280"], ["id 280", *range(101, 121, 2)]):  # few are looked up one by one
            with pytest.raises(StoreCorrupt, match="an index of the database gives seq 280 to a point"):
                collection.delete(ids)
            with pytest.raises(StoreCorrupt, match="database holds an id whose point is gone"):
                collection.upsert([Point(one, np.ones(DIM), {}) for one in ids])
        assert len(collection.get([279, 101])) == 2
        assert collection.delete([279]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_flipped_bits_are_found_or_harmless(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(12)
    for _ in range(1000):
        is_found_or_harmless(whole, tmp_path / "damaged", flipped(whole, rng))


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_a_page_that_was_lost_is_found_or_harmless(whole: Path, tmp_path: Path, filler: bytes) -> None:
    original = (whole / DATABASE_FILE).read_bytes()
    n_found = 0
    for page in range(len(original) // PAGE_BYTES):
        damaged = bytearray(original)
        damaged[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = filler * PAGE_BYTES
        n_found += is_found_or_harmless(whole, tmp_path / "damaged", bytes(damaged))
    assert n_found > 5
