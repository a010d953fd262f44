import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nearlight.training import reproduce as reproducing
from nearlight.training.experiment_commands import reproduce_app
from nearlight.training.reproduce import METHODS, choose_methods, table

SMALL = [
    *("--encoder.name", "resnet10", "--encoder.stem", "small", "--encoder.width", "0.125"),
    *("--encoder.image_px", "16", "--batch-size", "16", "--data.cache_px", "16"),
]


@pytest.fixture
def data(labelled: Path, tmp_path: Path) -> Path:
    """Four colours under the names of CIFAR-10."""
    for part in ("train", "test"):
        (tmp_path / f"cifar10-{part}.parquet").write_bytes(labelled.read_bytes())
    return tmp_path


def test_methods_share_the_time_and_stand_beside_published_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducing, "time_step", lambda config, facts: 0.1)
    out = tmp_path / "out"
    arguments = [
        "cifar10",
        "--data",
        str(data),
        "--out",
        str(out),
        "--methods",
        "simclr,ce",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(reproduce_app, [*arguments, "--minutes", "0.1", *SMALL])
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "table.json").read_text())["rows"]
    # 6 s for two methods: 3 s · 0.85 at half a second an epoch of five steps.
    assert rows["simclr"]["epochs"] == pytest.approx(5.1, abs=0.4)
    assert rows["ce"]["linear_top1"] >= 50
    assert 0 < rows["simclr"]["measuring_minutes"] <= rows["simclr"]["minutes"] + 0.06
    page = (out / "table.md").read_text()
    assert "90.74 (solo-learn, ResNet-18, 1000 epochs)" in page
    assert "| 93.60 |" in page
    assert "JPEG-compressed" in page
    config = json.loads((out / "simclr" / "config.json").read_text())
    assert config["optimiser"]["warmup_steps"] <= 1  # two of two hundred epochs
    again = CliRunner().invoke(reproduce_app, [*arguments, "--minutes", "0.1", *SMALL])
    assert again.exit_code == 0
    assert "simclr: done before" in again.output


def test_time_of_a_step_is_measured(data: Path) -> None:
    from nearlight.training.config import load_config
    from nearlight.training.method import DataFacts
    from nearlight.training.rehearsal import time_step

    assignments = ["encoder.name=resnet10", "encoder.width=0.125", "encoder.image_px=16", "batch_size=8"]
    config = load_config(None, {}, [*assignments, "device=cpu", "epochs=null"], "instdisc")
    assert 0 < time_step(config, DataFacts(40, ("a", "b"))) < 60
    assert torch.is_grad_enabled()


def test_failures_and_methods_without_figures_have_a_row() -> None:
    row = {"epochs": 2.0, "seed": 0, "knn_top1": 40.0, "linear_top1": 45.5, "minutes": 1.0}
    lines = table({"simclr": {"failed": "NaN"}, "cpc": row})
    assert lines[2].startswith("| simclr | - | - | failed | failed | - | 93.60 |")
    assert lines[3] == "| cpc | 2 | 0 | 40.00 | 45.50 | 1 | - | - | - |"


def test_mistakes(tmp_path: Path) -> None:
    runner = CliRunner()
    for arguments, message in (
        (["imagenet"], "nothing to reproduce for 'imagenet'"),
        (["cifar10", "--methods", "simclear"], "did you mean 'simclr'"),
        (["cifar10", "--data", str(tmp_path)], "cifar10-train.parquet"),
    ):
        result = runner.invoke(reproduce_app, arguments)
        assert (result.exit_code, message in result.output.replace("\n", "")) == (2, True), result.output
    assert choose_methods(["simclr,byol", "ce"]) == ("simclr", "byol", "ce")
    assert choose_methods([]) == METHODS
