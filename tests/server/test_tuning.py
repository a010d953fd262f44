"""`nearlight tune` on a real bundle, the file it leaves, and what `serve` makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from typer.testing import CliRunner

from nearlight.bundle.folder import Bundle
from nearlight.server import tuning as tuning_module
from nearlight.server.config import ServerConfig
from nearlight.server.errors import BundleUnusable
from nearlight.server.local import LocalServer
from nearlight.server.runtimes import openvino_cpu
from nearlight.server.runtimes.openvino_cpu import is_installed
from nearlight.server.tower_engine import open_tower_engine
from nearlight.server.tune_command import tune
from nearlight.server.tuner import Plan, chosen_batch, tune_bundle, worthwhile_lengths
from nearlight.server.tuning import (
    TowerTuning,
    Tuning,
    find_tuning,
    library_versions,
    machine,
    save_tuning,
    tuning_path,
)
from nearlight.v1 import model_pb2

QUICK = Plan(batches=(1, 4), threads=(1,), seconds=0.0)


def tuning_of(where: Path, **changes: Any) -> Tuning:
    """A result that was not measured: int8 for images where it can be, small batches, few lengths."""
    reduced: dict[str, Any] = {"runtime": "onnxruntime", "precision": "fp32"}
    if is_installed():
        reduced = {"runtime": "openvino", "precision": "int8"}
    image = TowerTuning(**reduced, threads=1, max_batch=3, cosine=1, rows_per_s=1, speedup=1)
    text = image.model_copy(update={"max_batch": 5, "text_lengths": (16, 77)})
    fields: dict[str, Any] = {
        "space_id": Bundle.open(where).manifest.space_id,
        "bundle": "tiny",
        "machine": machine(),
        "versions": library_versions(),
        "measured": "2026-01-01T00:00:00Z",
        "image": image,
        "text": text,
    }
    return Tuning(**{**fields, **changes})


def test_what_is_measured_and_chosen(tiny_bundle: Path) -> None:
    said: list[str] = []
    report = tune_bundle(Bundle.open(tiny_bundle), QUICK, said.append)
    chosen = report.tuning
    assert chosen.text is not None
    for tower, tuned in (("image", chosen.image), ("text", chosen.text)):
        mine = [engine for engine in report.engines if engine.tower == tower]
        assert str(mine[0].choice) == "onnxruntime fp32"
        (best,) = [
            e for e in mine if (e.choice.runtime, e.choice.precision) == (tuned.runtime, tuned.precision)
        ]
        assert not best.problem
        assert best.parity is not None
        assert best.parity.cosine == tuned.cosine >= 0.999
        assert set(best.rows_per_s) == {1, 4}
        assert tuned.max_batch == 4
        assert tuned.rows_per_s == best.rows_per_s[4]
    assert set(report.lengths) == {8, 16, 24, 32, 48, 77}
    assert chosen.text.text_lengths[-1] == 77
    assert len(said) == len(report.engines)


def test_an_engine_below_the_least_cosine_is_shown_and_not_chosen(tiny_bundle: Path) -> None:
    report = tune_bundle(Bundle.open(tiny_bundle), Plan((1,), (1,), seconds=0.0, min_cosine=0.9999999))
    assert report.tuning.image.precision == "fp32"
    reduced = [
        e for e in report.engines if (e.tower, e.choice.precision) in (("image", "bf16"), ("image", "int8"))
    ]
    assert all(engine.problem.startswith("cosine 0.99") and not engine.rows_per_s for engine in reduced)


def test_the_smallest_batch_that_is_nearly_as_fast() -> None:
    assert chosen_batch({1: 9.0, 4: 9.4, 8: 9.6, 16: 10.0, 32: 10.0}) == 8
    assert chosen_batch({1: 20.0, 4: 10.0, 8: 9.0}) == 4
    assert chosen_batch({1: 5.0, 2: 6.0}) == 2


def test_lengths_worth_having() -> None:
    assert worthwhile_lengths({}) == ()
    assert worthwhile_lengths({77: 10.0}) == (77,)
    assert worthwhile_lengths({8: 41.0, 16: 40.0, 32: 20.0, 48: 10.2, 77: 10.0}) == (16, 32, 77)


def test_the_file_keeps_what_is_of_others(tiny_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    mine, other = tuning_of(tiny_bundle), tuning_of(tiny_bundle, space_id="1" * 64)
    file = save_tuning(data, other)
    assert file == tuning_path(data) == tmp_path / "data.tuning.json"
    save_tuning(data, tuning_of(tiny_bundle, bundle="before"))
    save_tuning(data, mine)
    assert find_tuning(data, mine.space_id) == mine
    assert find_tuning(data, other.space_id) == other
    assert len(json.loads(file.read_text())["results"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data.tuning.json"]


def test_a_result_of_elsewhere_does_not_count(tiny_bundle: Path, tmp_path: Path) -> None:
    for changes in ({"machine": "another"}, {"versions": {"onnxruntime": "0.1"}}):
        save_tuning(tmp_path / "data", tuning_of(tiny_bundle, **changes))
    assert find_tuning(tmp_path / "data", tuning_of(tiny_bundle).space_id) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 2}', '{"results": [{}]}'])
def test_a_broken_file_is_no_reason_not_to_start(tiny_bundle: Path, tmp_path: Path, content: str) -> None:
    tuning_path(tmp_path / "data").write_text(content)
    assert find_tuning(tmp_path / "data", tuning_of(tiny_bundle).space_id) is None
    save_tuning(tmp_path / "data", tuning_of(tiny_bundle))
    assert find_tuning(tmp_path / "data", tuning_of(tiny_bundle).space_id) is not None


def test_serve_uses_it_and_what_the_user_sets_wins(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    bundle, data = Bundle.open(tiny_bundle), tmp_path / "data"
    save_tuning(data, tuning_of(tiny_bundle))

    def opened(kind: Any, **settings: object) -> tuple[str, int, int, tuple[int, ...]]:
        engine = open_tower_engine(bundle, kind, config_of([tiny_bundle], data, **settings))
        facts = engine.encoder.facts
        assert engine.reopen(0).facts == facts
        return facts.precision, facts.threads, engine.max_batch, engine.text_lengths

    precision = tuning_of(tiny_bundle).image.precision
    assert opened("image") == (precision, 1, 3, ())
    assert opened("text") == (precision, 1, 5, (16, 77))
    assert opened("image", batching={"max_images": 9}, engine={"threads": 2})[1:3] == (2, 9)
    assert opened("text", batching={"text_lengths": (24,)})[3] == (24, 77)
    assert opened("image", engine={"runtime": "onnxruntime"})[0] == "fp32"
    assert opened("image", engine={"precision": "fp32"})[0] == "fp32"
    save_tuning(
        data, tuning_of(tiny_bundle, image=tuning_of(tiny_bundle).image.model_copy(update={"cosine": 0.998}))
    )
    assert opened("image") == ("fp32", config_of([tiny_bundle], data).engine.session_threads, 8, ())
    elsewhere = open_tower_engine(bundle, "image", config_of([tiny_bundle], tmp_path / "other"))
    assert (str(elsewhere.encoder.facts.provider), elsewhere.max_batch) == ("CPUExecutionProvider", 8)


def test_auto_takes_an_engine_whose_vectors_hold(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    engine = {"runtime": "auto", "min_cosine": 0.9999999, "threads": 1}
    config = config_of([tiny_bundle], tmp_path / "data", engine=engine)
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        model = stubs_of(channel).models.GetModel(model_pb2.GetModelRequest())
    assert model.runtime.precision == "fp32"


def test_without_openvino_the_error_says_how_to_get_it(
    tiny_bundle: Path, config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cpu, "find_spec", lambda name: None)
    config = config_of([tiny_bundle], tmp_path, engine={"runtime": "openvino"})
    with pytest.raises(BundleUnusable, match=r"pip install 'nearlight\[openvino\]'"):
        open_tower_engine(Bundle.open(tiny_bundle), "image", config)


def run(*words: object, code: int = 0) -> Any:
    app = typer.Typer()
    app.command()(tune)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_command(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_module, "now", lambda: "2026-01-01T00:00:00Z")
    quick = (tiny_bundle, "--data", tmp_path / "data", "--seconds", "0", "--batch", "2", "--threads", "1")
    report = json.loads(run(*quick, "--json").stdout)
    assert report["file"] == str(tmp_path / "data.tuning.json")
    found = find_tuning(tmp_path / "data", report["chosen"]["space_id"])
    assert found is not None
    assert found.model_dump(mode="json") == report["chosen"]
    assert report["engines"][0]["parity"]["cosine"] > 0.9999
    (tmp_path / "data.tuning.json").unlink()
    shown = run(*quick, "--dry-run").stdout
    assert "onnxruntime fp32" in shown
    assert "texts by length" in shown
    assert "fast decoding" in shown
    assert "nothing written" in shown
    assert list(tmp_path.iterdir()) == []
    assert "--batch is 0" in run(tiny_bundle, "--batch", "0", code=1).stderr
    assert "no bundle 'nobody'" in run("nobody", code=1).stderr
