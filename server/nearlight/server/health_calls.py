"""grpc.health.v1 on the wire, for anyone at any time: a message that is none gets a proper status.

gRPC would answer UNKNOWN, with a page in the log each time.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

Context = grpc.aio.ServicerContext[Any, Any]
Serve = Callable[[health_pb2.HealthCheckRequest, Context], Awaitable[Any]]


def add_health(servicer: health.aio.HealthServicer, server: Any) -> None:
    """Add the calls to a server, as the generated function would."""
    write = health_pb2.HealthCheckResponse.SerializeToString
    handlers: dict[str, Any] = {
        "Check": grpc.unary_unary_rpc_method_handler(_reading(servicer.Check), None, write),
        "Watch": grpc.unary_stream_rpc_method_handler(_reading(servicer.Watch), None, write),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers)])


def _reading(serve: Serve) -> Callable[[bytes, Context], Awaitable[Any]]:
    async def served(content: bytes, context: Context) -> Any:
        try:
            request = health_pb2.HealthCheckRequest.FromString(content)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the request cannot be read: {error}")
        return await serve(request, context)

    return served
