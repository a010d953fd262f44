import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from nearlight.training.checkpoint import load_checkpoint
from nearlight.training.config import check_config, resumed_config
from nearlight.training.errors import CheckpointError, ConfigError, Diverged
from nearlight.training.trainer import Trainer


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run)["method"]
    return state


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivers a real SIGINT to the process when a step has been done."""
    taken = Trainer._step

    def step_then_signal(self: Trainer, batch: Any) -> dict[str, float]:
        values = taken(self, batch)
        if batch.step == step:
            signal.raise_signal(signal.SIGINT)
        return values

    monkeypatch.setattr(Trainer, "_step", step_then_signal)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, small: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = check_config({**small, "precision": precision})
    assert Trainer(config, tmp_path / "whole").train()
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert not Trainer(config, tmp_path / "parts").train()
    assert load_checkpoint(tmp_path / "parts")["step"] == 4
    assert Trainer(resumed_config(tmp_path / "parts", (), ()), tmp_path / "parts", resume=True).train()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    moments = [load_checkpoint(tmp_path / run)["optimiser"]["state"] for run in ("whole", "parts")]
    for index, values in moments[0].items():
        assert torch.equal(values["exp_avg_sq"], moments[1][index]["exp_avg_sq"])
    assert steps_of(tmp_path / "parts") == steps_of(tmp_path / "whole") == [1, 2, 3, 4, 5, 6]


def test_it_learns_and_reports(tmp_path: Path, small: dict[str, Any], labelled: Path) -> None:
    small |= {"steps": 60, "checkpoint_every": 60, "log_every": 20}
    small["data"] |= {"val": [str(labelled)]}
    run = tmp_path / "run"
    assert Trainer(check_config(small), run).train()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[2]["mean_loss"] < 0.8 * rows[0]["mean_loss"]
    assert rows[-1]["labelled/top1"] > 60  # of four colours; chance is 25
    assert rows[2]["images_per_s"] > 0
    assert list((run / "tensorboard").iterdir())


def test_a_run_is_not_overwritten_nor_made_up(tmp_path: Path, small: dict[str, Any]) -> None:
    config = check_config(small)
    Trainer(config, tmp_path / "run").save()
    with pytest.raises(CheckpointError, match="already holds a run"):
        Trainer(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Trainer(config, tmp_path / "none", resume=True)
    other = check_config({**small, "model": {**small["model"], "embed_dim": 8}})
    with pytest.raises(CheckpointError, match="does not fit"):
        Trainer(other, tmp_path / "run", resume=True)
    done = Trainer(config, tmp_path / "done")
    done.step = 5
    done.save()
    with pytest.raises(ConfigError, match="steps = 4: .*done has done 5 already"):
        Trainer(config.model_copy(update={"steps": 4}), tmp_path / "done", resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    trainer = Trainer(check_config(small), tmp_path / "run")
    trainer.save()
    with torch.no_grad():
        trainer.method.get_parameter("towers.text_projection").fill_(float("nan"))
    with pytest.raises(Diverged, match="step 0"):
        trainer.train()
    kept = weights(tmp_path / "run")["towers.text_projection"]
    assert bool(kept.isfinite().all())


def test_the_logit_scale_stays_in_its_bounds(tmp_path: Path, small: dict[str, Any]) -> None:
    trainer = Trainer(check_config(small), tmp_path / "run")
    for value, kept in ((9.0, 100.0), (-3.0, 1.0)):
        trainer.method.get_parameter("towers.logit_scale").data.fill_(value)
        trainer.method.after_step(0)
        assert trainer.method.get_parameter("towers.logit_scale").exp().item() == pytest.approx(kept)
