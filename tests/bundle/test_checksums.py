"""Digests, and the identity of a space."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from nearlight.bundle.checksums import compute_space_id, file_digest, is_file_name, parse_sums
from nearlight.bundle.errors import BundleCorrupt
from nearlight.bundle.manifest import Towers
from tests.bundle.conftest import IMAGE, TEXT

DIGESTS = {"image.onnx": "a" * 64, "text.onnx": "b" * 64, "tokenizer.json": "c" * 64}
TOWERS = Towers(image=IMAGE, text=TEXT)
PINNED = "6db4acf4360a167604f61884778ef126dddfb06cadfd8393cb0497891add7d43"
PINNED_IMAGE_ONLY = "f39454f8fd863db1a6eeae7c52cdbdc69e5e5aa90234f70767de2d085f8dbf71"


def test_the_space_id_is_pinned() -> None:
    # Stored beside every vector ever indexed: a change of this number orphans them all.
    assert compute_space_id(8, TOWERS, DIGESTS) == PINNED
    assert compute_space_id(8, Towers(image=IMAGE), DIGESTS) == PINNED_IMAGE_ONLY


def changed(tower: str, **changes: Any) -> Towers:
    document = TOWERS.model_dump()
    document[tower].update(changes)
    return Towers.model_validate(document)


@pytest.mark.parametrize(
    "towers",
    [
        changed("image", preprocess={"size_px": 65}),
        changed("image", preprocess={"size_px": 64, "interpolation": "bilinear"}),
        changed("text", context_length=15),
        changed("text", clean="whitespace"),
        changed("text", pad_id=1),
        changed("text", sot_id=1),
        changed("text", eot_id=1),
        Towers(image=IMAGE),
    ],
)
def test_all_that_decides_a_vector_counts(towers: Towers) -> None:
    assert compute_space_id(8, towers, DIGESTS) != compute_space_id(8, TOWERS, DIGESTS)


def test_weights_and_dim_count() -> None:
    ids = {compute_space_id(8, TOWERS, DIGESTS), compute_space_id(9, TOWERS, DIGESTS)}
    ids |= {compute_space_id(8, TOWERS, {**DIGESTS, name: "d" * 64}) for name in DIGESTS}
    assert len(ids) == 5


def test_weights_beside_a_graph_count() -> None:
    beside = changed("image", weights_file="image.onnx.data")
    digests = {**DIGESTS, "image.onnx.data": "e" * 64}
    first = compute_space_id(8, beside, digests)
    assert first != compute_space_id(8, TOWERS, digests)
    assert first != compute_space_id(8, beside, {**digests, "image.onnx.data": "f" * 64})
    text = changed("text", weights_file="image.onnx.data")
    assert compute_space_id(8, text, digests) not in (first, compute_space_id(8, TOWERS, digests))


def test_what_leaves_vectors_as_they_are_does_not_count() -> None:
    assert compute_space_id(8, changed("text", trimmable=False), DIGESTS) == compute_space_id(
        8, TOWERS, DIGESTS
    )


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_sums_of_a_good_file() -> None:
    assert parse_sums(f"{'a' * 64}  x.onnx\n{'b' * 64}  y\n".encode()) == {"x.onnx": "a" * 64, "y": "b" * 64}


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\n",
        b"a" * 63 + b"  short\n",
        b"g" * 64 + b"  nothex\n",
        b"a" * 64 + b"  ../out\n",
        b"a" * 64 + b"  /abs\n",
        b"a" * 64 + b" one-blank\n",
        b"a" * 64 + b"  twice\n" + b"a" * 64 + b"  twice\n",
        b"\xff\xfe",
    ],
)
def test_sums_that_are_wrong(content: bytes) -> None:
    with pytest.raises(BundleCorrupt, match="SHA256SUMS line"):
        parse_sums(content)


def test_plain_file_names() -> None:
    assert all(is_file_name(name) for name in ("image.onnx", "README.md", "a-b_c.9"))
    assert not any(is_file_name(name) for name in ("", ".", "..", "../a", "a/b", ".a", "a\n", "a b"))
