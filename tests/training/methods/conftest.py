"""Configurations small enough for a test of every method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearlight.training.config import RunConfig, load_config

# What makes a method small; the sides of its layers say nothing about whether it is right.
SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"hidden": 32, "projection": 16},
    "supcon": {"hidden": 32, "projection": 16, "cross_entropy": 0.5},
    "moco-v1": {"queue": 50, "projection": 16, "splits": 4},
    "moco-v2": {"queue": 50, "projection": 16, "hidden": 32, "splits": 4},
    "moco-v3": {"hidden": 64, "projection": 32},
    "byol": {"hidden": 64, "projection": 32},
    "simsiam": {"hidden": 64, "projection": 64, "predictor": 16},
    "instdisc": {"negatives": 16, "projection": 16},
    "cmc": {"negatives": 16, "projection": 16},
    "dino": {"prototypes": 32, "hidden": 64, "bottleneck": 16, "freeze_last_epochs": 0.5},
    "cpc": {"ahead": 2, "context": 32, "projection": 16},
    "ce": {"mixup": 0.2, "cutmix": 1.0},
}

Make = Callable[..., RunConfig]


@pytest.fixture
def tiny(small: dict[str, Any], labelled: Path, captioned: Path) -> Make:
    """Makes a configuration of a method that takes seconds; further settings as `key=value`."""

    def make(method: str, *settings: str) -> RunConfig:
        if method in ("clip", "siglip"):
            tree = {key: small[key] for key in ("model", "augment", "data")}
            overrides: dict[str, Any] = {**tree, "optimiser.lr": 0.003}
        else:
            overrides = {
                "data": {"train": [str(labelled)], "cache_px": 32, "cache_limit_mb": 64},
                "encoder": {"name": "resnet10", "stem": "small", "width": 0.25, "image_px": 32},
                "options": SMALL.get(method, {}),
            }
        overrides |= {
            "steps": 6,
            "epochs": None,
            "batch_size": 24,
            "device": "cpu",
            "seed": 3,
            "curves": False,
        }
        overrides |= {"optimiser.warmup_steps": 2, "log_every": 1, "checkpoint_every": 3}
        return load_config(
            None, overrides, ["epochs=null", "optimiser.warmup_epochs=null", *settings], method
        )

    return make
