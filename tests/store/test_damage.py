"""A bit flipped or a page lost anywhere in the database: found, or without effect; never served wrong."""

import json
import random
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import Point, Store, StoreCorrupt, StoreError
from nearlight.store.schema import DATABASE_FILE, PAGE_BYTES

N, DIM = 300, 32


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    rows = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    with Store.open(folder) as store:
        collection = store.create_collection("a", space_id="s", dim=DIM)
        points: list[Point] = []
        for i, row in enumerate(rows):
            key: Any = i if i % 2 else f"id {i}"
            points.append(Point(key, row, {"n": i, "text": f"text of {i} " * 5}))
        collection.upsert(points)
        collection.delete([1, 3, "id 4"])
        collection.set_payload([5], {"n": -5})
        collection.create_payload_index(("n",), "integer")
    return folder


Content = dict[tuple[type, Any], tuple[str, bytes]]


@dataclass(frozen=True)
class Reading:
    """What a store serves: every point page by page, by id, and by search; and what its doctor finds."""

    points: Content
    by_id: set[Any]
    by_search: set[Any]
    damaged_pages: list[str]


def read(folder: Path) -> Reading:
    with Store.open(folder, n_threads=1) as store:
        collection = store.collection("a")
        found: Content = {}
        for record in collection.scroll(limit=2 * N, with_vectors=True)[0]:
            assert record.vector is not None
            found[type(record.id), record.id] = (json.dumps(record.payload), record.vector.tobytes())
        by_id = {(type(one.id), one.id) for one in collection.get([key for _, key in found])}
        [hits] = collection.search(np.ones((1, DIM)), limit=2 * N, with_vectors=True)
        by_search = {(type(hit.id), hit.id) for hit in hits}
        return Reading(found, by_id, by_search, store.damaged_pages())


read_once = cache(read)


def is_found_or_harmless(whole: Path, folder: Path, damaged: bytes) -> bool:
    """Whether damage is noticed (True) or does nothing (False); fails where anything wrong is served.

    What is damaged in an index of SQLite's may hide a point from a scroll or a look-up by id: comparing every
    row with its index at each open would take too long. The doctor finds it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / DATABASE_FILE).write_bytes(damaged)
    try:
        found = read(folder)
    except StoreError:
        return True
    true = read_once(whole)
    assert all(true.points.get(key) == point for key, point in found.points.items())
    if (found.points, found.by_id, found.by_search) != (true.points, true.by_id, true.by_search):
        assert found.damaged_pages
    return bool(found.damaged_pages)


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


@pytest.mark.slow
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
