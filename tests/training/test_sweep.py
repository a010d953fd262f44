"""Sweeps: cells, tables, and that what is done is not done again."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nearlight.training import sweep as sweeping
from nearlight.training.config import RunConfig
from nearlight.training.errors import CheckpointError, ConfigError
from nearlight.training.experiment_commands import sweep_app
from nearlight.training.sweep import Sweep, axis_table, run_sweep, table_of
from nearlight.training.sweep_plan import Axis, cells_of, label, parse_axis
from nearlight.training.trainer import Trainer

SMALL = (
    "epochs=null",
    "steps=2",
    "optimiser.warmup_epochs=null",
    "batch_size=16",
    "device=cpu",
    "curves=false",
    "data.cache_px=16",
    "encoder.name=resnet10",
    "encoder.stem=small",
    "encoder.width=0.125",
    "encoder.image_px=16",
    "options.hidden=16",
    "options.projection=8",
)
KNOWN = list(RunConfig.model_fields)


def test_axes_are_parsed() -> None:
    assert parse_axis("temperature=0.1,0.5", KNOWN) == Axis("options.temperature", ("0.1", "0.5"))
    assert parse_axis("batch-size=128,256", KNOWN) == Axis("batch_size", ("128", "256"))
    assert parse_axis("lr=0.1", KNOWN).key == "optimiser.lr"
    assert parse_axis("linear-optimiser=sgd,lars", KNOWN).key == "linear_optimiser"
    assert parse_axis("optimiser.betas=[0.9,0.98],[0.9,0.95]", KNOWN).values == ("[0.9,0.98]", "[0.9,0.95]")
    for wrong, message in (
        ("temperature", "not of the form"),
        ("lr=1,1", "twice"),
        ("=3", "not of the form"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_axis(wrong, KNOWN)


def test_cells_vary_one_axis_at_a_time_or_all() -> None:
    axes = [Axis("a", ("1", "2")), Axis("optimiser.name", ("sgd", "lars+optimiser.lr=3")), Axis("c", ("x",))]
    single = cells_of(axes, False, (0, 1))
    assert len(single) == 2 * (1 + 2 + 2 + 1)
    assert single[0].settings == ()
    assert ("optimiser.lr=3", "optimiser.name=lars") in {cell.settings for cell in single}
    grid = cells_of(axes, True, (0,))
    assert len(grid) == 1 + 2 * 2 * 1
    assert label(axes[0], grid[1]) == "1"
    assert label(axes[1], grid[-1]) == "lars+optimiser.lr=3"
    assert label(axes[0], single[0]) == "recipe"
    assert label(axes[2], single[2]) is None
    assert len({cell.run_name for cell in single}) == len(single)


def test_the_linear_stage_shares_the_run() -> None:
    cells = cells_of([Axis("linear_optimiser", ("sgd", "lars"))], False, (0,))
    assert [cell.linear_optimiser for cell in cells] == [None, "sgd", "lars"]
    assert len({cell.run_name for cell in cells}) == 1


def test_tables_say_mean_spread_and_failures() -> None:
    lines = axis_table(Axis("lr", ("1", "2", "9")), {"1": [50.0, 54.0], "2": [60.0], "9": [None]})
    assert "| 1 | 52.00 % | 2.83 | 2 | 0 |" in lines
    assert "| 2 | 60.00 % |  | 1 | 0 |" in lines
    assert "| 9 | - |  | 1 | 1 |" in lines
    assert lines[-1] == "Best over worst: 8.00 points."


def test_a_sweep_is_run_continued_and_extended(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperature = Axis("options.temperature", ("0.2", "1"))
    one = Sweep("simclr", (str(labelled),), str(labelled), (temperature,), SMALL, task="knn")
    said: list[str] = []
    out = tmp_path / "sweep"
    assert run_sweep(one, out, said.append)
    assert len(said) == 3
    first = json.loads((out / "sweep.json").read_text())
    assert len(first["results"]) == 3
    linear = Axis("linear_optimiser", ("sgd", "rmsprop"))
    diverging = Axis("optimiser.lr", ("1e30",))
    more = Sweep(
        "simclr", (str(labelled),), str(labelled), (temperature, linear, diverging), SMALL, task="knn"
    )
    trained: list[Path] = []

    class Counted(Trainer):
        def train(self) -> bool:
            trained.append(self.run)
            return super().train()

    monkeypatch.setattr(sweeping, "Trainer", Counted)
    assert run_sweep(more, out, said.append)
    results = json.loads((out / "sweep.json").read_text())["results"]
    assert {key: results[key] for key in first["results"]} == first["results"]
    assert len(results) == 6
    # The linear stage found its finished run; only that which diverges was trained from the start.
    assert len(set(trained)) == 2
    rows = table_of(more, diverging, results)
    assert rows["1e30"] == [None]
    page = (out / "sweep.md").read_text()
    for text in ("## options.temperature", "| recipe |", "| rmsprop |", "weighted kNN", "Best over worst"):
        assert text in page
    assert (out / "plots" / "options-temperature.png").is_file()
    other = Sweep("simclr", (str(labelled),), str(labelled), (temperature,), (*SMALL, "seed=4"), task="knn")
    with pytest.raises(CheckpointError, match="holds another sweep: its settings"):
        run_sweep(other, out, said.append)


def test_mistakes_are_told_before_the_first_run(labelled: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    base = ["simclr", "--data", str(labelled), "--test", str(labelled), "--out", str(tmp_path / "s")]
    for extra, message in (
        (["--over", "temprature=1"], "did you mean 'options.temperature'"),
        (["--over", "linear_optimiser=adam"], "linear_optimiser is 'adam'; one of sgd"),
        (["--over", "lr=1", "--task", "calibration"], "a sweep measures linear or knn"),
        (["--over", "lr=1", "--augmentation", "none"], "augmentation = 'none'"),
    ):
        result = runner.invoke(sweep_app, [*base, *extra])
        assert (result.exit_code, message in result.output) == (2, True), result.output
    assert not (tmp_path / "s").exists()
