"""What the fastest runtime of this machine gains over ONNX Runtime fp32, and trimmed texts over fixed ones.

    python tests/bench/bench_runtimes.py --bundle BUNDLE [--rounds 5] [--threads N] [--json]

Real images and captions (imagenet-sample100.parquet and flickr8k-val.parquet in NEARLIGHT_DATA, else
../shared/data), engines as the server opens them, no decoding and no network. Rounds of all sides are
interleaved; a ratio is that of the least times over rounds. cpu_ratio compares processor time: it tells the
same on a busy machine, where wall time tells who was interrupted.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import least_cosine
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.registry import find_bundle
from nearlight.server.call import Row
from nearlight.server.config import BatchingConfig
from nearlight.server.runtimes.encoder import Engine
from nearlight.server.runtimes.parity import Probes, parity_of
from nearlight.server.runtimes.selection import candidates, open_engine
from nearlight.server.threads import cpu_budget
from nearlight.server.tower_engine import tower_graph
from nearlight.server.tuning import library_versions, machine

MIN_COSINE = 0.999
SHORT = 16


@dataclass(slots=True)
class Side:
    """One way to do the work, and the least time that it took in any round.

    Args:
        run: does it once.
        rows: how many rows that is.
        wall_s: least wall time.
        cpu_s: least processor time.
    """

    run: Callable[[], object]
    rows: int
    wall_s: float = field(default=float("inf"))
    cpu_s: float = field(default=float("inf"))

    def measure(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.wall_s = min(self.wall_s, time.perf_counter() - wall)
        self.cpu_s = min(self.cpu_s, time.process_time() - cpu)

    def over(self, other: "Side") -> dict[str, float]:
        """Speed of this one over another, per row."""
        return {
            "rows_per_s": round(self.rows / self.wall_s, 1),
            "ratio": round((other.wall_s / other.rows) / (self.wall_s / self.rows), 2),
            "cpu_ratio": round((other.cpu_s / other.rows) / (self.cpu_s / self.rows), 2),
        }


def interleave(sides: Sequence[Side], rounds: int) -> None:
    for side in sides:
        side.run()  # warm
    for number in range(rounds):
        # Who goes first changes, so that a drift of the machine favours nobody.
        for side in sides if number % 2 else reversed(sides):
            side.measure()


def bench_images(bundle: Bundle, pixels: Row, threads: int, rounds: int) -> dict[str, object]:
    """Every engine on one batch of real images."""
    graph = tower_graph(bundle, "image")
    sides: dict[str, Side] = {}
    facts: dict[str, dict[str, float]] = {}
    expected = None
    for choice in candidates("auto", "auto", threads):
        engine = open_engine(graph, choice)
        vectors = engine.encode(pixels)
        expected = vectors if expected is None else expected
        parity = parity_of(engine, Probes(pixels[:4], expected[:4], pixels))
        sides[str(choice)] = Side(lambda engine=engine: engine.encode(pixels), len(pixels))  # type: ignore[misc]
        facts[str(choice)] = {"cosine": round(least_cosine(expected, vectors), 6), "drift": parity.drift}
    interleave(list(sides.values()), rounds)
    first = next(iter(sides.values()))
    table = {name: {**side.over(first), **facts[name]} for name, side in sides.items()}
    allowed = {name: row for name, row in table.items() if row["cosine"] >= MIN_COSINE}
    best = max(allowed, key=lambda name: allowed[name]["cpu_ratio"])
    return {"engines": table, "best": best, "batch": len(pixels)}


def bench_texts(bundle: Bundle, captions: list[str], threads: int, rounds: int) -> dict[str, object]:
    """Short captions at their length and at the whole context, and captions as they come, by each engine."""
    lengths = BatchingConfig().text_lengths
    graph = tower_graph(bundle, "text", lengths)
    tokenizer = bundle.tokenizer()
    tokens = tokenizer.encode(captions)  # (N, L)
    used = tokenizer.lengths(tokens)
    short = tokens[used <= SHORT][:32]
    widths = [shape[0] for shape in graph.row_shapes]
    batches = [
        tokens[mine][:, :width]
        for low, width in zip([0, *widths], widths, strict=False)
        if (mine := (used > low) & (used <= width)).any()
    ]
    table: dict[str, object] = {"captions": len(captions), "at_most_16_tokens": float((used <= SHORT).mean())}
    for choice in candidates("auto", "auto", threads):
        engine = open_engine(graph, choice)
        fixed = Side(lambda engine=engine: engine.encode(short), len(short))  # type: ignore[misc]
        trimmed = Side(lambda engine=engine: engine.encode(short[:, :SHORT]), len(short))  # type: ignore[misc]
        mixed = Side(lambda engine=engine: _each(engine, batches), len(captions))  # type: ignore[misc]
        interleave([fixed, trimmed, mixed], rounds)
        drift = float(np.abs(engine.encode(short) - engine.encode(short[:, :SHORT])).max())
        table[str(choice)] = {
            "short_texts_at_16_over_77": trimmed.over(fixed),
            "captions_as_served_over_77": mixed.over(fixed),
            "largest_change": drift,
        }
    return table


def _each(engine: Engine, batches: Sequence[Row]) -> None:
    for batch in batches:
        engine.encode(batch)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", help="folder or name; default: the bundle shipped with Nearlight")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16, help="images of one run")
    parser.add_argument("--captions", type=int, default=64)
    parser.add_argument("--threads", type=int, default=cpu_budget())
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    data = Path(os.environ.get("NEARLIGHT_DATA", default))
    bundle = Bundle.open(find_bundle(arguments.bundle), verify=False)
    spec = bundle.manifest.towers.image.preprocess
    images = pq.read_table(data / "imagenet-sample100.parquet", columns=["image"])["image"]
    pixels = np.stack([load_pixels(images[i].as_py(), spec, ImageLimits()) for i in range(arguments.batch)])
    result: dict[str, object] = {
        "bundle": bundle.manifest.name,
        "machine": machine(),
        "versions": library_versions(),
        "python": platform.python_version(),
        "threads": arguments.threads,
        "load_before": round(os.getloadavg()[0], 2),
        "images": bench_images(bundle, pixels, arguments.threads, arguments.rounds),
    }
    if bundle.manifest.towers.text is not None:
        rows = pq.read_table(data / "flickr8k-val.parquet", columns=["captions"])["captions"]
        captions = [caption for row in rows.slice(0, arguments.captions) for caption in row.as_py()[:1]]
        result["texts"] = bench_texts(bundle, captions, arguments.threads, arguments.rounds)
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
