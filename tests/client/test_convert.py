"""Values survive the wire, and what cannot be right never reaches it."""

import math
import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearlight.client import InvalidInput, Point, convert
from nearlight.v1 import input_pb2, vector_pb2

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=4))
def test_payload_survives(payload: dict[str, Any]) -> None:
    assert convert.json_from_wire(convert.json_for_wire(payload)) == payload


def test_an_image_beyond_all_measure_is_refused_before_it_is_copied() -> None:
    image = memoryview(mmap.mmap(-1, 2**30 + 1))  # pages that are never touched take no memory
    with pytest.raises(InvalidInput, match=f"{2**30 + 1} bytes; the limit is {2**30}"):
        convert.image_for_wire(image)  # type: ignore[arg-type]


def test_integers_of_a_payload_stay_exact() -> None:
    assert convert.json_from_wire(convert.json_for_wire({"n": 2**53 + 1}))["n"] == 2**53 + 1


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes", object(), "\ud800"])
def test_payload_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="payload cannot be JSON"):
        convert.json_for_wire({"key": value})


@given(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda s: len(s.encode()) <= 512)
    | st.integers(0, 2**64 - 1)
)
def test_id_survives(point_id: str | int) -> None:
    back = convert.id_from_wire(convert.id_for_wire(point_id))
    assert back == point_id
    assert type(back) is type(point_id)


@pytest.mark.parametrize(
    ("point_id", "said"),
    [
        ("", "0 bytes"),
        ("é" * 257, "514 bytes"),
        (-1, "-1"),
        (2**64, str(2**64)),
        (1.5, "float"),
        (True, "bool"),
        ("\ud800", "Unicode"),
    ],
)
def test_bad_ids_are_named(point_id: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        convert.id_for_wire(point_id)


def test_numpy_integers_are_ids() -> None:
    assert convert.id_from_wire(convert.id_for_wire(np.int64(7))) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [[1.0, -2.5], np.arange(6, dtype=np.float64)[::2], np.arange(3, dtype=">f4")]
)
def test_vector_is_little_endian_float32(numbers: Any) -> None:
    message = convert.vector_for_wire(numbers)
    assert message.data == np.asarray(numbers).astype("<f4").tobytes()
    assert message.dim == len(numbers)
    assert convert.vector_from_wire(message).tolist() == list(numbers)


@pytest.mark.parametrize("numbers", [[], [[1.0, 2.0]], ["a"], 3.0])
def test_vector_of_another_shape_is_refused(numbers: Any) -> None:
    with pytest.raises(InvalidInput, match="vector"):
        convert.vector_for_wire(numbers)


def test_half_precision_is_read() -> None:
    rows = np.array([[0.5, -1.0], [2.0, 0.25]], "<f2")
    block = vector_pb2.VectorBlock(data=rows.tobytes(), dtype=vector_pb2.DTYPE_F16, dim=2, count=2)
    found = convert.block_from_wire(block)
    assert found.dtype == np.float32
    assert found.tolist() == rows.tolist()
    found[0, 0] = 9  # a copy of its own, that may be written


@pytest.mark.parametrize("sources", [{}, {"text": "a", "vector": [1.0]}])
def test_a_point_has_exactly_one_source(sources: Any) -> None:
    with pytest.raises(InvalidInput, match="exactly one"):
        Point(id=1, **sources)


def test_labels_with_words() -> None:
    labels = convert.labels_for_wire({"cat": ["cat", "kitten"], "dog": []}, ["a photo of a {}."])
    assert [(label.name, list(label.words)) for label in labels.labels] == [
        ("cat", ["cat", "kitten"]),
        ("dog", []),
    ]
    assert list(labels.templates) == ["a photo of a {}."]


def test_an_items_error_speaks_of_the_callers_list() -> None:
    wire = input_pb2.ItemError(
        index=1, code=3, message="inputs[1].image: 9 bytes; 4 at most", field="inputs[1].image"
    )
    error = convert.item_error_from_wire(wire, 65)
    assert (error.index, error.code, error.field) == (65, "INVALID_ARGUMENT", "inputs[65].image")
    assert error.message == "9 bytes; 4 at most"
    assert str(error) == "[65] 9 bytes; 4 at most (INVALID_ARGUMENT)"
