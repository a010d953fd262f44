"""Indexes over the wire: configured, searched, measured and watched, by the client and by the command."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from nearlight.client import Client, IndexConfig, InvalidInput, Point, cli
from nearlight.server.local import LocalServer
from nearlight.store.generations import keeping, search

N = 700
RNG = np.random.default_rng(3)
VECTORS = (RNG.standard_normal((20, 16))[RNG.integers(0, 20, N)] + 0.6 * RNG.standard_normal((N, 16))).astype(
    np.float32
)


@pytest.fixture(scope="module", autouse=True)
def small_sizes() -> Iterator[None]:
    """The client writes in batches: whatever comes after an index was begun asks for another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "LOOK_SECONDS", 0.05)
        patch.setattr(keeping, "HEAD_ROWS", 0)
        patch.setattr(search, "FEW_ROWS", 20)
        yield


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, tmp_path_factory: Any, config_of: Callable[..., Any]) -> Iterator[str]:
    config = config_of([tiny_bundle], tmp_path_factory.mktemp("indexes"), indexes={"recall_share": 1.0})
    with LocalServer(config) as server, Client(server.address) as client:
        client.create_collection("c", index=IndexConfig(kind="hnsw"))
        client.upsert("c", [Point(i, vector=VECTORS[i], payload={"n": i}) for i in range(N)])
        wait_for_index(client, "hnsw")
        yield server.address


def wait_for_index(client: Client, kind: str) -> None:
    deadline = time.monotonic() + 60
    while (found := client.collection("c").index).kind != kind or found.head_points:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_query_says_how_it_was_answered(address: str) -> None:
    with Client(address) as client:
        index = client.collection("c").index
        assert (index.kind, index.state, index.indexed_seq) == ("hnsw", "ready", N)
        assert index.estimated_recall >= 0.9
        info = client.query("c", vector=VECTORS[0]).info
        assert (info.exact, info.index_kind, info.generation, info.head_points) == (
            False,
            "hnsw",
            index.generation,
            0,
        )
        assert info.hnsw_ef > 0
        assert info.estimated_recall == pytest.approx(index.estimated_recall)
        assert client.query("c", vector=VECTORS[0], hnsw_ef=333).info.hnsw_ef == 333
        wide = client.query("c", vector=VECTORS[0], recall_target=1.0).info
        assert wide.hnsw_ef >= info.hnsw_ef
        exact = client.query("c", vector=VECTORS[0], exact=True).info
        assert (exact.exact, exact.index_kind, exact.estimated_recall, exact.hnsw_ef) == (True, "flat", 1, 0)
        filtered = client.query(
            "c", vector=VECTORS[0], filter={"must": [{"field": {"key": "n", "range": {"lt": 9}}}]}
        )
        assert (len(filtered.hits), filtered.info.exact, filtered.info.filtered_count) == (9, True, 9)
        some = client.query_batch("c", [{"vector": VECTORS[0]}, {"vector": VECTORS[1], "exact": True}])
        assert [one.info.exact for one in some] == [False, True]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recall_target": 0.3}, "params.recall_target is 0.3; the limit is 0.5 to 1"),
        ({"recall_target": float("nan")}, "params.recall_target is nan"),
        ({"hnsw_ef": 70_000}, "params.hnsw_ef is 70000; the limit is 1 to 65536"),
        ({"ivf_nprobe": 70_000}, "params.ivf_nprobe is 70000"),
    ],
)
def test_params_out_of_range_are_refused(address: str, options: dict[str, Any], words: str) -> None:
    with Client(address) as client, pytest.raises(InvalidInput, match=words):
        client.query("c", vector=VECTORS[0], **options)


def test_recall_is_measured_by_image_and_by_text(address: str) -> None:
    with Client(address) as client:
        found = client.measure_recall("c", queries=50)
        assert found.image_recall is not None
        assert found.text_recall is not None
        assert found.recall == min(found.image_recall, found.text_recall) >= 0.9
        assert found.queries == 100
        with pytest.raises(InvalidInput, match="limit is 5000"):
            client.measure_recall("c", limit=5000)
    shown = CliRunner().invoke(cli.app, ["collections", "recall", "c", "--server", address])
    assert re.fullmatch(r"c: recall@10 images [01]\.\d{4}, texts [01]\.\d{4} in \d+ queries\n", shown.output)


def test_live_queries_are_sampled_by_modality_and_selectivity(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., Any]
) -> None:
    config = config_of(
        [tiny_bundle], tmp_path, indexes={"recall_share": 1.0}, metrics={"listen": "127.0.0.1:0"}
    )
    with LocalServer(config) as server, Client(server.address) as client:
        before = sampled(server)
        client.create_collection("c", index=IndexConfig(kind="hnsw"))
        client.upsert("c", [Point(i, vector=VECTORS[i], payload={"even": i % 2 == 0}) for i in range(N)])
        wait_for_index(client, "hnsw")
        client.query("c", text="a dog")
        client.query(
            "c",
            vector=VECTORS[0],
            filter={"must": [{"field": {"key": "even", "match": {"boolean": True}}}]},
            hnsw_ef=200,  # wide enough for the index to answer alone
        )
        client.query("c", vector=VECTORS[0], exact=True)  # nothing to compare
        deadline = time.monotonic() + 30
        wanted = {("text", "all"): 1.0, ("vector", "50-100%"): 1.0}
        while (counted := since(before, sampled(server))) != wanted:
            assert time.monotonic() < deadline, counted
            time.sleep(0.05)


def since(before: dict[tuple[str, str], float], now: dict[tuple[str, str], float]) -> dict[Any, float]:
    return {key: n - before.get(key, 0) for key, n in now.items() if n > before.get(key, 0)}


def sampled(server: LocalServer) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        (one.labels["modality"], one.labels["selectivity"]): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "nearlight_recall_count"
    }


def test_an_index_is_configured_over_the_wire(address: str) -> None:
    runner = CliRunner()
    arguments = ["collections", "index", "c", "--server", address]
    with Client(address) as client:
        answered = runner.invoke(cli.app, [*arguments, "--kind", "ivf", "--recall-target", "0.9", "--json"])
        assert answered.exit_code == 0, answered.output
        assert json.loads(answered.output)["name"] == "c"
        wait_for_index(client, "ivf")
        assert client.query("c", vector=VECTORS[0]).info.ivf_nprobe > 0
        refused = runner.invoke(cli.app, [*arguments, "--hnsw-m", "1000"])
        assert refused.exit_code != 0
        client.configure_index("c", IndexConfig(kind="hnsw"))
        wait_for_index(client, "hnsw")


def test_metadata_is_replaced(stubs: Any) -> None:
    from nearlight.v1 import collection_pb2

    stubs.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(name="m", metadata_json=b'{"a": 1}')
    )
    request = collection_pb2.UpdateCollectionRequest(name="m", metadata_json=b'{"b": 2}')
    assert json.loads(stubs.collections.UpdateCollection(request).metadata_json) == {"b": 2}
    left_alone = stubs.collections.UpdateCollection(collection_pb2.UpdateCollectionRequest(name="m"))
    assert json.loads(left_alone.metadata_json) == {"b": 2}
    with pytest.raises(grpc.RpcError, match="metadata_json is not JSON"):
        stubs.collections.UpdateCollection(
            collection_pb2.UpdateCollectionRequest(name="m", metadata_json=b"{")
        )
