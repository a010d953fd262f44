"""Other servers of the same weights, in processes of their own, and a client for their JSON over HTTP."""

import asyncio
import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

from nearlight.client.bench.results import Answer

START_SECONDS = 100.0
F32 = npt.NDArray[np.float32]
Raw = bytes | str


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server of somebody else's.

    Args:
        name: with its version.
        port: on the loopback.
        path: of the call.
        body: of one input.
        vector: from the answer's document.
        process: leads a group of its own.
    """

    name: str
    port: int
    path: str
    body: Callable[[Raw], bytes]
    vector: Callable[[Any], list[float]]
    process: subprocess.Popen[bytes]

    def embed(self, item: Raw) -> F32:
        """One unit vector (D,).

        Raises:
            OSError: no answer, or an error of the server.
        """
        request = Request(f"http://127.0.0.1:{self.port}{self.path}", self.body(item), _JSON)
        with urlopen(request, timeout=60) as reply:
            vector = np.asarray(self.vector(json.load(reply)), np.float32)
        unit: F32 = vector / np.linalg.norm(vector)
        return unit

    @contextmanager
    def awake(self) -> Iterator[None]:
        """It runs inside; outside it is stopped, so that its idle threads take nothing from the others."""
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGSTOP)


_JSON = {"Content-Type": "application/json"}


def infinity_command(python: str, checkpoint: Path, port: int) -> list[str]:
    """How infinity-emb serves a checkpoint on a CPU."""
    program = str(Path(python).parent / "infinity_emb")
    options = {"--model-id": checkpoint, "--port": port, "--host": "127.0.0.1", "--log-level": "error"}
    options |= {"--device": "cpu", "--engine": "torch", "--dtype": "float32", "--batch-size": 32}
    flags = ["--no-bettertransformer", "--url-prefix", ""]
    return [python, program, "v2", *itertools.chain(*((k, str(v)) for k, v in options.items())), *flags]


def infinity_body(item: Raw) -> bytes:
    """Text, or an image as a data URI: the one way in that needs no URL."""
    if isinstance(item, str):
        return json.dumps({"model": "clip", "input": [item]}).encode()
    uri = "data:image/jpeg;base64," + base64.b64encode(item).decode()
    return json.dumps({"model": "clip", "input": [uri], "modality": "image"}).encode()


def litserve_body(item: Raw) -> bytes:
    """An image as base64."""
    assert isinstance(item, bytes)
    return json.dumps({"image": base64.b64encode(item).decode()}).encode()


@contextmanager
def infinity(python: str, checkpoint: Path) -> Iterator[Peer]:
    """infinity-emb, started and asleep."""
    port = _free_port()
    command = [*infinity_command(python, checkpoint, port), "--served-model-name", "clip"]
    with _started("infinity-emb", command, port) as process:
        yield Peer(
            f"infinity-emb {_version(python, 'infinity_emb')}",
            port,
            "/embeddings",
            infinity_body,
            lambda document: document["data"][0]["embedding"],
            process,
        )


@contextmanager
def litserve(python: str, weights: Path) -> Iterator[Peer]:
    """A LitServe program, started and asleep."""
    port = _free_port()
    command = [python, str(Path(__file__).with_name("litserve_clip.py")), str(port), str(weights)]
    with _started("LitServe", command, port) as process:
        yield Peer(
            f"litserve {_version(python, 'litserve')}, torch bf16",
            port,
            "/predict",
            litserve_body,
            lambda document: document["embedding"],
            process,
        )


@contextmanager
def _started(name: str, command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers /health; stopped until it is woken.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    environment = {k: v for k, v in environment.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment |= {"INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _wait_until_healthy(name, process, port)
        os.killpg(process.pid, signal.SIGSTOP)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe does not end at SIGTERM
        process.communicate()


def _wait_until_healthy(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            assert process.stderr
            last = process.stderr.read()[-600:].decode(errors="replace")
            raise RuntimeError(f"{name} ended with {process.returncode}: {last}")
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            if reply.status == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"{name} did not answer within {START_SECONDS:.0f} s")


class Caller:
    """Keeps connections to a peer open and asks over whichever is free."""

    def __init__(self, peer: Peer, inputs: Sequence[Raw]) -> None:
        self._peer = peer
        bodies = [peer.body(item) for item in inputs]
        head = f"POST {peer.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._requests = itertools.cycle(requests)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> Answer:
        """Send the next input and read the answer whole."""
        reader, writer = self._free.pop() if self._free else await self._connection()
        writer.write(next(self._requests))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
        self._free.append((reader, writer))
        status = head.split(" ", 2)[1]
        return Answer(1) if status == "200" else Answer(0, (status,))

    def close(self) -> None:
        """End the connections."""
        for _, writer in self._free:
            writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._peer.port, limit=2**22)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _version(python: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "?"
