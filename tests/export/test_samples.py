"""What parity is proven on."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nearlight.bundle.manifest import ImagePreprocess
from nearlight.export.errors import SourceError
from nearlight.export.samples import MAX_TEXTS, gather

SPEC = ImagePreprocess(size_px=24)


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 40), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def parquet(path: Path, images: list[bytes], **columns: object) -> str:
    pq.write_table(pa.table({"image": images, **columns}), path)
    return str(path)


def test_captions_of_the_users_own(tmp_path: Path) -> None:
    images = [png(n) for n in range(20)]
    images[3] = b"not an image"
    spec = parquet(tmp_path / "mine.parquet", images, captions=[[f"picture {n}"] * 100 for n in range(20)])
    samples = gather(spec, (), SPEC)
    assert samples.pixels.shape == (19, 24, 24, 3)
    assert samples.pixels[:, 0, 0, 0].tolist() == [n for n in range(20) if n != 3]
    assert len(samples.texts) == MAX_TEXTS + samples.pairs.count(-1)
    assert [samples.texts[n] for n in range(len(samples.pairs)) if samples.pairs[n] == 0] == [
        "picture 0"
    ] * 53
    assert "picture 0" in samples.texts
    assert samples.origin == "mine: 19 images, 1008 texts"


def test_class_names_become_prompts(tmp_path: Path) -> None:
    spec = parquet(tmp_path / "classes.parquet", [png(1), png(2)], label_name=["fox", "owl"])
    assert "a photo of a owl." in gather(spec, (), SPEC).texts


def test_large_sources_are_sampled_evenly(tmp_path: Path) -> None:
    images = [png(n // 3) for n in range(768)]
    spec = parquet(tmp_path / "large.parquet", images, label_name=["x"] * 768)
    assert gather(spec, (), SPEC).pixels[:, 0, 0, 0].tolist() == list(range(256))


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        gather(str(tmp_path / "absent.parquet"), (), SPEC)
    with pytest.raises(SourceError, match="none of its 1 images can be read"):
        gather(parquet(tmp_path / "bad.parquet", [b"x"], label_name=["x"]), (), SPEC)


def test_generated_when_the_data_has_gone(tmp_path: Path) -> None:
    moved = [str(tmp_path / "moved.parquet"), parquet(tmp_path / "bad.parquet", [b"x"], label_name=["x"])]
    first, second = gather(None, moved, SPEC), gather(None, (), SPEC)
    assert first.origin.startswith("generated")
    assert np.array_equal(first.pixels, second.pixels)
    assert first.pixels.shape == (64, 24, 24, 3)
    assert first.pixels.std(axis=(1, 2, 3)).min() > 3
    assert len(first.texts) > 200


def test_the_runs_own_data_is_preferred(tmp_path: Path) -> None:
    own = parquet(tmp_path / "own.parquet", [png(9)], label_name=["x"])
    assert gather(None, (str(tmp_path / "moved"), own), SPEC).origin.startswith("own: 1 images")


def test_plain_images_are_proven_with_built_in_texts(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    samples = gather(str(tmp_path), (), SPEC)
    assert samples.pixels.shape[0] == 3
    assert "a photo of a dog." in samples.texts
    assert (samples.pairs, len(samples.labels)) == ([], 30)
    assert samples.origin.endswith(f"3 images, {len(samples.texts)} built-in texts")
