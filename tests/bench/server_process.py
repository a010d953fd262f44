"""A server in a process of its own, for measurements; and how much processor time processes use."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server.

    Args:
        address: it listens on.
        pid: of its process.
    """

    address: str
    pid: int


@contextmanager
def running_server(bundle: Path, settings: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """A server on a free port of the loopback, on the CPU, without the cache of vectors and without metrics.

    Args:
        bundle: folder.
        settings: further `--set` values, such as "engine.runtime=openvino".
    """
    with tempfile.TemporaryDirectory() as data:
        arguments = ["--bundle", str(bundle), "--data", data, "--listen", "127.0.0.1:0"]
        arguments += ["--log-level", "error", "--provider", "cpu"]
        for setting in ["cache.max_bytes=0", *settings]:  # the same inputs come round and round
            arguments += ["--set", setting]
        child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
        try:
            line = child.stdout.readline() if child.stdout else ""
            match = re.search(r" on (\S+) ", line)
            if not match:
                raise SystemExit("the server did not start")
            yield ServerProcess(match[1], child.pid)
        finally:
            child.terminate()
            child.wait()


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a comparison did.

    Args:
        count: inputs embedded.
        wall_s: seconds it took.
        cpu_s: processor seconds it used, of all its processes: they tell the cost on a busy machine too.
    """

    count: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Inputs per second."""
        return self.count / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds per input."""
        return 1e3 * self.cpu_s / self.count


class Clock:
    """Wall and processor time since it was made, of this process and of another one."""

    def __init__(self, other_pid: int | None = None) -> None:
        self._pid = other_pid
        self._wall, self._cpu = time.perf_counter(), self._cpu_s()

    def side(self, count: int) -> Side:
        """What was done since then."""
        return Side(count, time.perf_counter() - self._wall, self._cpu_s() - self._cpu)

    def _cpu_s(self) -> float:
        own = time.process_time()
        if self._pid is None:
            return own
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(") ")[2].split()
        return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
