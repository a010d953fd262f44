"""How a measurement is kept: what it promises, where and with what it was made, as a table and as JSON."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from nearlight.server.tuning import machine

LIBRARIES = ("grpcio", "numpy", "onnxruntime-gpu", "openvino", "pillow", "protobuf", "tokenizers")
MEDIAN = "median"
# Figures by name; columns by title.
Line = dict[str, float]
Table = dict[str, Line]
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Promise:
    """One line that a measurement is held to.

    Args:
        what: in words.
        measured: median over rounds.
        bound: what it must reach.
        is_at_most: it must stay below the bound instead.
    """

    what: str
    measured: float
    bound: float
    is_at_most: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the bound holds."""
        return self.measured <= self.bound if self.is_at_most else self.measured >= self.bound

    def __str__(self) -> str:
        sign, word = "≤" if self.is_at_most else "≥", "kept" if self.is_kept else "MISSED"
        return f"{self.what}: {self.measured:.3f} ({sign} {self.bound:g}) {word}"


def surroundings() -> dict[str, object]:
    """Date, command, hardware and versions. Taken before the measurement, for the load others make."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "machine": f"{machine()}, {' '.join(flag for flag in FLAGS if flag in flags)}; no GPU used",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }


def rounds_and_median(table: Sequence[Line]) -> Table:
    """A column for each round, and one of the medians."""
    middle = {key: statistics.median(line[key] for line in table) for key in table[0]}
    return {**{str(number + 1): line for number, line in enumerate(table)}, MEDIAN: middle}


def tell(
    about: dict[str, object], tables: dict[str, Table], promises: Sequence[Promise], *, as_json: bool
) -> None:
    """Print a result.

    Args:
        about: `surroundings`, and what else should be known.
        tables: by title.
        promises: on those figures.
        as_json: one document on stdout instead of the tables.
    """
    if as_json:
        lines = [{**asdict(promise), "is_kept": promise.is_kept} for promise in promises]
        print(json.dumps({"about": about, "tables": tables, "promises": lines}, indent=1))
        return
    for title, table in tables.items():
        print(f"{title:<28}" + "".join(f"{name:>18}" for name in table))
        for key in next(iter(table.values())):
            print(f"{key:>28}" + "".join(f"{line[key]:>18.3f}" for line in table.values()))
    for promise in promises:
        print(promise)
    print(", ".join(f"{key} {value}" for key, value in about.items()))


def _module() -> str:
    return f"tests.bench.{Path(sys.argv[0]).stem}"


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "none"
