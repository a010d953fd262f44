"""`nearlight labels`."""

import json
from pathlib import Path
from typing import Any


def test_put_get_list_delete(nearlight: Any, fake: Any) -> None:
    words = ["--labels", "cat, dog", "--template", "a {}", "--model", "m", "--min-probability", "0.25"]
    put = nearlight("labels", "put", "pets", *words, "--json")
    assert put.exit_code == 0
    assert json.loads(put.stdout) == {
        "name": "pets",
        "labels": {"cat": [], "dog": []},
        "templates": ["a {}"],
        "model": "m",
        "min_probability": 0.25,
        "calibration": None,
        "space_id": "",
        "updated_unix_ms": 1_700_000_000_000,
    }
    assert nearlight("labels", "put", "birds", "--labels", "owl").exit_code == 0
    listed = nearlight("labels", "list", "--json")
    assert [one["name"] for one in json.loads(listed.stdout)] == ["birds", "pets"]
    assert "pets" in nearlight("labels", "list").stdout
    assert "cat, dog" in nearlight("labels", "get", "pets").stdout
    assert nearlight("labels", "delete", "pets").stdout == "deleted label set pets\n"
    gone = nearlight("labels", "get", "pets")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "no label set 'pets'" in gone.stderr


def test_what_get_prints_is_what_put_takes(nearlight: Any, fake: Any, tmp_path: Path) -> None:
    document = {
        "name": "pets",
        "labels": {"cat": ["cat", "kitten"], "dog": []},
        "templates": [],
        "model": "",
        "min_probability": 0.5,
        "calibration": {
            "temperature": 0.5,
            "bias": -1.0,
            "ece_before": 0.25,
            "ece_after": 0.125,
            "images": 80,
            "held_out_images": 20,
        },
        "space_id": "s",
        "updated_unix_ms": 1_700_000_000_000,
    }
    (tmp_path / "pets.json").write_text(json.dumps(document))
    put = nearlight("labels", "put", "other", "--from", tmp_path / "pets.json", "--json")
    assert json.loads(put.stdout) == {**document, "name": "other"}
    assert "temperature 0.5, bias -1, ECE 0.250 -> 0.125" in nearlight("labels", "list").stdout
    assert "cat (cat, kitten), dog" in nearlight("labels", "get", "other").stdout
    both = nearlight("labels", "put", "x", "--from", tmp_path / "pets.json", "--labels", "a")
    assert both.exit_code == 2
    (tmp_path / "bad.json").write_text('{"name": "x"}')
    bad = nearlight("labels", "put", "x", "--from", tmp_path / "bad.json")
    assert bad.exit_code == 2
    assert "holds no label set" in bad.stderr


def test_only_if_absent_refuses_to_replace(nearlight: Any) -> None:
    words = ["labels", "put", "pets", "--labels", "cat", "--only-if-absent"]
    assert nearlight(*words).exit_code == 0
    again = nearlight(*words)
    assert again.exit_code == 1
    assert "exists" in again.stderr
