"""`nearlight demo`, but for the server: what it does with it, prints, and leaves behind."""

import importlib.metadata
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nearlight.client import cli
from nearlight.client.commands import demo


class Started:
    """Stands for the entry point nearlight.local_server: gives the fake server and notes how it was used."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.calls: list[Any] = []

    def __call__(self, bundle: str | None, data_folder: Path, listen: str) -> "Started":
        self.calls.append((bundle, data_folder, listen))
        return self

    def stop(self) -> None:
        self.calls.append("stopped")


@pytest.fixture
def started(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    started = Started(fake.address)
    entry = importlib.metadata.EntryPoint("default", "x:y", demo.SERVER_GROUP)
    everything = importlib.metadata.entry_points

    def entry_points(**wanted: str) -> Any:
        return [entry] if wanted["group"] == demo.SERVER_GROUP else everything(**wanted)

    load = importlib.metadata.EntryPoint.load
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(
        importlib.metadata.EntryPoint, "load", lambda self: started if self is entry else load(self)
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return started


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.app, ["demo", *map(str, words)])


def test_photographs_of_scikit_image_as_json(started: Started, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    result = run("--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["indexed"] == len(demo.PHOTOGRAPHS)
    assert [one["query"] for one in document["searches"]] == list(demo.SEARCHES)
    assert document["image_search"]["image"] == "chelsea.png"
    assert [one["file"] for one in document["classification"]] == list(demo.TO_LABEL)
    assert started.calls[0][0] is None
    assert started.calls[0][2] == "127.0.0.1:0"
    assert started.calls[-1] == "stopped"
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_folder_of_ones_own_as_tables(started: Started, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("one.jpg", "two.jpg"):
        (folder / name).write_bytes(name.encode())
    (folder / "text.jpg").write_bytes(b"bad")
    result = run(folder, "--bundle", "some/bundle")
    assert result.exit_code == 0, result.output
    assert "one.jpg" in result.stdout
    assert "failed: text.jpg: is bad" in result.stderr
    assert started.calls[0][0] == "some/bundle"
    assert sorted(path.name for path in folder.iterdir()) == ["one.jpg", "text.jpg", "two.jpg"]


def test_keep_prints_what_to_try_and_waits(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "one.jpg").write_bytes(b"one")

    def ctrl_c(seconds: float) -> None:
        assert started.calls[-1] != "stopped"
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)
    result = run(tmp_path, "--keep")
    assert result.exit_code == 0
    assert f"nearlight models --server {started.address}" in result.stderr
    assert started.calls[-1] == "stopped"


def test_no_images_and_no_photographs(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(tmp_path).exit_code == 2
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run()
    assert result.exit_code == 1
    assert "pip install 'nearlight[demo]'" in result.stderr


def test_server_that_does_not_start(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def start(self: Any, *_: Any) -> None:
        raise RuntimeError("there is no bundle 'x'")

    monkeypatch.setattr(Started, "__call__", start)
    (tmp_path / "one.jpg").write_bytes(b"one")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "The server did not start: there is no bundle 'x'" in result.stderr


def test_every_photograph_is_in_scikit_images_wheel() -> None:
    pytest.importorskip("skimage")
    shipped = {Path(str(file)).name for file in importlib.metadata.files("scikit-image") or []}
    assert set(demo.PHOTOGRAPHS) <= shipped
    assert set(demo.TO_LABEL) <= set(demo.PHOTOGRAPHS)
