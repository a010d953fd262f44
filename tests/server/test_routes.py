from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from nearlight.server.routes import Routes


class Counting:
    """Knows which methods were registered by themselves."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.server = server
        self.registered: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self.registered += handlers


async def test_methods_are_found_by_name_and_not_registered_one_by_one() -> None:
    add: Callable[[Any, Any], None] = health_pb2_grpc.add_HealthServicer_to_server
    server, counting = grpc.aio.server(), Counting(grpc.aio.server())
    servicer = health.aio.HealthServicer()
    add(servicer, counting)
    assert "Check" in counting.registered  # what generated code does
    counting = Counting(server)
    add(servicer, Routes(counting))  # type: ignore[arg-type]
    assert counting.registered == []
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)
