from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearlight.training.errors import DataError
from nearlight.training.evaluation import retrieval, zero_shot
from nearlight.training.sources import Source, open_source

Vectors = npt.NDArray[np.float32]


@dataclass
class Hashed:
    """Vectors that depend on the text or row alone, so that an oracle can work out the right answers."""

    seed: int = 0

    def images(self, source: Source) -> Vectors:
        return np.stack([self._vector(f"image {row}") for row in range(len(source))])

    def texts(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, key: str) -> Vectors:
        rng = np.random.default_rng([self.seed, *key.encode()])
        vector = rng.normal(size=6).astype(np.float32)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def source_of(tmp_path: Path, **columns: list[Any]) -> Source:
    path = tmp_path / "s.parquet"
    rows = len(next(iter(columns.values())))
    columns["image"] = [b""] * rows
    pq.write_table(pa.table(columns), path)
    return open_source(str(path))


def test_zero_shot_equals_the_loop(tmp_path: Path) -> None:
    names = [f"class {i % 7}" for i in range(50)]
    source = source_of(tmp_path, label_name=names)
    templates = ["a {}", "one {}", "the {}."]
    found = zero_shot(Hashed(), source, templates)
    embedder, top1, top5 = Hashed(), 0, 0
    classes = sorted(set(names))
    for row, name in enumerate(names):
        image = embedder.images(source)[row]
        scores = []
        for label in classes:
            mean = sum(embedder.texts([t.format(label)])[0] for t in templates) / len(templates)
            scores.append(float(image @ (mean / np.linalg.norm(mean))))
        order = sorted(range(len(classes)), key=lambda i: -scores[i])
        top1 += classes[order[0]] == name
        top5 += name in [classes[i] for i in order[:5]]
    assert found == {"top1": 2.0 * top1, "top5": 2.0 * top5, "classes": 7, "images": 50}


def test_retrieval_equals_the_loop(tmp_path: Path) -> None:
    captions = [[f"caption {i} {j}" for j in range(1 + i % 3)] for i in range(30)]
    source = source_of(tmp_path, captions=captions)
    found = retrieval(Hashed(1), source, ks=(1, 5))
    embedder = Hashed(1)
    images = embedder.images(source)
    flat = [(i, text) for i, said in enumerate(captions) for text in said]
    texts = embedder.texts([text for _, text in flat])
    for k in (1, 5):
        hits = sum(owner in np.argsort(-(images @ texts[t]))[:k] for t, (owner, _) in enumerate(flat))
        assert found[f"text_to_image_r{k}"] == pytest.approx(100 * hits / len(flat))
        back = sum(any(flat[t][0] == i for t in np.argsort(-(texts @ images[i]))[:k]) for i in range(30))
        assert found[f"image_to_text_r{k}"] == pytest.approx(100 * back / 30)


def test_a_task_needs_its_kind_of_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="zero-shot needs a label_name"):
        zero_shot(Hashed(), source_of(tmp_path, captions=[["a"], ["b"]]), ["{}"])
    with pytest.raises(DataError, match="at least two classes"):
        zero_shot(Hashed(), source_of(tmp_path, label_name=["a", "a"]), ["{}"])
    with pytest.raises(DataError, match="needs captions"):
        retrieval(Hashed(), source_of(tmp_path, label_name=["a", "b"]))
