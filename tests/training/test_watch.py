import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nearlight.training.config import load_config
from nearlight.training.errors import Collapsed
from nearlight.training.sections import WatchSection
from nearlight.training.trainer import Trainer
from nearlight.training.watch import Watch


def test_it_warns_of_equal_vectors_and_of_a_scale_at_its_bound() -> None:
    watch = Watch(WatchSection(), max_scale=100)
    values, warning = watch.look(torch.randn(64, 8), {})
    assert warning is None
    assert set(values) == {"spread", "effective_rank", "uniformity"}
    for times in (1, 2):
        _, warning = watch.look(torch.ones(64, 8) + 1e-4 * torch.randn(64, 8), {})
        assert warning is not None
        assert "collapsing" in warning
        assert watch.bad == times
    _, warning = watch.look(torch.randn(64, 8), {"logit_scale": 100.0})
    assert warning is not None
    assert "bound" in warning
    assert watch.bad == 0


def test_a_run_that_collapses_stops_if_told_to(labelled: Path, tmp_path: Path) -> None:
    data: dict[str, Any] = {"train": [str(labelled)], "cache_px": 16}
    encoder = {"name": "resnet10", "image_px": 16, "stem": "small", "width": 0.125}
    settings = ["epochs=null", "optimiser.warmup_epochs=null", "steps=20", "batch_size=16", "device=cpu"]
    settings += ["watch.every=1", "watch.stop=true", "options.hidden=16", "options.projection=8"]
    config = load_config(None, {"data": data, "encoder": encoder}, settings, "simclr")
    trainer = Trainer(config, tmp_path / "run")
    with torch.no_grad():
        trainer.method.get_parameter("head.3.weight").zero_()  # all vectors are the last bias
        trainer.method.get_parameter("head.3.bias").fill_(100)
    with pytest.raises(Collapsed, match="stopped at step 3"):
        trainer.train()
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["watch"]["stop"] is True
