"""The port where the figures are read: GET /metrics, in Prometheus' text format."""

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from nearlight.server.errors import AddressUnusable
from nearlight.server.metrics import figures


class MetricsEndpoint:
    """A small HTTP server in a thread of its own, so that a busy event loop does not keep figures back.

    Args:
        listen: HOST:PORT; port 0 picks a free one.
        state: what is looked up when somebody asks.

    Raises:
        AddressUnusable: the port is taken, or the address is not this machine's.
    """

    def __init__(self, listen: str, state: Collector) -> None:
        registry = CollectorRegistry()
        for figure in figures.ALL:
            registry.register(figure)
        registry.register(state)
        ProcessCollector(registry=registry)  # resident memory, processor time, open files
        PlatformCollector(registry=registry)
        host, _, port = listen.rpartition(":")
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise AddressUnusable(
                f"cannot give metrics on {listen}: {error.strerror or error}; choose another address with "
                "--metrics HOST:PORT, or --metrics off"
            ) from None
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
