"""Every task on a run that was trained for a moment: figures, protocol, report and plots."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nearlight.training.config import load_config
from nearlight.training.errors import ConfigError, DataError
from nearlight.training.measure import measure
from nearlight.training.probes import finetune as finetuning
from nearlight.training.probes.finetune import balanced_rows, steps_for
from nearlight.training.probes.head_information import QUIZZES
from nearlight.training.probes.probed import Limits, open_run
from nearlight.training.probes.tasks import TASKS, probe
from nearlight.training.probes.transfer import per_class, top1
from nearlight.training.sources import open_source
from nearlight.training.trainer import Trainer


@pytest.fixture(scope="module")
def runs(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simclr and a ce run of a few steps on four colours."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("simclr", "ce"):
        overrides = {
            "data": {"train": [str(labelled)], "cache_px": 16},
            "encoder": {"name": "resnet10", "stem": "small", "width": 0.125, "image_px": 16},
            "device": "cpu",
            "batch_size": 20,
        }
        if method == "simclr":
            overrides["options"] = {"hidden": 16, "projection": 8}
        settings = ["epochs=null", "steps=4", "optimiser.warmup_epochs=null", "log_every=2"]
        assert Trainer(load_config(None, overrides, settings, method), folder / method).train()
    return folder


def test_a_run_draws_its_curves(runs: Path) -> None:
    assert (runs / "simclr" / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_finetuning_learns_and_has_a_control(
    runs: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "STEPS", 30)
    found = measure(str(runs / "simclr"), "finetune", [str(labelled)], None, None, (), Limits(40, (0.1, 0.5)))
    figures = found["results"]["labelled"]
    assert (figures["labels_10%"], figures["labels_50%"], figures["images"]) == (8, 40, 40)
    assert figures["finetuned_50%_top1"] > 90  # colours, which 40 labels of four classes tell
    assert figures["scratch_50%_top5"] == 100  # there are only four classes
    assert "scratch_10%_top1" in figures
    before = open_run(runs / "simclr").features.encoder.state_dict()
    again = probe(str(runs / "simclr"), "finetune", [str(labelled)], (), Limits(40, (0.1, 0.5)))
    assert again["results"]["labelled"] == figures  # seeded
    after = open_run(runs / "simclr").features.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_shares_of_labels_are_balanced() -> None:
    labels = torch.tensor([0] * 100 + [1] * 30 + [2] * 2)
    rows = balanced_rows(labels, 0.1, seed=0)
    assert torch.bincount(labels[rows]).tolist() == [10, 3, 1]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.tolist() != balanced_rows(labels, 0.1, seed=1).tolist()
    assert len(balanced_rows(labels, 1.0, seed=0)) == 132
    assert (steps_for(10), steps_for(64_000)) == (200, 30_000)


def test_transfer_pairs_its_sources(runs: Path, labelled: Path) -> None:
    run = str(runs / "simclr")
    found = measure(run, "transfer", [str(labelled)], None, None, [str(labelled)])
    figures = found["results"]["labelled"]
    assert figures["linear_top1"] >= 90
    assert figures["linear_per_class"] == pytest.approx(figures["linear_top1"], abs=1e-4)  # 20 of each
    with pytest.raises(ConfigError, match="one --train for each --data"):
        probe(run, "transfer", [str(labelled)], [])
    guesses, truth = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 0, 1])
    assert top1(guesses, truth) == pytest.approx(80)
    assert per_class(guesses, truth) == pytest.approx(87.5)


@pytest.mark.parametrize("method", ["simclr", "ce"])
def test_corruption_has_every_kind_and_severity(runs: Path, labelled: Path, method: str) -> None:
    found = measure(str(runs / method), "corruption", [str(labelled)], None, None, (), Limits(12))
    figures, details = found["results"]["labelled"], found["details"]["labelled"]
    assert {len(scores) for scores in details["top1"].values()} == {5}
    worst = [scores[4] for scores in details["top1"].values()]
    assert figures["top1_severity_5"] == pytest.approx(sum(worst) / 15)
    assert figures["top1_corrupted"] == pytest.approx(
        sum(figures[f"top1_severity_{s}"] for s in range(1, 6)) / 5
    )
    assert 0 <= figures["ece_severity_5"] <= 1
    report = (runs / method / "report.md").read_text()
    for said in (
        "## corruption",
        "severities of their CIFAR-10-C",
        "plots/corruption-labelled.png",
        "ece_test",
    ):
        assert said in report
    assert (runs / method / "plots" / "corruption-labelled.png").is_file()


def test_head_information_compares_two_layers(runs: Path, labelled: Path) -> None:
    found = measure(str(runs / "simclr"), "head-information", [str(labelled)], None, None)
    figures = found["results"]["labelled"]
    assert (figures["rotation_chance"], figures["colour_or_grey_chance"]) == (25, 80)
    assert figures["colour_or_grey_h"] > 90  # plain colours against greys
    assert set(figures) == {f"{q}_{k}" for q in QUIZZES for k in ("h", "g(h)", "chance")} | {"images", "bank"}
    with pytest.raises(ConfigError, match="a run of ce has none"):
        probe(str(runs / "ce"), "head-information", [str(labelled)], ())


def test_quizzes_change_the_images_their_answers_say() -> None:
    pixels = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    for name, quiz in QUIZZES.items():
        answers = torch.arange(8) % len(quiz.shares)
        made = quiz.make(pixels, answers)
        changed = (made != pixels).flatten(1).any(dim=1)
        assert torch.equal(changed, answers > 0), name
    turned = QUIZZES["rotation"].make(pixels, torch.full((8,), 3))
    assert torch.equal(turned, pixels.rot90(3, (1, 2)))
    grey = QUIZZES["colour_or_grey"].make(pixels, torch.ones(8, dtype=torch.int64))
    assert torch.equal(grey[..., 0], grey[..., 2])


def test_limits_choose_rows_by_seed(labelled: Path) -> None:
    source = open_source(str(labelled))
    rows = Limits(10, seed=1).rows(source)
    assert (len(rows), len(set(rows.tolist()))) == (10, 10)
    assert torch.equal(rows, Limits(10, seed=1).rows(source))
    assert not torch.equal(rows, Limits(10, seed=2).rows(source))
    assert torch.equal(Limits(500).rows(source), torch.arange(80))


def test_the_untrained_control_has_other_weights(runs: Path) -> None:
    probed = open_run(runs / "simclr")
    fresh = probed.untrained(0)
    assert isinstance(fresh, nn.Module)
    pairs = zip(fresh.parameters(), probed.features.encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_every_task_names_its_protocol_and_refuses_unlabelled_images(
    runs: Path, labelled: Path, tmp_path: Path
) -> None:
    for task, made in TASKS.items():
        assert len(made.protocol) > 40, task
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "one.png").write_bytes(open_source(str(labelled)).images.read(0))
    for task in ("finetune", "corruption"):
        with pytest.raises(DataError, match="a label_name is needed"):
            probe(str(runs / "simclr"), task, [str(tmp_path / "plain")], ())
    saved = json.loads((runs / "simclr" / "config.json").read_text())
    assert saved["curves"] is True
