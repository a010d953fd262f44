import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nearlight.training.commands import evaluate, train_app

runner = CliRunner()
evaluate_app = typer.Typer()
evaluate_app.command()(evaluate)


def assignments(small: dict[str, Any]) -> list[str]:
    flags = []
    for key in ("steps", "batch_size", "seed", "device", "model", "optimiser"):
        flags += ["--set", f"{key}={json.dumps(small[key])}"]
    return flags


@pytest.fixture
def run(tmp_path: Path, small: dict[str, Any], captioned: Path, labelled: Path) -> Path:
    out = tmp_path / "run"
    sources = ["--data", f"{captioned}@2", "--data", str(labelled), "--val", str(captioned)]
    result = runner.invoke(train_app, ["clip", *sources, "--out", str(out), *assignments(small)])
    assert result.exit_code == 0, result.output
    return out


def test_train_then_evaluate_both_tasks(run: Path, captioned: Path, labelled: Path) -> None:
    result = runner.invoke(
        evaluate_app, [str(run), "--task", "retrieval", "--data", str(captioned), "--json"]
    )
    found = json.loads(result.stdout)
    assert set(found["results"]["captioned"]) >= {"text_to_image_r1", "image_to_text_r10"}
    assert json.loads((run / "evaluation-retrieval.json").read_text()) == found
    result = runner.invoke(evaluate_app, [str(run), "--task", "zeroshot", "--data", str(labelled)])
    assert result.exit_code == 0
    assert "top1" in result.output


def test_resume_of_a_finished_run_says_so_and_changes_nothing(run: Path) -> None:
    before = (run / "checkpoint.pt").read_bytes()
    result = runner.invoke(train_app, ["clip", "--resume", "--out", str(run)])
    assert result.exit_code == 0
    assert (run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip", "--data", "none.parquet", "--out", "{out}"], "no such file"),
        (["clip", "--out", "{out}"], "give at least one --data"),
        (["clip", "--resume", "--out", "{out}"], "not a training run|cannot read"),
        (["clip", "--data", "x", "--out", "{out}", "--set", "stepz=3"], "did you mean 'steps'"),
        (["clip", "--data", "x", "--out", "{out}", "--set", "optimiser.lr=NaN"], "optimiser.lr = nan"),
        (["clip", "--data", "x", "--out", "{out}", "--set", "optimiser.lr=Infinity"], "optimiser.lr = inf"),
        (["clip", "--data", "x", "--out", "{out}", "--set", "device=abacus"], "device = 'abacus' cannot be"),
        (["clip", "--data", "x", "--out", "/dev/null/run"], "cannot make the run folder /dev/null/run"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    filled = [a.replace("{out}", str(tmp_path / "new")) for a in arguments]
    result = runner.invoke(train_app, filled)
    assert result.exit_code == 2
    assert re.search(message, result.output), result.output
    assert "Traceback" not in result.output


def test_a_record_that_cannot_be_written_is_one_line(
    tmp_path: Path, small: dict[str, Any], captioned: Path
) -> None:
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    result = runner.invoke(
        train_app, ["clip", "--data", str(captioned), "--out", str(tmp_path / "run"), *assignments(small)]
    )
    assert (result.exit_code, "Is a directory; its last checkpoint" in result.output) == (2, True)


def test_validation_data_that_is_not_there_is_noticed_before_the_first_step(
    tmp_path: Path, small: dict[str, Any], captioned: Path
) -> None:
    sources = ["--data", str(captioned), "--val", "nowhere.parquet"]
    result = runner.invoke(train_app, ["clip", *sources, "--out", str(tmp_path / "run"), *assignments(small)])
    assert result.exit_code == 2
    assert "'nowhere.parquet': no such file" in result.output
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_unknown_task_and_unsuitable_data(run: Path, labelled: Path) -> None:
    result = runner.invoke(evaluate_app, [str(run), "--task", "magic", "--data", str(labelled)])
    assert (result.exit_code, "zeroshot, retrieval" in result.output) == (2, True)
    result = runner.invoke(evaluate_app, ["nowhere", "--task", "lineer", "--data", "x"])
    assert (result.exit_code, "did you mean 'linear'?" in result.output) == (2, True)
    result = runner.invoke(evaluate_app, [str(run), "--task", "retrieval", "--data", str(labelled)])
    assert (result.exit_code, "needs captions" in result.output) == (2, True)


def test_help_shows_examples() -> None:
    assert "nearlight train clip --resume" in " ".join(
        runner.invoke(train_app, ["clip", "--help"]).output.split()
    )


def test_a_bundle_measures_as_the_run_it_came_from(
    run: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearlight.export.exporter import export_run

    monkeypatch.chdir(tmp_path)
    export_run(run, tmp_path / "bundle")
    found = []
    for model in (run, tmp_path / "bundle"):
        result = runner.invoke(
            evaluate_app, [str(model), "--task", "zeroshot", "--data", str(labelled), "--json"]
        )
        found.append(json.loads(result.stdout)["results"])
    assert found[0] == found[1]
    assert (tmp_path / "evaluation-run-zeroshot.json").is_file()
