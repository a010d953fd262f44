"""The fingerprint stays when a picture is saved differently, and differs between pictures."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

from nearlight.server.perceptual_hash import SIDE, perceptual_hash


def naive_hash(grey: np.ndarray) -> int:
    """Definition: the sums of DCT-II term by term, then the bits one by one."""
    places = np.arange(SIDE)
    low = np.empty((8, 8))
    for u in range(8):
        for v in range(8):
            rows = np.cos(np.pi * u * (2 * places + 1) / (2 * SIDE)) * (1 if u else 2**-0.5)
            columns = np.cos(np.pi * v * (2 * places + 1) / (2 * SIDE)) * (1 if v else 2**-0.5)
            low[u, v] = sum(rows[i] * columns[j] * grey[i, j] for i in range(SIDE) for j in range(SIDE))
    values = low.ravel().tolist()
    median = sorted(values[1:])[31]
    return sum(1 << i for i, value in enumerate(values) if value > median)


def test_it_is_the_definition_on_a_grey_square() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    image = Image.fromarray(np.stack([grey] * 3, axis=2))
    assert perceptual_hash(image) == naive_hash(grey.astype(np.float64))


@pytest.mark.parametrize("colour", ["black", "white", (10, 200, 30)])
def test_a_plain_colour_has_none(colour: str) -> None:
    assert perceptual_hash(Image.new("RGB", (200, 100), colour)) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (33, 31), (64, 64), (65, 64)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    found = perceptual_hash(Image.fromarray(pixels))
    assert found is None or 0 <= found < 2**64


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 20": lambda image: saved(image, 20),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def test_photographs_keep_it_when_edited_and_differ_from_each_other(data_folder: Path) -> None:
    stored = pq.read_table(data_folder / "flickr8k-val.parquet", columns=["image"]).slice(0, 60)
    rows: list[Any] = stored["image"].to_pylist()
    contents = [row["bytes"] if isinstance(row, dict) else row for row in rows]
    photographs = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    hashes = [perceptual_hash(one) or 0 for one in photographs]
    assert min((a ^ b).bit_count() for a, b in combinations(hashes, 2)) > 8
    for edit in EDITS.values():
        moved = [
            ((perceptual_hash(edit(one)) or 0) ^ look).bit_count()
            for one, look in zip(photographs, hashes, strict=True)
        ]
        assert sorted(moved)[57] <= 8  # 95 of 100
        assert np.mean(moved) <= 3
