"""Points as columns: checked and written as if they came one by one."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import (
    Collection,
    InvalidPoint,
    Point,
    PointId,
    Store,
    Terms,
    checked_block,
    payload_from_json,
    validate_point,
)
from nearlight.store.validation import prepare
from tests.store.two_models import DIMS, point, target

DIM = 4
ODD_IDS: list[PointId] = [0, 2**63, 2**64 - 1, 7, "7", "\0", "a\0b", "a", "\U0001f600é", "\\u0041", '"', "-1"]
PAYLOADS: list[bytes | str] = [
    b"",
    "{}",
    b'{"a": [1, {"b": null}], "big": 18446744073709551616}',
    '{"f": 1e-3, "text": "\\ud83d\\ude00 \\u0000"}',
    json.dumps({"deep": "[" * 90}),
    b'{"x": ' + b"[" * 62 + b"]" * 62 + b"}",
]
BAD_PAYLOADS: list[bytes | str] = [
    b"[]",
    b"{",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": 1, "a": 2}',
    b'{"s": "\\ud800"}',
    b"\xff",
    b'{"x": ' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"x": ' + b"[" * 9000 + b"]" * 9000 + b"}",
    b'{"s": "' + b"x" * 2**20 + b'"}',
]
BAD_IDS: list[Any] = ["", "x" * 513, "\ud800", -1, 2**64, True, 1.5, None]
NAN, INF = np.nan, np.inf
BAD_ROWS: list[list[float]] = [[0, 0, 0, 0], [NAN, 1, 1, 1], [1, INF, 1, 1], [-INF, NAN, 0, 0]]
LONG_ROWS: list[list[float]] = [
    [3e38, 3e38, 3e38, 3e38],
    [1e-45, 0, 0, 0],
    [3, 4, 0, 0],
    [1, 0, 0, 0],
    [1 + 5e-7, 0, 0, 0],
]


def random_rows(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    rows = rng.standard_normal((n, DIM)).astype(np.float32)
    for i in range(n):
        if rng.random() < 0.5:
            rows[i] = LONG_ROWS[rng.integers(len(LONG_ROWS))]
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_a_block_is_prepared_as_its_points_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [ODD_IDS[i] for i in rng.integers(len(ODD_IDS), size=60)]
    rows = random_rows(rng, 60)
    payloads = [PAYLOADS[i] for i in rng.integers(len(PAYLOADS), size=60)]
    block, kept, faults = checked_block(ids, rows, payloads)
    assert (kept, faults) == (list(range(60)), [])
    alone = [Point(i, row, payload_from_json(p)) for i, row, p in zip(ids, rows, payloads, strict=True)]
    made, expected = block.batch(), prepare(alone, DIM)
    assert made.keys == expected.keys
    assert made.payloads == expected.payloads
    assert made.contents == expected.contents
    assert made.vectors.tobytes() == expected.vectors.tobytes()
    assert made.vector_checksums.tolist() == expected.vector_checksums.tolist()
    assert list(made.perceptual_hashes) == list(expected.perceptual_hashes)
    assert made.rows == expected.rows
    assert [(one.id, one.payload) for one in block] == [(one.id, one.payload) for one in alone]


def fault_of(point_id: Any, row: Any, payload: bytes | str, i: int) -> str | None:
    """What is wrong with a point that comes alone."""
    try:
        validate_point(Point(point_id, np.array(row, np.float32), {}), DIM, i)
        payload_from_json(payload, i)
    except InvalidPoint as error:
        return str(error)
    return None


def test_a_bad_point_fails_alone_and_with_the_words_of_a_single_one() -> None:
    rng = np.random.default_rng(5)
    bad: list[tuple[Any, Any, bytes | str]] = [
        *((point_id, LONG_ROWS[0], b"") for point_id in BAD_IDS),
        *((1, row, b"") for row in BAD_ROWS),
        *((1, LONG_ROWS[2], payload) for payload in BAD_PAYLOADS),
    ]
    given = [*bad, *((i, LONG_ROWS[i % 5], PAYLOADS[i % 6]) for i in range(20))]
    given = [given[i] for i in rng.permutation(len(given))]
    expected = {i: why for i, one in enumerate(given) if (why := fault_of(*one, i)) is not None}
    ids, rows, payloads = zip(*given, strict=True)
    block, kept, faults = checked_block(ids, np.array(rows, np.float32), payloads)
    assert {fault.index: str(fault) for fault in faults} == expected
    assert len(expected) == len(bad)
    assert kept == [i for i in range(len(given)) if i not in expected]
    assert list(block.ids) == [ids[i] for i in kept]


def test_a_block_knows_the_limit_of_payloads() -> None:
    rows = np.eye(2, DIM, dtype=np.float32)
    _, kept, (fault,) = checked_block([1, 2], rows, [b'{"a":1}', b'{"a":10}'], max_payload_bytes=7)
    assert (kept, str(fault)) == ([0], "points[1].payload is 8 bytes of JSON; the limit is 7")


def content(collection: Collection) -> dict[PointId, Any]:
    records, _ = collection.scroll(limit=1000, with_vectors=True)
    return {one.id: (one.payload, None if one.vector is None else one.vector.tobytes()) for one in records}


def test_blocks_and_points_write_the_same(store: Store) -> None:
    one, other = (store.create_collection(name, space_id="s", dim=DIM) for name in ("one", "other"))
    rng = np.random.default_rng(9)
    for size in (1, 3, 12, 200, 64, 700):
        ids = [ODD_IDS[i] if i < len(ODD_IDS) else f"{i}" for i in rng.integers(400, size=size)]
        rows = random_rows(rng, size)
        block, _, _ = checked_block(ids, rows, [])
        done = one.upsert_on(Terms(), block)
        last = other.upsert([Point(i, row, {}) for i, row in zip(ids, rows, strict=True)])
        assert done.seq == one.info.last_seq
        assert other.info.last_seq == last
        assert content(one) == content(other)
        assert one.count() == other.count() == len(content(one))
        assert one.verify().problems == []
    assert one.delete(ODD_IDS) == other.delete(ODD_IDS)
    assert content(one) == content(other)


@pytest.mark.parametrize("mode", ["insert", "update"])
def test_blocks_come_on_terms(collection: Collection, mode: Any) -> None:
    collection.upsert([Point(i, np.ones(DIM), {}) for i in range(0, 40, 2)])
    block, _, _ = checked_block(range(40), np.ones((40, DIM), np.float32), [])
    refused = {refusal.index for refusal in collection.upsert_on(Terms(mode), block).refused}
    assert refused == set(range(0 if mode == "insert" else 1, 40, 2))
    assert collection.count() == (40 if mode == "insert" else 20)


def test_while_the_model_changes_a_block_waits_to_be_embedded_anew(store: Store) -> None:
    made = store.create_collection("c", space_id="old", dim=DIMS["old"], keeps_originals=True)
    made.upsert([point(made, "3", "three")])
    store.upgrades.start("c", target("new"))
    block, _, _ = checked_block([f"{i}" for i in range(20)], np.ones((20, DIMS["old"]), np.float32), [])
    made.upsert_on(Terms(), block)
    assert (store.upgrades.counts("c").wanted, made.count()) == (20, 20)
    assert made.verify().problems == []


def test_a_block_of_another_dim_is_refused(collection: Collection) -> None:
    block, _, _ = checked_block([1], np.ones((1, DIM + 1), np.float32), [])
    with pytest.raises(InvalidPoint, match=r"shape \(5,\); the collection's dim is 4"):
        collection.upsert_on(Terms(), block)
