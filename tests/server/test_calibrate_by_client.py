"""`nearlight calibrate` against a real server: what it reports is what Classify then does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nearlight.client import Client, LabelSet, cli
from nearlight.client.calibration import quality

NAMES = ["dog", "cat", "car", "tree"]
N = 120
Run = Callable[..., Any]


@pytest.fixture
def nearlight(address: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def pictures(new_image: Callable[..., bytes]) -> list[bytes]:
    return [new_image(1000 + seed) for seed in range(N)]


def cosines_of(client: Client, pictures: list[bytes], name: str) -> npt.NDArray[np.float64]:
    rows = np.zeros((len(pictures), len(NAMES)))
    for row, result in zip(rows, client.classify(pictures, label_set=name), strict=True):
        for label in result.labels:
            row[NAMES.index(label.label)] = label.score
    return rows


def drawn_truth(cosines: npt.NDArray[np.float64], beta: float) -> npt.NDArray[np.int64]:
    """Labels that softmax(beta * cosine) would give: the model is right, but not as sure as it says."""
    powers = np.exp(beta * cosines)
    chance = powers / powers.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    return np.array([rng.choice(len(NAMES), p=row) for row in chance])


def write(path: Path, pictures: list[bytes], truth: npt.NDArray[np.int64], **columns: list[Any]) -> Path:
    table = {"image": pictures, "label_name": [NAMES[label] for label in truth], **columns}
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize(("model", "scale", "bias"), [("tiny", 20.0, 0.0), ("sigmoid", 20.0, -2.0)])
def test_what_is_reported_is_what_classify_does(
    nearlight: Run, address: str, pictures: list[bytes], tmp_path: Path, model: str, scale: float, bias: float
) -> None:
    with Client(address) as client:
        client.put_label_set(LabelSet("fit", NAMES, model=model, min_probability=0.25))
        cosines = cosines_of(client, pictures, "fit")
        truth = drawn_truth(cosines, 4.0)
        source = write(tmp_path / "val.parquet", pictures, truth)
        result = nearlight("calibrate", source, "--label-set", "fit", "--held-out", "0.4", "--json")
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        assert (report["images"], report["held_out_images"], report["stored"]) == (72, 48, True)
        assert report["failed"] == []
        stored = client.label_set("fit")
        assert stored.calibration is not None
        assert (stored.min_probability, stored.model, stored.space_id) == (0.25, model, report["space_id"])
        assert stored.calibration.temperature == pytest.approx(report["temperature"], rel=1e-6)
        assert stored.calibration.bias == pytest.approx(report["bias"], abs=1e-5)
        assert (model == "sigmoid") == (report["bias"] != 0)

        held_out = np.random.default_rng(0).permutation(N)[:48]
        chances = [r.labels[0] for r in client.classify(pictures, label_set="fit")]
        confidences = np.array([one.probability for one in chances])[held_out]
        correct = np.array([one.label == NAMES[t] for one, t in zip(chances, truth, strict=True)])[held_out]
        bins = np.minimum(np.ceil(confidences * 15).astype(int) - 1, 14)
        ece = sum(
            abs(correct[bins == m].mean() - confidences[bins == m].mean()) * (bins == m).mean()
            for m in set(bins.tolist())
        )
        assert ece == pytest.approx(report["after"]["ece"], abs=1e-4)
        scoring: Any = "softmax" if model == "tiny" else "sigmoid"
        before = quality((scale * cosines + bias)[held_out], truth[held_out], scoring)
        assert report["before"]["ece"] == pytest.approx(before.ece, abs=1e-4)
        assert report["after"]["nll"] < report["before"]["nll"]


def test_folders_are_classes_and_bad_images_are_named(
    nearlight: Run, address: str, pictures: list[bytes], tmp_path: Path
) -> None:
    with Client(address) as client:
        client.put_label_set(LabelSet("folders", NAMES))
        truth = drawn_truth(cosines_of(client, pictures[:60], "folders"), 4.0)
    for i, (picture, label) in enumerate(zip(pictures, truth, strict=False)):
        (tmp_path / NAMES[label] / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / NAMES[label] / "deep" / f"{i:03}.png").write_bytes(picture)
    (tmp_path / "cat" / "bad.png").write_bytes(b"no image")
    result = nearlight("calibrate", tmp_path, "--label-set", "folders", "--dry-run", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [one["id"] for one in report["failed"]] == ["cat/bad.png"]
    assert (report["images"] + report["held_out_images"], report["stored"]) == (60, False)
    assert "failed: cat/bad.png" in result.stderr
    table = nearlight("calibrate", tmp_path, "--label-set", "folders")
    assert "expected calibration error" in table.stdout
    with Client(address) as client:
        assert client.label_set("folders").calibration is not None
        client.put_label_set(LabelSet("folders", NAMES))
    (tmp_path / "lonely.png").write_bytes(pictures[0])
    lonely = nearlight("calibrate", tmp_path, "--label-set", "folders")
    assert lonely.exit_code == 2
    assert "lies in no folder" in lonely.stderr


def test_what_is_refused_changes_nothing(
    nearlight: Run, address: str, pictures: list[bytes], tmp_path: Path
) -> None:
    truth = np.arange(24) % 4
    source = write(tmp_path / "x.parquet", pictures[:24], truth, kind=["bird", *["dog"] * 23])
    with Client(address) as client:
        put = client.put_label_set(LabelSet("still", NAMES))
        for words, code, reason in (
            (["--label-set", "still", "--label-column", "kind"], 2, "has no 'bird'"),
            (["--label-set", "still", "--label-column", "none"], 2, "has no column 'none'"),
            (["--label-set", "gone"], 1, "no label set 'gone'"),
            (["--label-set", "still", "--model", "eye"], 1, "no text tower"),
        ):
            result = nearlight("calibrate", source, *words)
            assert result.exit_code == code
            assert reason in " ".join(result.stderr.replace("│", " ").split())
        few = write(tmp_path / "few.parquet", pictures[:12], truth[:12])
        result = nearlight("calibrate", few, "--label-set", "still")
        assert result.exit_code == 1
        assert "12 labelled images; at least 20" in result.stderr
        assert client.label_set("still") == put
