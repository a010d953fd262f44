"""The path of a user with a folder of images: plan, train, resume, evaluate; and what is said of mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nearlight.training.commands import evaluate, train_app

runner = CliRunner()
evaluate_app = typer.Typer()
evaluate_app.command()(evaluate)

SMALL = [
    *("--epochs", "2", "--batch-size", "16", "--device", "cpu", "--hidden", "16", "--projection=8"),
    *("--encoder.name", "resnet10", "--encoder.width", "0.125", "--encoder.stem", "small"),
    *("--data.cache_px", "32"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of plain colours, a folder each."""
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            shade = tuple(min(c + 2 * number, 255) for c in colour)
            Image.new("RGB", (40, 36), shade).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_a_folder_of_photos_is_planned_trained_and_probed(photos: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    planned = runner.invoke(train_app, ["simclr", "--data", str(photos), *SMALL, "--plan"])
    assert planned.exit_code == 0, planned.output
    text = " ".join(re.sub("[│┌┐└┘─┬┴]", " ", planned.output).split())
    for said in (
        "40 images, 2 classes",
        "5 of 16 images, 2 views each: 2.0 epochs",
        "sgd",
        "of activations",
        "views/s",
    ):
        assert re.search(r"\W+(\w+ )?".join(said.split()), text), text
    assert not Path(run).exists()
    trained = runner.invoke(
        train_app, ["simclr", "--data", str(photos), "--val", str(photos), "--out", run, *SMALL]
    )
    assert trained.exit_code == 0, trained.output
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 5
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["photos/knn_top1"] <= 100
    again = runner.invoke(train_app, ["simclr", "--resume", "--out", run])
    assert again.exit_code == 0
    wrong = runner.invoke(train_app, ["byol", "--resume", "--out", run])
    assert (wrong.exit_code, "trained with simclr, not byol" in wrong.output) == (2, True)
    for task, figure in (("knn", "knn_top1"), ("linear", "linear_top1"), ("calibration", "ece")):
        measured = runner.invoke(evaluate_app, [run, "--task", task, "--data", str(photos), "--json"])
        assert measured.exit_code == 0, measured.output
        found = json.loads(measured.stdout)
        assert found["results"]["photos"][figure] >= 0
        assert "one centre view" in found["protocol"] or task == "calibration"
    assert (
        json.loads((tmp_path / "run" / "evaluation-linear.json").read_text())["results"]["photos"][
            "linear_top1"
        ]
        == 100
    )
    aligned = runner.invoke(evaluate_app, [run, "--task", "alignment", "--data", str(photos)])
    assert "uniformity" in aligned.output
    refused = runner.invoke(evaluate_app, [run, "--task", "retrieval", "--data", str(photos)])
    assert (refused.exit_code, "has no text tower" in refused.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["simclr", "--temprature", "0.2"],
            "unknown key 'options.temprature'; did you mean 'options.temperature'",
        ),
        (["simclr", "--temperature", "0"], "options.temperature = 0"),
        (["simclr", "--encoder.nam", "x"], "did you mean 'encoder.name'"),
        (["simclr", "--set", "views.3.flip=0"], "'3' must be a place in a list of 1"),
        (["simclr", "--batch-size", "500", "--encoder.width", "0.125"], ""),
        (["simclr", "stray"], "'stray' is not an option"),
        (["simclr", "--encoder.name", "resnet19"], "resnet18"),
        (["supcon"], "supcon needs a label_name"),
        (["simclr", "--config", "{config}"], "is a configuration of byol, not of simclr"),
    ],
)
def test_mistakes_are_one_line(photos: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "c.toml").write_text('method = "byol"\n')
    filled = [a.replace("{config}", str(tmp_path / "c.toml")) for a in arguments]
    plain = photos / "red"  # images without classes
    result = runner.invoke(train_app, [*filled, "--data", str(plain), "--plan", "--device", "cpu"])
    assert "Traceback" not in result.output
    assert result.exit_code == (2 if message else 0), result.output
    assert message in result.output


def test_what_is_hardly_meant_is_said_and_one_image_refused(photos: Path, tmp_path: Path) -> None:
    crowd = ["--batch-size", "64", "--optimiser.warmup_epochs", "2", "--queue", "40"]
    result = runner.invoke(train_app, ["moco-v2", "--data", str(photos), *SMALL, *crowd, "--plan"])
    text = " ".join(result.output.split())
    for said in (
        "warning: batch_size = 64: there are 40 images",
        "warning: optimiser.warmup_steps = 1: the run has 1 steps",
        "warning: options.queue = 40: with 40 images",
    ):
        assert said in text, text
    (tmp_path / "one").mkdir()
    (photos / "red" / "0.png").rename(tmp_path / "one" / "0.png")
    result = runner.invoke(train_app, ["simclr", "--data", str(tmp_path / "one"), *SMALL, "--out", "x"])
    assert (result.exit_code, "data.train has 1 image; at least 2" in result.output) == (2, True)


def test_a_plan_of_two_towers_knows_memory_and_speed(small: dict[str, Any], captioned: Path) -> None:
    keys = ("steps", "batch_size", "device", "model")
    sets = [f"--{key}={json.dumps(small[key])}" for key in keys]
    result = runner.invoke(train_app, ["clip", "--data", str(captioned), *sets, "--ema", "0.9", "--plan"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.replace("│", " ").split())  # the table breaks lines as wide as it likes
    assert re.search(r"\d+ MiB of activations", said), said
    assert re.search(r"about \d+ views/s", said), said


def test_the_list_names_every_method_with_its_paper() -> None:
    result = runner.invoke(train_app, ["--list"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for name in ("simclr", "moco-v2", "instdisc", "siglip"):
        assert name in text
    assert "2020" in text


def test_an_unknown_method_is_refused() -> None:
    result = runner.invoke(train_app, ["simclar", "--out", "x"])
    assert result.exit_code == 2
