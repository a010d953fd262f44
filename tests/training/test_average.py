from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nearlight.training.average import WeightAverage
from nearlight.training.checkpoint import load_checkpoint, load_encoder
from nearlight.training.config import load_config, resumed_config
from nearlight.training.trainer import Trainer

Make = Callable[..., Trainer]


@pytest.fixture
def make(labelled: Path, tmp_path: Path) -> Make:
    """Makes a small run."""

    def trainer(name: str, *settings: str) -> Trainer:
        overrides: dict[str, Any] = {
            "data": {"train": [str(labelled)], "cache_px": 16},
            "encoder": {"name": "resnet10", "stem": "small", "width": 0.125, "image_px": 16},
            "options": {"hidden": 16, "projection": 8},
            "device": "cpu",
            "curves": False,
        }
        small = ["epochs=null", "optimiser.warmup_epochs=null", "batch_size=16", "steps=4"]
        return Trainer(load_config(None, overrides, [*small, *settings], "simclr"), tmp_path / name)

    return trainer


def test_the_average_by_hand_and_the_training_unchanged_by_it(make: Make, tmp_path: Path) -> None:
    run, plain = make("run", "ema=0.6"), make("plain")
    expected = {
        n: w.clone() for n, w in run.method.state_dict().items() if n.startswith(("encoder.", "head."))
    }
    batches = run._open_data()
    for batch in batches.ahead(0, 4):
        run._step(batch)
        decay = min(0.6, (1 + batch.step) / (10 + batch.step))
        for name, value in run.method.state_dict().items():
            if name in expected and value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            elif name in expected:
                expected[name] = value.clone()
    assert run.average is not None
    for name, value in expected.items():
        torch.testing.assert_close(run.average.weights[name], value, atol=1e-6, rtol=1e-5)
    assert plain.train()
    for name, value in plain.method.state_dict().items():
        assert torch.equal(value, run.method.state_dict()[name])


def test_it_is_saved_resumed_evaluated_and_loaded(make: Make, tmp_path: Path) -> None:
    whole, parts = make("whole", "ema=0.9"), make("parts", "ema=0.9")
    assert whole.train()
    for batch in parts._open_data().ahead(0, 2):
        parts._step(batch)
        parts.step += 1
    parts.save()
    again = Trainer(resumed_config(tmp_path / "parts", (), ()), tmp_path / "parts", resume=True)
    assert again.train()
    assert whole.average is not None
    assert again.average is not None
    for name, value in whole.average.weights.items():
        assert torch.equal(value, again.average.weights[name]), name
    saved = load_checkpoint(tmp_path / "whole")["average"]
    loaded = load_encoder(tmp_path / "whole").encoder.state_dict()
    trained = whole.method.get_submodule("encoder").state_dict()
    assert all(torch.equal(loaded[n], saved[f"encoder.{n}"]) for n in loaded)
    assert any(not torch.equal(loaded[n], trained[n]) for n in loaded)
    with whole.average.applied():
        inside = whole.method.get_submodule("encoder").state_dict()
        assert all(torch.equal(inside[n], loaded[n]) for n in loaded)
    after = whole.method.get_submodule("encoder").state_dict()
    assert all(torch.equal(after[n], trained[n]) for n in loaded)


def test_it_stays_in_float32(make: Make) -> None:
    run = make("half")
    run.method.to(torch.bfloat16)
    average = WeightAverage(run.method, 0.999)
    average.update(10_000)
    kinds = {w.dtype for w in average.weights.values() if w.is_floating_point()}
    assert kinds == {torch.float32}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_parts_train_alike_and_keep_their_names(make: Make) -> None:
    plain, traced = make("plain", "precision=fp32"), make("traced", "precision=fp32", "compile=aot_eager")
    assert plain.method.state_dict().keys() == traced.method.state_dict().keys()
    assert traced.method.get_submodule("encoder")._compiled_call_impl is not None
    assert plain.train()
    assert traced.train()
    for name, value in plain.method.state_dict().items():
        torch.testing.assert_close(value, traced.method.state_dict()[name], atol=1e-4, rtol=1e-3)
