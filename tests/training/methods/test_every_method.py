"""What holds for every method: it steps, resumes bit for bit, learns, and is read back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nearlight.training.catalogue import method_files, method_line
from nearlight.training.checkpoint import is_encoder_run, load_checkpoint, load_encoder, load_model
from nearlight.training.config import RunConfig, resumed_config
from nearlight.training.method import find_method
from nearlight.training.rehearsal import activation_bytes, estimate_step
from nearlight.training.trainer import Trainer

Make = Callable[..., RunConfig]
METHODS = list(method_files())
EXPECTED = {
    "byol",
    "ce",
    "clip",
    "cmc",
    "cpc",
    "dino",
    "instdisc",
    "invaspread",
    "maxmargin",
    "moco-v1",
    "moco-v2",
    "moco-v3",
    "npairs",
    "siglip",
    "simclr",
    "simsiam",
    "supcon",
    "triplet",
}


def test_the_promised_methods_are_there_and_name_their_papers() -> None:
    assert set(METHODS) >= EXPECTED
    for file in method_files().values():
        assert method_line(file).rstrip(".").endswith(")"), f"{file.name}: no paper in its first line"


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one(method: str, tiny: Make, tmp_path: Path) -> None:
    config = tiny(method)
    assert Trainer(config, tmp_path / "whole").train()
    first = Trainer(config, tmp_path / "parts")
    batches = first._open_data()
    for step in range(3):
        first._step(batches.make(step))
        first.step += 1
    first.save()
    torch.manual_seed(99)  # a fresh process would not have this one's generator either
    assert Trainer(resumed_config(tmp_path / "parts", (), ()), tmp_path / "parts", resume=True).train()
    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole["method"].keys() == parts["method"].keys()
    assert [k for k, v in whole["method"].items() if not torch.equal(v, parts["method"][k])] == []
    assert torch.equal(whole["rng"], parts["rng"])


@pytest.mark.parametrize("method", METHODS)
def test_it_lowers_its_loss_and_is_read_back(method: str, tiny: Make, tmp_path: Path) -> None:
    steady = ["optimiser.name=adamw", "optimiser.lr=0.002", "optimiser.lr_batch_size=null", "batch_size=40"]
    if method not in ("clip", "siglip"):
        steady += ["optimiser.weight_decay=0", "watch.every=5"]
    if method == "instdisc":
        steady.append(
            "options.negatives=0"
        )  # NCE's loss rises at first, while the bank leaves its random start
    config = tiny(method, "steps=20", "log_every=4", *steady)
    trainer = Trainer(config, tmp_path / "run")
    before = {k: v.clone() for k, v in trainer.method.state_dict().items()}
    assert trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first = lines[1 if method.startswith("moco") else 0]  # a queue of random rows is easy to be told from
    assert lines[-1]["mean_loss"] < first["mean_loss"]
    assert any(not torch.equal(v, before[k]) for k, v in trainer.method.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    if is_encoder_run(tmp_path / "run"):
        loaded = load_encoder(tmp_path / "run")
        features = loaded.encoder(images)
        assert features.shape == (2, loaded.dim)
        trained = trainer.method.eval().get_submodule(find_method(method).exported)
        assert torch.equal(features, trained(images))
        if loaded.head is not None:
            assert loaded.head(features).ndim == 2
    else:
        assert load_model(tmp_path / "run").model.encode_image(images).shape == (2, 16)
    kept = {k: v.clone() for k, v in trainer.method.train().state_dict().items()}
    assert activation_bytes(trainer.method, trainer.device) > 10_000  # what a plan says, and leaves no trace
    assert all(torch.equal(v, kept[k]) for k, v in trainer.method.state_dict().items())
    assert 0 < estimate_step(trainer.method, trainer.device) < 60
