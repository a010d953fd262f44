"""Duplicates, terms and durability by the clients and by the command, against a real server."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nearlight.client import AsyncClient, Client, InvalidInput, Point, UpsertTerms, WrongSpace, cli

Run = Callable[..., Any]


def smooth(seed: int, kind: str = "PNG", side: int = 96) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


@pytest.fixture
def nearlight(address: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as made:
        yield made


@pytest.fixture
def pictures(client: Client, collection: str) -> str:
    """Two copies of one picture, three of another, one alone."""
    shown = [("a", 1, "PNG"), ("b", 2, "PNG"), ("b2", 2, "JPEG"), ("c", 3, "PNG"), ("a2", 1, "WEBP")]
    shown.append(("b3", 2, "BMP"))
    points = [Point(name, {"n": name}, image=smooth(seed, kind)) for name, seed, kind in shown]
    assert client.upsert(collection, points).errors == ()
    return collection


def test_the_command_lists_groups_with_distances(nearlight: Run, pictures: str) -> None:
    done = nearlight("collections", "duplicates", pictures, "--by", "hash", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert [[hit["id"] for hit in group] for group in report["groups"]] == [["b", "b2", "b3"], ["a", "a2"]]
    assert [group[0]["distance"] for group in report["groups"]] == [0, 0]
    assert all(isinstance(hit["distance"], int) for group in report["groups"] for hit in group)
    assert report["deleted"] == 0
    shown = nearlight("collections", "duplicates", pictures, "--by", "hash", "--threshold", "4").stdout
    assert "2 groups with 3 points to spare, 0 deleted" in shown


def test_nothing_is_deleted_unless_asked_and_confirmed(nearlight: Run, client: Client, pictures: str) -> None:
    command = ("collections", "duplicates", pictures, "--by", "hash", "--delete")
    assert nearlight(*command).exit_code == 1  # nobody answers
    assert client.count(pictures) == 6
    report = json.loads(nearlight(*command, "--yes", "--json").stdout)
    assert report["deleted"] == 3
    assert {record.id for record in client.scroll(pictures)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "words", [("--by", "colour"), ("--by", "hash", "--threshold", "1.5"), ("--filter", "{")]
)
def test_what_makes_no_sense_is_refused(nearlight: Run, pictures: str, words: tuple[str, ...]) -> None:
    assert nearlight("collections", "duplicates", pictures, *words).exit_code == 2


def test_both_clients_find_the_same(client: Client, address: str, pictures: str) -> None:
    async def find() -> Any:
        async with AsyncClient(address) as other:
            return await other.find_duplicates(pictures, by="vector", min_score=0.999, with_payload=["n"])

    found = client.find_duplicates(pictures, by="vector", min_score=0.999, with_payload=["n"])
    there = [[(hit.id, hit.score, hit.payload) for hit in group] for group in asyncio.run(find())]
    assert [[(hit.id, hit.score, hit.payload) for hit in group] for group in found] == there
    assert [hit.id for hit in found[0]] == ["b", "b2", "b3"]
    only = {"must": [{"has_id": {"ids": [{"str": "a"}, {"str": "a2"}, {"str": "c"}]}}]}
    narrow = client.find_duplicates(pictures, by="hash", filter=only)
    assert [[hit.id for hit in group] for group in narrow] == [["a", "a2"]]
    with pytest.raises(InvalidInput, match="by is 'colour'"):
        client.find_duplicates(pictures, by="colour")  # type: ignore[arg-type]


def test_index_leaves_out_and_reports_look_alikes(nearlight: Run, client: Client, tmp_path: Path) -> None:
    for name, seed, kind in (("1.png", 7, "PNG"), ("2.jpg", 7, "JPEG"), ("3.png", 8, "PNG")):
        (tmp_path / name).write_bytes(smooth(seed, kind))
    command = ("index", tmp_path, "-c", "albums", "--skip-duplicates", "4", "--json")
    done = nearlight(*command)
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["indexed"], report["failed"]) == (2, [])
    assert [one["id"] for one in report["duplicates"]] == ["2.jpg"]
    assert "looks like point '1.png'" in report["duplicates"][0]["reason"]
    assert {record.id for record in client.scroll("albums")} == {"1.png", "3.png"}
    again = json.loads(nearlight(*command).stdout)
    assert (again["indexed"], again["skipped"], len(again["duplicates"])) == (0, 2, 1)


def test_terms_hold_for_lists_and_streams(client: Client, collection: str) -> None:
    insert, update = UpsertTerms(mode="insert"), UpsertTerms(mode="update")
    points = [Point(i, {"n": 1}, vector=np.eye(16)[i]) for i in range(3)]
    assert client.upsert(collection, points[:2], terms=insert).upserted == 2
    done = client.upsert(collection, points, terms=insert)
    assert [(one.index, one.code) for one in done.errors] == [(0, "ALREADY_EXISTS"), (1, "ALREADY_EXISTS")]
    acks = list(client.upsert_stream(collection, [Point(9, vector=np.eye(16)[9]), *points], terms=update))
    assert [error.code for ack in acks for error in ack.errors] == ["NOT_FOUND"]
    assert client.count(collection) == 3
    with pytest.raises(WrongSpace):
        client.upsert(collection, points, terms=UpsertTerms(space_id="another"))
    with pytest.raises(InvalidInput, match="mode is 'replace'"):
        UpsertTerms(mode="replace")  # type: ignore[arg-type]


def test_durability_is_set_and_shown(nearlight: Run, client: Client) -> None:
    made = json.loads(nearlight("collections", "create", "quick", "--durability", "relaxed", "--json").stdout)
    assert made["durability"] == "relaxed"
    assert client.upsert("quick", [Point(1, vector=np.eye(16)[1])], terms=UpsertTerms(durability="full")).seq
    changed = json.loads(nearlight("collections", "update", "quick", "--durability", "full", "--json").stdout)
    assert changed["durability"] == "full"
    assert client.update_collection("quick", metadata={"b": 2}).metadata == {"b": 2}
    assert nearlight("collections", "update", "quick", "--durability", "none").exit_code == 1


def test_a_read_asks_for_its_own_write_and_a_seq_to_come_is_refused(client: Client, collection: str) -> None:
    seq = client.upsert(collection, [Point(1, vector=np.eye(16)[1])]).seq
    assert [hit.id for hit in client.query(collection, vector=np.eye(16)[1], min_seq=seq).hits] == [1]
    with pytest.raises(InvalidInput, match=f"min_seq is {seq + 1}; the collection's last is {seq}"):
        client.query(collection, vector=np.eye(16)[1], min_seq=seq + 1)
