"""Where services are added to a gRPC server: by name, all in one place."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc


class Routes:
    """Takes what generated code adds, and leaves out that each method is also registered by itself.

    For registered methods grpc.aio waits one by one: with each call it ends and begins anew a wait for the
    next call of all of them, some fifty here. Looked up by name they share one wait.

    Args:
        server: not started.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Look methods up in these."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Nothing: the same methods came as generic handlers."""
