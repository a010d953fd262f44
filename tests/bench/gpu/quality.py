"""What the methods reach on CIFAR-10 with a ResNet-18 on one GPU, against what has to be reached.

    python tests/bench/gpu/quality.py --data FOLDER --out FOLDER [--only simclr …] [--device cuda] [--small]

Trains each method as `nearlight reproduce cifar10` does, with its recipe at the epochs below, in bfloat16 and
compiled, and compares kNN (k = 200, T = 0.1) and the linear probe of the last epoch with the target.
`--small` runs all of it in minutes on a CPU, with a tiny encoder and a hundredth of the epochs: it shows that
the script works and says nothing about quality. Runs that are done are not done again.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from nearlight.training.errors import TrainingError
from nearlight.training.reproduce import Reproduction, reproduce


@dataclass(frozen=True)
class Target:
    """One run and what it has to reach, in percent."""

    method: str
    epochs: int
    knn: float | None = None
    linear: float | None = None
    minutes: float | None = None


TARGETS = (
    Target("simclr", 200, knn=84.8, minutes=7),
    Target("moco-v2", 200, knn=85.3),
    Target("byol", 800, knn=91.0, linear=92.6),
    Target("simsiam", 800, knn=90.4),
    Target("supcon", 400, linear=95.0),
    Target("ce", 200, linear=95.5),
    Target("dino", 200, knn=84.8),
)
SMALL = ("encoder.name=resnet10", "encoder.stem=small", "encoder.width=0.125", "encoder.image_px=16")


def verdict(found: float, target: float | None) -> str:
    """Returns a figure beside its target."""
    if target is None:
        return f"{found:.2f}"
    return f"{found:.2f} ({'reaches' if found >= target else 'MISSES'} {target:g})"


def main() -> int:
    """Runs all and prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[target.method for target in TARGETS])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", default="default")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    print("| method | epochs | kNN | linear | minutes |\n|---|---:|---:|---:|---:|")
    for target in TARGETS:
        if target.method not in options.only:
            continue
        epochs = target.epochs / 100 if options.small else target.epochs
        settings = [f"epochs={epochs}", f"device={options.device}", "checkpoint_every=2000"]
        settings += [*SMALL, "optimiser.warmup_epochs=0"] if options.small else [f"compile={options.compile}"]
        wanted = Reproduction(options.data, (target.method,), None, tuple(settings))
        try:
            if not reproduce(wanted, options.out / target.method, lambda line: print(line, file=sys.stderr)):
                return 130
        except TrainingError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        table = json.loads((options.out / target.method / "table.json").read_text(encoding="utf-8"))
        row = table["rows"][target.method]
        if "failed" in row:
            print(f"| {target.method} | - | failed | failed | - |")
            continue
        knn, linear = verdict(row["knn_top1"], target.knn), verdict(row["linear_top1"], target.linear)
        minutes = f"{row['minutes']:g}" + (f" of {target.minutes:g}" if target.minutes else "")
        print(f"| {target.method} | {row['epochs']:g} | {knn} | {linear} | {minutes} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
