"""Relevance through both clients and the commands."""

from typing import Any

import pytest

from nearlight.client import CollectionCalibration, InvalidInput, Point


def test_calibrating_a_collection(client: Any, fake: Any) -> None:
    assert client.calibrate_collection("c") == CollectionCalibration(0.25, 0.75, 60)
    assert client.calibrate_collection("images") == CollectionCalibration(None, 0.75, 60)
    client.upsert("c", [Point("a", image=b"x")])
    assert [hit.relevance for hit in client.query("c", text="x")] == [0.75]
    assert [hit.relevance for hit in client.query("other", text="x")] == [None]


def test_what_is_asked_for_is_sent(client: Any, fake: Any) -> None:
    client.query("c", text="x", min_relevance=0.0, autocut=2)
    client.query("c", text="x")
    first, second = fake.script.requests("Query")
    assert (first.HasField("min_relevance"), first.min_relevance, first.autocut.jumps) == (True, 0.0, 2)
    assert not second.HasField("min_relevance")
    assert not second.HasField("autocut")
    with pytest.raises(InvalidInput, match="autocut"):
        client.query("c", text="x", autocut=-1)
