"""Snapshots over the wire, by the client and by the command, against a real server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nearlight.client import (
    AlreadyExists,
    AsyncClient,
    Client,
    InvalidInput,
    NearlightError,
    NotFound,
    Point,
    cli,
)
from nearlight.server.local import LocalServer

VECTORS = np.random.default_rng(6).standard_normal((50, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module")
def address(images_only_bundle: Path, data: Path, config_of: Callable[..., Any]) -> Iterator[str]:
    with LocalServer(config_of([images_only_bundle], data)) as server:
        with Client(server.address) as client:
            client.create_collection("c", metadata={"owner": "me"})
            client.upsert("c", [Point(i, vector=VECTORS[i], payload={"n": i}) for i in range(50)])
            client.update_aliases({"live": "c"})
        yield server.address


def test_a_snapshot_comes_back_as_it_was(address: str) -> None:
    with Client(address) as client:
        made = client.create_snapshot("live")
        assert (made.collection, made.count, made.last_seq) == ("c", 50, client.collection("c").last_seq)
        assert len(made.sha256) == 64
        before = [(one.id, one.payload) for one in client.scroll("c")]
        client.set_payload("c", [3], {"n": "changed"})
        restored = client.restore_snapshot(made.name, "then")
        assert (restored.name, restored.count, restored.metadata) == ("then", 50, {"owner": "me"})
        assert restored.model == "eye"
        assert [(one.id, one.payload) for one in client.scroll("then")] == before
        assert [hit.id for hit in client.query("then", vector=VECTORS[7], limit=1)] == [7]
        assert client.verify("then").ok
        with pytest.raises(AlreadyExists):
            client.restore_snapshot(made.name, "then")
        with pytest.raises(InvalidInput, match="collection is ''"):
            client.restore_snapshot(made.name, "")
        with pytest.raises(InvalidInput, match="snapshot is"):
            client.restore_snapshot("../c", "x")
        with pytest.raises(NotFound, match="no snapshot"):
            client.delete_snapshot("none")
        with pytest.raises(NotFound):
            client.create_snapshot("none")
        client.delete_collection("then")


def test_the_list_comes_in_pages(stubs: Any, address: str) -> None:
    from nearlight.v1 import maintenance_pb2

    with Client(address) as client:
        client.create_collection("other", space=("s", 3))
        for name in ("c", "c", "other", "c"):
            client.create_snapshot(name)
        everything = [one.name for one in client.snapshots()]
        assert [one.name for one in client.snapshots("live")] == [n for n in everything if n.startswith("c-")]
    seen, token = [], ""
    while True:
        page = stubs.maintenance.ListSnapshots(
            maintenance_pb2.ListSnapshotsRequest(page_size=2, page_token=token)
        )
        seen += [one.snapshot for one in page.snapshots]
        token = page.next_page_token
        if not token:
            break
    assert seen == everything


def test_a_damaged_snapshot_is_an_error_and_the_server_goes_on(address: str, data: Path) -> None:
    with Client(address) as client:
        made = client.create_snapshot("c")
        file = data / "snapshots" / f"{made.name}.sqlite3"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(NearlightError, match="has SHA-256"):
            client.restore_snapshot(made.name, "damaged")
        with pytest.raises(NotFound):
            client.collection("damaged")
        assert client.upsert("c", [Point(0, vector=VECTORS[0], payload={"n": 0})]).upserted == 1


def test_the_async_client_too(address: str) -> None:
    async def work() -> list[Any]:
        async with AsyncClient(address) as client:
            made = await client.create_snapshot("c")
            count = (await client.restore_snapshot(made.name, "by-async")).count
            names = [one.name for one in await client.snapshots()]
            await client.delete_snapshot(made.name)
            return [count, made.name in names, made.name in [one.name for one in await client.snapshots()]]

    assert asyncio.run(work()) == [50, True, False]


def test_the_commands(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)

    def run(*words: str) -> Any:
        result = CliRunner().invoke(cli.app, ["collections", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = json.loads(run("snapshot", "c", "--json"))
    assert made["name"] in run("snapshots", "c")
    assert run("restore", made["name"], "by-command") == "by-command: 50 points\n"
    assert made["name"] not in [
        one["name"] for one in json.loads(run("snapshots", "--remove", made["name"], "--json"))
    ]
