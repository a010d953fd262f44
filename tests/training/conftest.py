"""Small real data and small real towers for the training room."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

# Towers this small gain nothing from a second thread, and two threads that wait for each other beside
# other work lose much.
torch.set_num_threads(1)

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40)}


def jpeg(colour: tuple[int, int, int], seed: int, side: int = 40) -> bytes:
    """A photograph-like JPEG: one colour with noise."""
    noise = np.random.default_rng(seed).normal(0, 25, (side, side, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images with two captions each."""
    names = [list(COLOURS)[i % 4] for i in range(64)]
    table = pa.table(
        {
            "image": [jpeg(COLOURS[n], i) for i, n in enumerate(names)],
            "captions": [[f"a {n} square number {i}", f"picture {i} is {n} ."] for i, n in enumerate(names)],
        }
    )
    path = tmp_path_factory.mktemp("data") / "captioned.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images of four classes."""
    names = [list(COLOURS)[i % 4] for i in range(80)]
    table = pa.table(
        {"image": [jpeg(COLOURS[n], 1000 + i) for i, n in enumerate(names)], "label_name": names}
    )
    path = tmp_path_factory.mktemp("data") / "labelled.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture
def small(captioned: Path, labelled: Path) -> dict[str, Any]:
    """The configuration of a run that takes seconds."""
    return {
        "steps": 6,
        "batch_size": 24,
        "checkpoint_every": 3,
        "log_every": 1,
        "seed": 3,
        "device": "cpu",
        "curves": False,
        "data": {"train": [f"{captioned}@1", f"{labelled}@2"], "cache_px": 40},
        "model": {
            "embed_dim": 16,
            "image_px": 32,
            "vision": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
            "text": {"width": 32, "heads": 2, "layers": 1},
            "context_length": 16,
            "merges": 500,
        },
        "augment": {"brightness": 0.1},
        "optimiser": {"lr": 0.003, "warmup_steps": 2},
    }
