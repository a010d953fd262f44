"""`nearlight collections` and `nearlight models`."""

import json
from typing import Any

from typer.testing import CliRunner

from nearlight.client import cli
from nearlight.client.commands.collections import indexed
from nearlight.client.index_values import IndexState


def test_create_info_list_delete(nearlight: Any, fake: Any) -> None:
    assert nearlight("collections", "create", "photos", "--model", "m").exit_code == 0
    info = json.loads(nearlight("collections", "info", "photos", "--json").stdout)
    assert (info["name"], info["count"], info["dim"], info["model"]) == ("photos", 0, 4, "m")
    assert [one["name"] for one in json.loads(nearlight("collections", "list", "--json").stdout)] == [
        "photos"
    ]
    assert "photos" in nearlight("collections", "list").stdout
    assert (
        json.loads(nearlight("collections", "delete", "photos", "--yes", "--json").stdout)["name"] == "photos"
    )
    result = nearlight("collections", "info", "photos")
    assert result.exit_code == 1
    assert result.stderr.strip() == "error: no collection 'photos'"


def test_delete_asks_first(nearlight: Any, fake: Any) -> None:
    nearlight("collections", "create", "photos")
    refused = CliRunner().invoke(cli.app, ["collections", "delete", "photos"], input="n\n")
    assert refused.exit_code == 1
    assert "photos" in fake.script.collections
    assert CliRunner().invoke(cli.app, ["collections", "delete", "photos"], input="y\n").exit_code == 0
    assert fake.script.collections == {}


def test_models(nearlight: Any) -> None:
    found = json.loads(nearlight("models", "--json").stdout)
    assert [(one["name"], one["dim"], one["towers"]) for one in found] == [
        ("a", 4, ["image", "text"]),
        ("b", 4, ["image", "text"]),
    ]
    assert "image+text" in nearlight("models").stdout


def test_an_index_is_told_in_words() -> None:
    assert indexed(IndexState()) == "exact, ready"
    graph = IndexState("hnsw", "building", 3, 900, head_points=12, tombstones=4, estimated_recall=0.9912)
    assert indexed(graph) == "hnsw, building: 12 points beside it, 4 dead in it, recall 0.991"
