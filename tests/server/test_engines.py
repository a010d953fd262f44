"""A server whose collections are in Milvus (Lite) or Qdrant (local), through the Python client."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nearlight.client import Client, InvalidInput, NearlightError, NotFound, NotReady, Point, TooLate
from nearlight.server.command import app
from nearlight.server.config import ServerConfig
from nearlight.server.config_layers import as_toml
from nearlight.server.config_store import StoreConfig
from nearlight.server.errors import ConfigError, EngineUnusable
from nearlight.server.local import LocalServer
from nearlight.server.stores import open_engine

SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "milvus": lambda folder: {"milvus_uri": str(folder / "milvus.db"), "milvus_index": "FLAT"},
    "qdrant": lambda folder: {"qdrant_url": str(folder / "qdrant")},
}
PACKAGES = {"milvus": "milvus_lite", "qdrant": "qdrant_client"}


@pytest.fixture(scope="module", params=list(SETTINGS))
def config(
    request: pytest.FixtureRequest,
    tiny_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
    config_of: Callable[..., ServerConfig],
) -> ServerConfig:
    engine = str(request.param)
    pytest.importorskip(PACKAGES[engine], reason=f"{PACKAGES[engine]} is not installed")
    folder = tmp_path_factory.mktemp(engine)
    store = {"engine": engine, **SETTINGS[engine](folder)}
    return config_of([tiny_bundle], folder / "data", store=store)


def test_index_search_and_come_back(config: ServerConfig, images: list[bytes]) -> None:
    with LocalServer(config) as server, Client(server.address) as client:
        client.create_collection("photos", metadata={"owner": "a"})
        points = [
            Point(f"{i}.png" if i % 2 else i, image=image, payload={"n": i, "album": f"a{i % 3}"})
            for i, image in enumerate(images)
        ]
        assert client.upsert("photos", points).upserted == len(images)
        vectors = client.embed(images).vectors
        _searches(client, images, vectors)
        _changes(client)
        _refuses(client)
        info = client.collection("photos")
    with LocalServer(config) as server, Client(server.address) as client:
        again = client.collection("photos")
        assert (again.count, again.metadata, again.space_id) == (info.count, {"owner": "a"}, info.space_id)
        assert client.aliases() == {"latest": "photos"}
        assert client.query("latest", image=images[7], limit=1)[0].id == "7.png"
        assert client.delete_collection("photos") == info.count
        with pytest.raises(NotFound):
            client.collection("photos")


def match(key: str, value: str | bool) -> dict[str, Any]:
    kind = "boolean" if isinstance(value, bool) else "keyword"
    return {"must": [{"field": {"key": key, "match": {kind: value}}}]}


def _searches(client: Client, images: list[bytes], vectors: Any) -> None:
    assert client.count("photos") == client.collection("photos").count == len(images)
    found = client.query("photos", image=images[3], limit=4)
    order = np.argsort(-(vectors @ vectors[3]), kind="stable")[:4]
    assert [hit.payload["n"] for hit in found] == list(order)
    assert [hit.score for hit in found] == pytest.approx((vectors @ vectors[3])[order], abs=1e-5)
    assert found.info.exact
    assert len(client.query("photos", text="a dog", limit=5)) == 5
    narrow = client.query("photos", text="a dog", filter=match("album", "a1"), limit=24)
    assert {hit.payload["n"] % 3 for hit in narrow} == {1}
    assert len(narrow) == 8 == client.count("photos", match("album", "a1"))
    assert "3.png" not in [hit.id for hit in client.query("photos", id="3.png", limit=24)]
    batch = client.query_batch(
        "photos", [{"id": 2, "limit": 1}, {"text": ""}, {"vector": vectors[2], "limit": 1}]
    )
    assert [type(one).__name__ for one in batch] == ["QueryResult", "ItemError", "QueryResult"]
    groups = client.query_groups("photos", "album", text="a dog", limit=2, group_size=3)
    assert [len(group.hits) for group in groups] == [3, 3]
    assert len({record.id for record in client.scroll("photos")}) == len(images)


def _changes(client: Client) -> None:
    assert client.set_payload("photos", match("album", "a0"), {"seen": True}) == 8
    seq = client.collection("photos").last_seq
    assert client.count("photos", match("seen", True)) == 8
    assert client.query("photos", text="x", min_seq=seq, limit=1)
    with pytest.raises(InvalidInput, match="min_seq"):
        client.query("photos", text="x", min_seq=seq + 10**12, limit=1)
    assert client.delete("photos", [0, "0", 2]) == 2
    assert client.delete("photos", match("album", "a2")) == 7
    client.update_aliases(set={"latest": "photos"})
    assert client.collection("latest").name == "photos"


def _refuses(client: Client) -> None:
    for work in (
        lambda: client.verify("photos"),
        lambda: client.create_snapshot("photos"),
        lambda: client.create_payload_index("photos", "album", "keyword"),
        lambda: client.query("photos", text="x", min_relevance=0.5),
    ):
        with pytest.raises(NearlightError, match=r"embedded store|calibrated"):
            work()
    with pytest.raises(InvalidInput):
        client.query("photos", vector=np.ones(3))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MilvusProcess:
    """Milvus Lite as a server of its own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = "from milvus_lite.adapter.grpc.server import run_server; import sys; "
        command += "run_server(sys.argv[1], host='127.0.0.1', port=int(sys.argv[2]))"
        arguments = [sys.executable, "-c", command, str(self._folder), str(self.port)]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < ends, "Milvus Lite did not start"
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[MilvusProcess]:
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    process = MilvusProcess(tmp_path / "milvus")
    process.start()
    yield process
    process.kill()


def test_an_engine_that_dies_is_unavailable_until_it_is_back(
    milvus: MilvusProcess,
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    images: list[bytes],
) -> None:
    store = {
        "engine": "milvus",
        "milvus_uri": f"http://127.0.0.1:{milvus.port}",
        "timeout_seconds": 0.5,
        "refresh_seconds": 0.2,
    }
    with (
        LocalServer(config_of([tiny_bundle], tmp_path / "data", store=store)) as server,
        Client(server.address) as client,
    ):
        client.create_collection("photos")
        client.upsert("photos", [Point(i, image=image) for i, image in enumerate(images[:4])])
        milvus.kill()
        with pytest.raises(NotReady, match="milvus does not answer"):
            client.query("photos", image=images[0], limit=1, timeout=20)
        assert client.embed(images[:1]).vectors.shape == (1, 16)
        assert client.collections()[0].name == "photos"
        milvus.start()
        ends = time.monotonic() + 60
        while True:
            try:
                assert client.query("photos", image=images[2], limit=1, timeout=3)[0].id == 2
                break
            except (NotReady, TooLate):
                assert time.monotonic() < ends
                time.sleep(0.2)


@pytest.mark.parametrize(
    "store",
    [
        {"engine": "milvus", "milvus_uri": "http://127.0.0.1:{port}"},
        {"engine": "qdrant", "qdrant_url": "http://127.0.0.1:{port}"},
    ],
)
def test_an_engine_that_is_not_there(
    store: dict[str, str], tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    pytest.importorskip(PACKAGES[store["engine"]], reason="it is not installed")
    there = {key: value.format(port=_free_port()) for key, value in store.items()}
    config = config_of([tiny_bundle], tmp_path / "data", store={**there, "timeout_seconds": 0.5})
    for _ in range(2):  # the data folder was let go
        with pytest.raises(EngineUnusable, match=f"{store['engine']} does not answer"):
            LocalServer(config)


@pytest.mark.parametrize(("engine", "package"), [("milvus", "pymilvus"), ("qdrant", "qdrant_client")])
def test_a_package_that_is_missing_is_named(
    engine: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith(f"nearlight.store.engines.{engine}")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    config = StoreConfig(engine=engine, milvus_uri="http://x:1", qdrant_url="http://x:1")
    with pytest.raises(ConfigError, match=rf"nearlight\[{engine}\]"):
        open_engine(config)


def test_the_flags_reach_the_configuration_and_secrets_stay_hidden() -> None:
    arguments = ["--store", "milvus", "--milvus-uri", "http://m:1", "--milvus-token", "root:Milvus"]
    printed = CliRunner().invoke(app, [*arguments, "--print-config"]).stdout
    assert 'engine = "milvus"' in printed
    assert 'milvus_uri = "http://m:1"' in printed
    assert "# milvus_token is set, not shown" in printed
    assert "root:Milvus" not in printed + as_toml(ServerConfig())
    refused = CliRunner().invoke(app, ["--store", "qdrant", "--print-config"])
    assert refused.exit_code == 2
    assert "--qdrant-url" in refused.stderr
