"""Starts the process that builds an index, waits for it, and ends it when it is not wanted any more."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from nearlight.store.errors import IndexBuildFailed
from nearlight.store.generations.building import BuildOrder, Built

COMMAND = [sys.executable, "-P", "-m", "nearlight.store.generations.build_process"]
_LOOK_SECONDS = 0.05
_MAX_ERROR_CHARS = 500


def run_build(order: BuildOrder, stop: threading.Event) -> Built:
    """Build an index in a process apart.

    Args:
        order: what to build.
        stop: set when the store is being closed.

    Raises:
        IndexBuildFailed: says what the process said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(order.n_threads), "OMP_WAIT_POLICY": "PASSIVE"}
    try:
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
    except OSError as error:
        raise IndexBuildFailed(f"the process that builds cannot be started: {error}") from error
    with process:
        try:
            said, wrong = _outcome(process, order, stop)
        finally:
            process.kill()
    if process.returncode != 0:
        reason = wrong.strip()[-_MAX_ERROR_CHARS:] or f"it ended with {process.returncode}"
        raise IndexBuildFailed(f"building {Path(order.file).name} failed: {reason}")
    return Built(**json.loads(said))


def _outcome(process: "subprocess.Popen[str]", order: BuildOrder, stop: threading.Event) -> tuple[str, str]:
    question: str | None = order.to_json()
    while True:
        try:
            return process.communicate(question, timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            question = None
        if stop.is_set():
            raise IndexBuildFailed("the store is being closed")


def memory_budget() -> int:
    """Bytes that building may take where nobody said: half of the machine's memory, or of the container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return (min(total, int(limit)) if limit.isdigit() else total) // 2
