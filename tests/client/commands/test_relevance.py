"""`nearlight collections calibrate`, and what it does to `nearlight search`."""

import json
from typing import Any

from nearlight.client import Client, Point


def test_search_shows_relevance_where_the_collection_is_calibrated(nearlight: Any, fake: Any) -> None:
    with Client(fake.address) as client:
        client.upsert("c", [Point("a", {"k": 1}, image=b"x")])
    assert "relevance" not in nearlight("search", "dog", "-c", "c").stdout
    assert "relevance" not in json.loads(nearlight("search", "dog", "-c", "c", "--json").stdout)[0]
    said = nearlight("collections", "calibrate", "c")
    assert (said.exit_code, "0.250 for texts, 0.750 for images" in said.stdout) == (0, True)
    words = ["search", "dog", "-c", "c", "--min-relevance", "0.5", "--autocut", "1"]
    table = nearlight(*words).stdout
    assert "relevance" in table
    assert "0.75" in table
    assert "k=1" in table
    assert json.loads(nearlight(*words, "--json").stdout)[0]["relevance"] == 0.75
    request = fake.script.requests("Query")[-1]
    assert (request.min_relevance, request.autocut.jumps) == (0.5, 1)
    assert nearlight("search", "dog", "-c", "c", "--min-relevance", "1.5").exit_code == 2


def test_calibrate_as_json(nearlight: Any) -> None:
    result = nearlight("collections", "calibrate", "images", "--json")
    assert json.loads(result.stdout) == {
        "name": "images",
        "text_midpoint": None,
        "image_midpoint": 0.75,
        "points": 60,
    }
    assert "none for texts" in nearlight("collections", "calibrate", "images").stdout
