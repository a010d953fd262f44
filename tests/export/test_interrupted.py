"""An export that is stopped or finds no room: what it says, and that nothing of it remains."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "nearlight.client.cli", "export"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty home: folders for the bundle, for temporary files and for the cache."""
    for name in ("bundles", "tmp", "cache"):
        (tmp_path / name).mkdir()
    return tmp_path


def started(run: Path, place: Path, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    """`nearlight export`; with `limit_bytes` no file may become larger, as on a disk that is full."""

    def limited() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    known = {"TMPDIR": str(place / "tmp"), "NEARLIGHT_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, str(run), "--out", str(place / "bundles" / "mine")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **known},
        preexec_fn=limited,  # noqa: PLW1509  # no threads of ours run here
    )


def remains(place: Path) -> list[str]:
    ours = [
        *(place / "bundles").rglob("*"),
        *(place / "cache").rglob("*"),
        *(place / "tmp").glob("nearlight-*"),
    ]
    return sorted(file.name for file in ours)


def test_a_disk_without_room(run: Path, place: Path) -> None:
    said = started(run, place, limit_bytes=100_000).communicate(timeout=200)
    assert said[1].splitlines()[-1].startswith("error: "), said
    assert "File too large" in said[1]
    assert remains(place) == []


def test_ctrl_c(run: Path, place: Path) -> None:
    export = started(run, place)
    assert export.stderr is not None
    for line in export.stderr:
        if "proving it" in line:
            break
    export.send_signal(signal.SIGINT)
    _, said = export.communicate(timeout=100)
    assert export.returncode not in (0, None)
    assert "Traceback" not in said
    assert remains(place) == []
