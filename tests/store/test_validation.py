import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.store import InvalidPoint, Point, payload_from_json, validate_point
from nearlight.store.validation import MAX_PAYLOAD_BYTES, payload_text, prepare, unit_rows, vector_checksums

ONE = np.array([1, 0, 0, 0], np.float32)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


def deep(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.ones(3, np.float32), r"vector is of shape \(3,\); the collection's dim is 4"),
        (np.ones((1, 4), np.float32), r"vector is of shape \(1, 4\)"),
        ([1, 2, float("nan"), 4], r"vector is nan at \[2\]; its values must be finite"),
        ([1, float("-inf"), 3, 4], r"vector is -inf at \[1\]"),
        ([1e300, 0, 0, 0], r"vector is inf at \[0\]"),
        ([0, 0, 0, 0], "vector is all zeros"),
        ([1e-60, 0, 0, 0], "vector is all zeros"),
        (["a", "b", "c", "d"], "vector is of type <U1; it must hold real numbers"),
        ([1j, 0, 0, 0], "vector is of type complex128"),
        ([True, False, True, True], "vector is of type bool"),
        (None, "vector is of type object"),
    ],
)
def test_a_bad_vector_is_refused_by_name_value_and_limit(vector: Any, message: str) -> None:
    with pytest.raises(InvalidPoint, match=message):
        validate_point(Point("a", vector, {}), 4)
    with pytest.raises(InvalidPoint, match=r"points\[1\]\." + message):
        prepare([Point("a", ONE, {}), Point("b", vector, {})], 4)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "payload is a list; it must be a JSON object"),
        (None, "payload is a NoneType; it must be a JSON object"),
        ({"a": float("nan")}, "payload.a is nan; JSON has no NaN and no infinity"),
        ({"a": [1, {"b": float("inf")}]}, r"payload.a\[1\].b is inf"),
        ({1: 2}, "payload is an object with the key 1; the keys of a JSON object are strings"),
        ({"a": b"x"}, "payload.a is a bytes; JSON has no such value"),
        ({"a": np.float32(1)}, "payload.a is a float32; JSON has no such value"),
        ({"a": "\ud800"}, r"payload is text with '\\ud800'; lone surrogates"),
        ({"\udfff": 1}, "lone surrogates"),
        (deep(65), "payload is nested too deep; the limit is 64 levels"),
        (deep(100_000), "payload is nested too deep"),
        ({"a": "x" * MAX_PAYLOAD_BYTES}, "payload is 1048584 bytes of JSON; the limit is 1048576"),
        ({"a": 10**5000}, "payload is .*; it must be writable as JSON"),
    ],
)
def test_a_bad_payload_is_refused_by_name_value_and_limit(payload: Any, message: str) -> None:
    with pytest.raises(InvalidPoint, match=message) as caught:
        validate_point(Point("a", ONE, payload), 4, 5)
    assert caught.value.index == 5
    str(caught.value).encode()


def test_the_deepest_and_the_biggest_payload_are_accepted() -> None:
    validate_point(Point("a", ONE, deep(64)), 4)
    validate_point(Point("a", ONE, {"a": "x" * (MAX_PAYLOAD_BYTES - 8)}), 4)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=5))
def test_a_payload_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    text = payload_text(payload)
    assert json.loads(text) == payload
    assert payload_from_json(text.encode()) == payload


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1]", "payload is a JSON list"),
        (b"{", "payload is not valid JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1e999}', "payload.a is inf"),
        (b'{"a": 1, "a": 2}', "a key appears twice"),
        (b'"\xff"', "payload is not valid JSON"),
        (b'{"a": "\\ud800"}', "lone surrogates"),
        (b'{"a":' * 100_000, "payload is nested too deep"),
        (b" " * (MAX_PAYLOAD_BYTES + 1), "the limit is 1048576"),
    ],
)
def test_payload_text_is_parsed_strictly(text: bytes, message: str) -> None:
    with pytest.raises(InvalidPoint, match=message):
        payload_from_json(text, 0)


def test_no_payload_text_is_an_empty_payload() -> None:
    assert payload_from_json(b"") == {}


def test_the_last_of_the_same_id_wins() -> None:
    points = [
        Point("a", ONE, {"n": 0}),
        Point("b", ONE, {"n": 1}),
        Point("a", -ONE, {"n": 2}),
        Point(7, ONE, {}),
    ]
    batch = prepare([*points, Point("7", ONE, {})], 4)
    assert [json.loads(text).get("n") for text in batch.payloads] == [1, 2, None, None]
    assert batch.vectors[1].tolist() == (-ONE).tolist()


def test_vectors_become_unit_length_and_then_keep_their_bits() -> None:
    rng = np.random.default_rng(0)
    rows = (
        rng.standard_normal((100, 512)).astype(np.float32)
        * np.logspace(-30, 30, 100, dtype=np.float32)[:, None]
    )
    unit = unit_rows(rows)
    assert np.abs(np.linalg.norm(unit.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert unit_rows(unit).tobytes() == unit.tobytes()


@given(st.integers(0, 4 * 8 * 16 - 1))
def test_a_checksum_notices_every_changed_bit(bit: int) -> None:
    vectors = np.random.default_rng(1).standard_normal((1, 16)).astype(np.float32)
    damaged = bytearray(vectors.tobytes())
    damaged[bit // 8] ^= 1 << bit % 8
    other = np.frombuffer(bytes(damaged), np.float32).reshape(1, 16)
    assert vector_checksums(vectors)[0] != vector_checksums(other)[0]
