"""Traces, as a collector that speaks OTLP receives them."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from nearlight.server.config import ServerConfig
from nearlight.server.config_tracing import TracingConfig
from nearlight.server.errors import ConfigError
from nearlight.server.local import LocalServer
from nearlight.server.tracing import NoTracing, open_tracing
from nearlight.v1 import embedding_pb2, input_pb2, model_pb2

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Where it listens, and the spans it got."""
    spans: list[Any] = []
    lock = threading.Lock()

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            with lock:
                for resource in request.resource_spans:
                    assert "nearlight" in str(resource.resource)
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", spans
    server.stop(None).wait()


def test_a_call_is_a_span_with_its_stages_inside_and_continues_the_callers(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    collector: tuple[str, list[Any]],
) -> None:
    endpoint, spans = collector
    config = config_of([tiny_bundle], tmp_path, tracing={"endpoint": endpoint, "sample_share": 0})
    always = input_pb2.CacheOptions(skip_read=True, skip_write=True)
    request = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")], cache=always)
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        stubs = stubs_of(channel)
        stubs.embedding.Embed(request)  # the share is 0, and the caller has not decided
        sampled = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine")]
        stubs.embedding.Embed(request, metadata=sampled)
        with pytest.raises(grpc.RpcError):
            stubs.models.GetModel(model_pb2.GetModelRequest(name="nobody"), metadata=sampled)
        stubs.embedding.Embed(request, metadata=[("traceparent", "nonsense")])
    by_name = {span.name: span for span in spans}
    stages = {"decode", "queue", "infer"}
    assert (
        set(by_name) == {"nearlight.v1.EmbeddingService/Embed", "nearlight.v1.ModelService/GetModel"} | stages
    )
    assert len(spans) == 5
    call = by_name["nearlight.v1.EmbeddingService/Embed"]
    failed = by_name["nearlight.v1.ModelService/GetModel"]
    for span in (call, failed):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    attributes = {item.key: item.value.string_value for item in call.attributes}
    assert attributes["nearlight.request_id"] == "mine"
    assert attributes["rpc.grpc.status"] == "OK"
    assert failed.status.message == "NOT_FOUND"
    ended = 0
    for stage in ("decode", "queue", "infer"):
        span = by_name[stage]
        assert (span.trace_id, span.parent_span_id) == (call.trace_id, call.span_id)
        assert span.end_time_unix_nano >= span.start_time_unix_nano >= ended
        ended = span.end_time_unix_nano
    assert ended <= call.end_time_unix_nano


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert isinstance(open_tracing(TracingConfig()), NoTracing)


def test_without_the_packages_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'nearlight\[otel\]'"):
        open_tracing(TracingConfig(endpoint="http://127.0.0.1:4317"))


def test_an_endpoint_is_a_url() -> None:
    with pytest.raises(ValueError, match="is not http://HOST:PORT"):
        TracingConfig(endpoint="127.0.0.1:4317")
