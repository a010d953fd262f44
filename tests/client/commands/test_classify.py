"""`nearlight classify`."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "even.jpg").write_bytes(b"four")
    (tmp_path / "odd.jpg").write_bytes(b"three")
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    return [tmp_path / "even.jpg", tmp_path / "odd.jpg"]


def test_json_is_a_list_of_files(nearlight: Any, files: list[Path]) -> None:
    result = nearlight("classify", *files, "--labels", " cat, dog,,cat", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "file": str(file),
            "abstained": False,
            "calibrated": False,
            "labels": [{"label": label, "probability": 0.5, "score": 0.0}],
        }
        for file, label in zip(files, ("cat", "dog"), strict=True)
    ]


def test_labels_file_and_templates(nearlight: Any, fake: Any, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffcat\r\n\nsea lion\n")
    words = [
        "--labels-file",
        tmp_path / "names.txt",
        "--template",
        "a {}.",
        "--template",
        "one {}",
        "-k",
        "1",
    ]
    assert nearlight("classify", files[0], *words).exit_code == 0
    (request,) = fake.script.requests("Classify")
    assert [label.name for label in request.labels.labels] == ["cat", "sea lion"]
    assert list(request.labels.templates) == ["a {}.", "one {}"]
    assert request.top_k == 1


def test_a_bad_file_is_named_and_the_others_are_labelled(nearlight: Any, files: list[Path]) -> None:
    words = [files[0], files[0].with_name("bad.jpg"), files[0].with_name("gone.jpg")]
    result = nearlight("classify", *words, "--labels", "cat,dog", "--json")
    assert result.exit_code == 1
    good, bad, gone = json.loads(result.stdout)
    assert good["labels"]
    assert (bad["labels"], bad["error"]) == ([], "is bad")
    assert "gone.jpg" in gone["error"]
    assert "bad.jpg: is bad" in result.stderr


@pytest.mark.parametrize("words", [[], ["--labels", " , "]])
def test_labels_are_needed(nearlight: Any, files: list[Path], words: list[str]) -> None:
    assert nearlight("classify", files[0], *words).exit_code == 2


def test_where_nothing_could_be_labelled_there_is_no_empty_table(nearlight: Any, tmp_path: Path) -> None:
    result = nearlight("classify", tmp_path, "--labels", "cat,dog")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Is a directory" in result.stderr


def test_a_stored_set_and_abstaining(nearlight: Any, fake: Any, files: list[Path]) -> None:
    assert nearlight("labels", "put", "pets", "--labels", "cat,dog").exit_code == 0
    words = ["classify", *files, "--label-set", "pets", "--min-probability", "0.75"]
    assert [one["abstained"] for one in json.loads(nearlight(*words, "--json").stdout)] == [True, True]
    assert f"{files[0].name} (abstained)" in nearlight(*words).stdout
    first = fake.script.requests("Classify")[0]
    assert (first.label_set, first.min_probability, first.WhichOneof("label_source")) == (
        "pets",
        0.75,
        "label_set",
    )
    without = nearlight("classify", files[0], "--label-set", "pets")
    assert "(abstained)" not in without.stdout
    assert not fake.script.requests("Classify")[-1].HasField("min_probability")


@pytest.mark.parametrize("more", [["--labels", "a"], ["--template", "a {}"]])
def test_a_stored_set_brings_its_own_labels(nearlight: Any, files: list[Path], more: list[str]) -> None:
    assert nearlight("classify", files[0], "--label-set", "pets", *more).exit_code == 2
