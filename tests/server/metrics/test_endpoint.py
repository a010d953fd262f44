"""What a real server tells on its metrics port, against what was asked of it."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nearlight.bundle.folder import Bundle
from nearlight.server.config import ServerConfig
from nearlight.server.errors import AddressUnusable
from nearlight.server.local import LocalServer
from nearlight.v1 import collection_pb2, embedding_pb2, input_pb2, model_pb2, point_id_pb2, point_pb2

Figures = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read(address: str) -> Figures:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        families = text_string_to_metric_families(reply.read().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(figures: Figures, name: str, **labels: str) -> float:
    return figures.get((name, frozenset(labels.items())), 0.0)


@dataclass(frozen=True)
class Watched:
    """A server and its figures since the test began: they are of the process, so differences count."""

    stubs: Any
    metrics: str
    before: Figures

    def now(self, name: str, **labels: str) -> float:
        return value(read(self.metrics), name, **labels)

    def since(self, name: str, **labels: str) -> float:
        return self.now(name, **labels) - value(self.before, name, **labels)


@pytest.fixture(scope="module")
def server(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, config_of: Callable[..., ServerConfig]
) -> Iterator[LocalServer]:
    config = config_of([tiny_bundle], tmp_path_factory.mktemp("data"), cache={"max_bytes": 200_000})
    with LocalServer(config) as running:
        yield running


@pytest.fixture
def watched(server: LocalServer, stubs_of: Any) -> Iterator[Watched]:
    with grpc.insecure_channel(server.address) as channel:
        yield Watched(stubs_of(channel), server.metrics_address, read(server.metrics_address))


def embed(watched: Watched, *inputs: input_pb2.Input) -> embedding_pb2.EmbedResponse:
    request = embedding_pb2.EmbedRequest(inputs=inputs, cache={"skip_read": True})  # every input is computed
    reply: embedding_pb2.EmbedResponse = watched.stubs.embedding.Embed(request)
    return reply


def test_calls_inputs_and_stages_are_counted(watched: Watched, images: list[bytes], tiny: Any) -> None:
    inputs = [input_pb2.Input(image=image) for image in images[:5]]
    sent = 0
    for _ in range(3):
        embed(watched, *inputs)
        sent += embedding_pb2.EmbedRequest(inputs=inputs).ByteSize()
    embed(watched, input_pb2.Input(text="dog"), input_pb2.Input(text=f"dog {tiny.raises}"))
    method = "EmbeddingService/Embed"
    assert watched.since("nearlight_calls_total", method=method, status="OK") == 4
    assert watched.since("nearlight_call_seconds_count", method=method) == 4
    assert watched.since("nearlight_request_bytes_total", method=method) >= sent
    assert watched.since("nearlight_batch_rows_sum", tower="tiny/image") == 15
    assert 3 <= watched.since("nearlight_batch_rows_count", tower="tiny/image") <= 15
    assert watched.since("nearlight_engine_busy_seconds_total", tower="tiny/image") > 0
    for stage in ("decode", "queue", "infer"):
        assert watched.since("nearlight_stage_seconds_count", stage=stage, towers="image") == 3
        assert watched.since("nearlight_stage_seconds_count", stage=stage, towers="text") == 1
    assert watched.since("nearlight_stage_seconds_count", stage="reply", towers="any") == 4
    assert watched.since("nearlight_input_failures_total", reason="model_failure") == 1
    assert watched.now("nearlight_calls_in_flight") == 0


def test_rejections_have_their_reason(watched: Watched) -> None:
    too_many = [input_pb2.Input(text="dog")] * 300
    with pytest.raises(grpc.RpcError):
        embed(watched, *too_many)
    with pytest.raises(grpc.RpcError):
        watched.stubs.models.GetModel(model_pb2.GetModelRequest(name="nobody"))
    batches = [embedding_pb2.EmbedRequest(inputs=some) for some in (too_many, too_many[:1])]
    replies = watched.stubs.embedding.EmbedStream(
        embedding_pb2.EmbedStreamRequest(batch=batch) for batch in batches
    )
    assert [reply.HasField("error") for reply in replies] == [True, False]
    point = point_pb2.PointInput(id=point_id_pb2.PointId(num=1), text="dog")
    nowhere = point_pb2.UpsertRequest(collection="nowhere", points=[point])
    [reply] = watched.stubs.points.UpsertStream(iter([point_pb2.UpsertStreamRequest(batch=nowhere)]))
    assert reply.HasField("error")
    assert watched.since("nearlight_rejections_total", reason="collection_not_found") == 1
    assert watched.since("nearlight_rejections_total", reason="invalid_input") == 2
    assert watched.since("nearlight_rejections_total", reason="not_found") == 1
    method = "EmbeddingService/Embed"
    assert watched.since("nearlight_calls_total", method=method, status="INVALID_ARGUMENT") == 1


def test_padding_is_what_the_tokenizer_says(watched: Watched, tiny_bundle: Path) -> None:
    texts = ["dog", "a dog on the beach with a ball", "one two three four five six seven eight nine"]
    tokens = [len(row) for row in Bundle.open(tiny_bundle).tokenizer().rows(texts)]
    widths = [next(width for width in (8, 16, 24, 32, 48, 77) if width >= n) for n in tokens]
    embed(watched, *(input_pb2.Input(text=text) for text in texts))
    assert watched.since("nearlight_text_tokens_total") == sum(tokens)
    assert watched.since("nearlight_padding_tokens_total") == sum(widths) - sum(tokens)


def test_labels_are_looked_up_once_and_then_known(watched: Watched, images: list[bytes]) -> None:
    labels = embedding_pb2.Labels(labels=[embedding_pb2.Label(name=name) for name in ("cat", "dog", "cow")])
    for _ in range(3):
        watched.stubs.embedding.Classify(embedding_pb2.ClassifyRequest(images=images[:1], labels=labels))
    assert watched.since("nearlight_cache_lookups_total", cache="labels", hit="no") == 1
    assert watched.since("nearlight_cache_lookups_total", cache="labels", hit="yes") == 2


def test_the_state_is_looked_up(watched: Watched, server: LocalServer, images: list[bytes]) -> None:
    watched.stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="photos"))
    points = [
        point_pb2.PointInput(id=point_id_pb2.PointId(num=number), image=image)
        for number, image in enumerate(images)
    ]
    watched.stubs.points.Upsert(point_pb2.UpsertRequest(collection="photos", points=points))
    assert watched.now("nearlight_collection_points", collection="photos") == len(images)
    assert watched.now("nearlight_store_bytes") > len(images) * 16 * 4
    assert watched.now("nearlight_serving") == 1
    assert (
        watched.now("nearlight_model", model="tiny", precision="fp32", provider="CPUExecutionProvider") == 1
    )
    queue = [key for key in read(watched.metrics) if key[0] == "nearlight_queue_rows"]
    assert {dict(labels)["tower"] for _, labels in queue} == {"tiny/image", "tiny/text"}
    assert watched.now("process_resident_memory_bytes") > 10_000_000


def test_a_call_that_the_caller_leaves_is_counted_as_cancelled(watched: Watched) -> None:
    stream = watched.stubs.embedding.EmbedStream(iter([]), timeout=60)
    list(stream)

    def endless() -> Iterator[embedding_pb2.EmbedStreamRequest]:
        batch = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")])
        while True:
            yield embedding_pb2.EmbedStreamRequest(batch=batch)

    left = watched.stubs.embedding.EmbedStream(endless())
    next(left)
    assert watched.now("nearlight_calls_in_flight") == 1
    left.cancel()
    deadline = time.monotonic() + 20
    while not watched.since(
        "nearlight_calls_total", method="EmbeddingService/EmbedStream", status="CANCELLED"
    ):
        assert time.monotonic() < deadline, "the call that was left is not counted"
    assert watched.now("nearlight_calls_in_flight") == 0


def test_it_can_be_switched_off_and_a_taken_port_is_said(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    with LocalServer(config_of([tiny_bundle], tmp_path / "a", metrics={"listen": "off"})) as server:
        assert server.metrics_address == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressUnusable, match="--metrics off"):
            LocalServer(config_of([tiny_bundle], tmp_path / "b", metrics={"listen": address}))


def test_it_ends_with_the_server(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    with LocalServer(config_of([tiny_bundle], tmp_path)) as server:
        assert read(server.metrics_address)
    with pytest.raises(urllib.error.URLError):
        read(server.metrics_address)


def test_looks_into_the_cache_of_vectors_are_counted(watched: Watched) -> None:
    request = embedding_pb2.EmbedRequest(inputs=[{"text": word} for word in ("newt", "toad", "newt")])
    for hits, misses in ((1, 2), (4, 2)):
        watched.stubs.embedding.Embed(request)
        assert watched.since("nearlight_cache_lookups_total", cache="vectors", hit="yes") == hits
        assert watched.since("nearlight_cache_lookups_total", cache="vectors", hit="no") == misses
