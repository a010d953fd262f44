import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.server.log import configure
from nearlight.v1 import embedding_pb2, input_pb2, model_pb2

TOKEN = "a-token-of-sixteen-characters"


def test_only_known_tokens_are_let_in_and_health_is_open_to_all(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    config = config_of([tiny_bundle], tmp_path, security={"tokens": f"{TOKEN},another-token-as-long"})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        models = stubs_of(channel).models
        request = model_pb2.ListModelsRequest()
        assert models.ListModels(request, metadata=[("authorization", f"Bearer {TOKEN}")]).models
        for metadata, words in (
            ([], "no token"),
            ([("authorization", "Bearer wrong")], "not known"),
            ([("authorization", TOKEN)], "not known"),
            ([("authorization", "Bearer ")], "not known"),
        ):
            with pytest.raises(grpc.RpcError, match=words) as caught:
                models.ListModels(request, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert TOKEN not in str(caught.value.details())
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_too_many_calls_at_once_are_told_when_to_come_back(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    config = config_of([tiny_bundle], tmp_path, limits={"max_concurrent_calls": 1})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        embedding = stubs_of(channel).embedding
        gone_on = threading.Event()

        def requests() -> Any:
            batch = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")])
            yield embedding_pb2.EmbedStreamRequest(batch=batch)
            gone_on.wait(30)

        stream = embedding.EmbedStream(requests())
        next(stream)
        with pytest.raises(grpc.RpcError) as caught:
            embedding.Embed(embedding_pb2.EmbedRequest())
        gone_on.set()
        assert list(stream) == []
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 calls are in flight; the limit is 1" in str(caught.value.details())
        status = rpc_status.from_call(caught.value)
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() == 500


def test_a_message_that_is_none_is_refused_and_the_server_goes_on(address: str, stubs: Any) -> None:
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/nearlight.v1.EmbeddingService/Embed")
        nothing: Any = channel.unary_unary("/nearlight.v1.EmbeddingService/Nothing")
        stream: Any = channel.stream_stream("/nearlight.v1.EmbeddingService/EmbedStream")
        with pytest.raises(grpc.RpcError, match="cannot be read") as caught:
            call(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="cannot be read") as caught:
            list(stream(iter([b"\xff\xff\xff"])))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            nothing(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert stubs.models.ListModels(model_pb2.ListModelsRequest()).models


def test_logs_and_failures_carry_the_request_id(
    tiny: Any, tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from nearlight.client import Client, ServerFailure
    from nearlight.server import embedding_service

    monkeypatch.setattr(logging.getLogger("nearlight"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("nearlight"), "propagate", False)
    with LocalServer(config_of([tiny_bundle], tmp_path)) as server:
        configure("debug", "json")
        with grpc.insecure_channel(server.address) as channel:
            embed = stubs_of(channel).embedding.Embed
            poison = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text=f"a {tiny.raises}")])
            assert embed(poison, metadata=[("x-request-id", "mine-1")]).errors
        monkeypatch.setattr(embedding_service, "embed_inputs", None)  # a fault of the server's own
        with Client(server.address) as client, pytest.raises(ServerFailure) as caught:
            client.embed(["a dog"])
    logging.getLogger("nearlight").setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    of_mine = [line for line in lines if line.get("request_id") == "mine-1"]
    assert {line["event"] for line in of_mine} == {"the engine failed on an input", "call"}
    [failed] = [line for line in lines if line["event"] == "call failed"]
    assert "Traceback" in failed["exception"]
    assert f"(request id {failed['request_id']})" in str(caught.value)
    assert "NoneType" not in str(caught.value)


def test_reflection_lists_the_services(address: str) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(address) as channel:
        names = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"nearlight.v1.EmbeddingService", "nearlight.v1.PointService", "grpc.health.v1.Health"} <= names
