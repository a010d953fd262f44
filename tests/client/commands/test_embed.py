"""`nearlight embed`."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def test_files_and_texts_in_order(nearlight: Any, tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").write_bytes(b"jpeg")
    out = tmp_path / "vectors.npy"
    result = nearlight("embed", tmp_path / "dog.jpg", "a dog", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": str(out), "count": 2, "dim": 4, "model": "a", "space_id": "s", "errors": []
    }  # fmt: skip
    vectors = np.load(out)
    assert vectors.dtype == np.float32
    assert vectors[:, 0].tolist() == [4, 5]


def test_a_bad_input_is_nan_and_named(nearlight: Any, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    result = nearlight("embed", "good", "bad", "--out", out)
    assert result.exit_code == 1
    assert "bad: is bad" in result.stderr
    assert np.isnan(np.load(out)).any(axis=1).tolist() == [False, True]


def test_a_missing_image_is_not_taken_for_a_text(nearlight: Any, tmp_path: Path) -> None:
    result = nearlight("embed", "missing.jpg", "--out", tmp_path / "v.npy")
    assert result.exit_code == 2
    assert "no such file" in result.stderr


def test_a_place_that_cannot_be_written_is_noticed_before_the_work(
    nearlight: Any, fake: Any, tmp_path: Path
) -> None:
    result = nearlight("embed", "a dog", "--out", tmp_path / "nowhere" / "v.npy")
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr
    assert fake.script.requests("Embed") == []


def test_a_long_text_is_a_text(nearlight: Any, tmp_path: Path) -> None:
    assert nearlight("embed", "long " * 20_000, "--out", tmp_path / "v.npy").exit_code == 0
