"""What the fastest runtime of this machine gains over ONNX Runtime fp32, and trimmed texts over fixed ones.

    python -m tests.bench.bench_runtimes --bundle BUNDLE [--rounds 5] [--threads N] [--json]

Real images and captions (imagenet-sample100, flickr8k-val), engines as the server opens them, no decoding and
no network. Rounds of all sides are interleaved; a ratio is that of the least times over rounds. cpu_ratio
compares processor time: it tells the same on a busy machine, where wall time tells who was interrupted.
Cosines are to ONNX Runtime in float32, and drift is how much a vector changes with its batch; the best engine
is the fastest of those that `nearlight tune` would allow.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

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
from tests.bench.record import Line, Promise, Table, surroundings, tell
from tests.bench.samples import captions, photographs

MIN_COSINE = 0.999
IMAGES_AT_LEAST = 3.5
SHORT_AT_LEAST = 4.5
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

    def over(self, other: "Side") -> Line:
        """Speed of this one over another, per row."""
        return {
            "rows_per_s": self.rows / self.wall_s,
            "ratio": (other.wall_s / other.rows) / (self.wall_s / self.rows),
            "cpu_ratio": (other.cpu_s / other.rows) / (self.cpu_s / self.rows),
        }


def interleave(sides: Sequence[Side], rounds: int) -> None:
    for side in sides:
        side.run()  # warm
    for number in range(rounds):
        # Who goes first changes, so that a drift of the machine favours nobody.
        for side in sides if number % 2 else reversed(sides):
            side.measure()


def bench_images(bundle: Bundle, pixels: Row, threads: int, rounds: int) -> tuple[Table, str]:
    """Every engine on one batch of real images, and the name of the best."""
    graph = tower_graph(bundle, "image")
    sides: dict[str, Side] = {}
    facts: dict[str, Line] = {}
    allowed = []
    expected = None
    for choice in candidates("auto", "auto", threads):
        engine = open_engine(graph, choice)
        vectors = engine.encode(pixels)
        expected = vectors if expected is None else expected
        parity = parity_of(engine, Probes(pixels, expected, pixels))
        sides[str(choice)] = Side(lambda engine=engine: engine.encode(pixels), len(pixels))  # type: ignore[misc]
        facts[str(choice)] = {"least_cosine": least_cosine(expected, vectors), "drift": parity.drift}
        if not parity.problem(MIN_COSINE):
            allowed.append(str(choice))
    interleave(list(sides.values()), rounds)
    first = next(iter(sides.values()))
    table = {name: {**side.over(first), **facts[name]} for name, side in sides.items()}
    return table, max(allowed, key=lambda name: table[name]["ratio"])


def bench_texts(bundle: Bundle, texts: list[str], threads: int, rounds: int) -> Table:
    """Short captions at their length and at the whole context, and captions as they come, by each engine."""
    lengths = BatchingConfig().text_lengths
    graph = tower_graph(bundle, "text", lengths)
    tokenizer = bundle.tokenizer()
    tokens = tokenizer.encode(texts)  # (N, L)
    used = tokenizer.lengths(tokens)
    short = tokens[used <= SHORT][:32]
    widths = [shape[0] for shape in graph.row_shapes]
    batches = [
        tokens[mine][:, :width]
        for low, width in zip([0, *widths], widths, strict=False)
        if (mine := (used > low) & (used <= width)).any()
    ]
    table: Table = {}
    for choice in candidates("auto", "auto", threads):
        engine = open_engine(graph, choice)
        fixed = Side(lambda engine=engine: engine.encode(short), len(short))  # type: ignore[misc]
        trimmed = Side(lambda engine=engine: engine.encode(short[:, :SHORT]), len(short))  # type: ignore[misc]
        mixed = Side(lambda engine=engine: _each(engine, batches), len(texts))  # type: ignore[misc]
        interleave([fixed, trimmed, mixed], rounds)
        table[str(choice)] = {
            "fixed_77_per_s": fixed.over(fixed)["rows_per_s"],
            **{f"short_{key}": value for key, value in trimmed.over(fixed).items()},
            **{f"captions_{key}": value for key, value in mixed.over(fixed).items()},
            "largest_change": float(np.abs(engine.encode(short) - engine.encode(short[:, :SHORT])).max()),
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
    bundle = Bundle.open(find_bundle(arguments.bundle), verify=False)
    about = surroundings() | {"bundle": bundle.manifest.name, "threads": arguments.threads}
    spec = bundle.manifest.towers.image.preprocess
    images = photographs()[: arguments.batch]
    pixels = np.stack([load_pixels(image, spec, ImageLimits()) for image in images])  # (B, H, W, 3)
    table, best = bench_images(bundle, pixels, arguments.threads, arguments.rounds)
    tables = {f"images, batches of {len(images)}": table}
    promises = [Promise(f"{best} over {next(iter(table))}, images", table[best]["ratio"], IMAGES_AT_LEAST)]
    if bundle.manifest.towers.text is not None:
        texts = captions()[: arguments.captions]
        table = bench_texts(bundle, texts, arguments.threads, arguments.rounds)
        tables["texts"] = table
        name, line = next(iter(table.items()))
        promises.append(
            Promise(f"{name}, short texts at {SHORT} over 77", line["short_ratio"], SHORT_AT_LEAST)
        )
    tell(about, tables, promises, as_json=arguments.json)


if __name__ == "__main__":
    main()
