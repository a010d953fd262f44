import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nearlight.server.doctor import doctor
from nearlight.store import Point, Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store with two collections."""
    with Store.open(tmp_path / "data", n_threads=1) as store:
        vectors = np.random.default_rng(0).standard_normal((300, 64))
        for name in ("a", "b"):
            collection = store.create_collection(name, space_id="s", dim=64)
            collection.upsert([Point(i, vectors[i], {"text": f"text {i}"}) for i in range(300)])
        collection.create_payload_index(("text",), "keyword")
    return tmp_path / "data"


def run(*words: object) -> Any:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, [str(word) for word in words])


def change(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "store.sqlite3")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_healthy_folder(folder: Path) -> None:
    result = run("--data", folder)
    assert result.exit_code == 0, result.output
    assert "collection      a: 300 points, ok" in result.stdout
    assert result.stdout.endswith("all is well\n")
    report = json.loads(run("--data", folder, "--json").stdout)
    assert report["problems"] == []
    assert report["collections"]["b"] == {"points": 300, "problems": 0}


def test_a_changed_payload_is_named(folder: Path) -> None:
    change(folder, "UPDATE points SET payload = 'nonsense' WHERE seq = 5")
    result = run("--data", folder)
    assert result.exit_code == 1
    assert "problem: a: point_damaged: point 4 (seq 5)" in result.stdout


def test_a_database_index_that_lost_rows_is_named(folder: Path) -> None:
    connection = sqlite3.connect(folder / "store.sqlite3")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_schema WHERE name = 'points_by_id'")
    connection.execute("PRAGMA writable_schema = RESET")
    connection.commit()
    connection.close()
    result = run("--data", folder)
    assert result.exit_code == 1
    assert "problem: database: " in result.stdout


def test_folders_that_cannot_be_opened(folder: Path, tmp_path: Path) -> None:
    missing = run("--data", tmp_path / "none")
    assert (missing.exit_code, missing.stderr) == (
        4,
        f"error: there is no folder {tmp_path / 'none'}; name one with --data\n",
    )
    with Store.open(folder, n_threads=1):
        busy = run("--data", folder)
    assert busy.exit_code == 4
    assert "is open in this process" in busy.stderr
    (folder / "store.sqlite3").write_bytes(b"not a database")
    assert run("--data", folder).exit_code == 4
