"""Traces, by OpenTelemetry: a span for each call, and inside it one for each stage.

A call's trace travels in a context variable, so that whoever has its inputs embedded need not know of it.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from nearlight.server.call import StageTimes
from nearlight.server.config_tracing import TracingConfig
from nearlight.server.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

NS_PER_MS = 1_000_000
_current: ContextVar["_CallTrace | None"] = ContextVar("nearlight_trace", default=None)


class CallTrace(Protocol):
    """The trace of one call."""

    def end(self, status: str, caller: str) -> None:
        """The call is over.

        Args:
            status: name of its gRPC status.
            caller: who made it; "" where that was not found out.
        """
        ...


class Tracing(Protocol):
    """Makes the traces of a server."""

    def begin(self, method: str, metadata: Mapping[str, Any], request_id: str) -> CallTrace:
        """A call has come; its trace goes on where the caller's `traceparent` says."""
        ...

    def close(self) -> None:
        """Send what waits."""
        ...


class NoTracing:
    """Traces nothing."""

    def begin(self, method: str, metadata: Mapping[str, Any], request_id: str) -> CallTrace:
        """Nothing begins."""
        return _NOTHING

    def close(self) -> None:
        """Nothing waits."""


class _Nothing:
    def end(self, status: str, caller: str) -> None:
        return


_NOTHING = _Nothing()


class OpenTelemetry:
    """Sends traces to where a provider says.

    Args:
        provider: of tracers; closed by `close`.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("nearlight.server", version("nearlight"))
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, metadata: Mapping[str, Any], request_id: str) -> CallTrace:
        """Begin the span of a call."""
        from opentelemetry.trace import SpanKind

        service, _, name = method.lstrip("/").partition("/")
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=self._propagator.extract(metadata),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "nearlight.request_id": request_id,
            },
        )
        trace = _CallTrace(self._tracer, span)
        if span.is_recording():
            _current.set(trace)
        return trace

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()


class _CallTrace:
    """A span of OpenTelemetry."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span

    def add_stages(self, times: StageTimes) -> None:
        """Spans of the stages, one after the other up to now: of the slowest input at each."""
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        begun = time.time_ns() - round((times.decode_ms + times.queue_ms + times.infer_ms) * NS_PER_MS)
        for stage in ("decode", "queue", "infer"):
            ended = begun + round(getattr(times, f"{stage}_ms") * NS_PER_MS)
            self._tracer.start_span(stage, context=context, start_time=begun).end(end_time=ended)
            begun = ended

    def end(self, status: str, caller: str) -> None:
        from opentelemetry.trace import StatusCode

        _current.set(None)
        self._span.set_attributes({"rpc.grpc.status": status, "nearlight.caller": caller})
        if status != "OK":
            self._span.set_status(StatusCode.ERROR, status)
        self._span.end()


def stages_passed(times: StageTimes) -> None:
    """Inputs of the call that this task serves went through the stages."""
    trace = _current.get()
    if trace:
        trace.add_stages(times)


def open_tracing(config: TracingConfig) -> Tracing:
    """Tracing as configured.

    Raises:
        ConfigError: an endpoint is set, and OpenTelemetry is not installed.
    """
    if not config.endpoint:
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint needs OpenTelemetry ({error.name} is missing): pip install 'nearlight[otel]'"
        ) from None
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(config.sample_share),
        resource=Resource.create({"service.name": "nearlight", "service.version": version("nearlight")}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(config.endpoint)))
    return OpenTelemetry(provider)
