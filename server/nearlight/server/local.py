"""A server inside this process, for the demo and for tests."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from nearlight.server.config import ServerConfig
from nearlight.server.config_layers import load_config
from nearlight.server.serving import Server

START_SECONDS = 300.0


class LocalServer:
    """A running server in a thread of its own; leaving the `with` block drains and stops it.

    Args:
        config: as it runs.

    Raises:
        StartError: it cannot start.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.address = ""
        self.metrics_address = ""
        self._config = config
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="nearlight-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError(f"the server did not start within {START_SECONDS:.0f} s")
        if self._error:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Drain and stop; a second call does nothing."""
        if self._thread.is_alive() and self._stopping:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = Server(self._config)
        await server.start()
        self.address, self.metrics_address = server.address, server.metrics_address
        self._ready.set()
        await self._stopping.wait()
        await server.stop()


def start(bundle: str | None, data_folder: Path, listen: str = "127.0.0.1:0") -> LocalServer:
    """Start a server in this process and wait until it serves.

    Args:
        bundle: folder or name; None: the bundle shipped with Nearlight.
        data_folder: where collections live; made if missing.
        listen: host:port; port 0 picks a free one.

    Raises:
        StartError: it cannot start.
    """
    flags = {"bundles": (bundle,) if bundle else (), "data_folder": data_folder, "listen": listen}
    return LocalServer(load_config(None, flags))
