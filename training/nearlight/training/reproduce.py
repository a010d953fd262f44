"""`nearlight reproduce cifar10`: methods one by one in the time given, beside what others reached."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearlight.training.checkpoint import load_config_of, save_text
from nearlight.training.config import RunConfig, load_config, resumed_config
from nearlight.training.errors import Collapsed, DataError, Diverged
from nearlight.training.method import DataFacts, find_method
from nearlight.training.plan import resolve
from nearlight.training.probes.features import Remembered
from nearlight.training.probes.knn import knn
from nearlight.training.probes.linear import linear_probe
from nearlight.training.probes.probed import open_run
from nearlight.training.probes.tasks import TASKS
from nearlight.training.published import PUBLISHED, Published
from nearlight.training.rehearsal import time_step
from nearlight.training.sources import Source, open_source
from nearlight.training.trainer import Trainer

METHODS = tuple(PUBLISHED)
_KEPT_SHARE = 0.85  # of a method's time is for training, the rest for decoding and measuring
_LEAST_SHARE = 0.1  # where measuring the method before took longer than that


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What is reproduced, and in how much time."""

    data: Path
    """A folder with cifar10-train.parquet and cifar10-test.parquet."""
    methods: tuple[str, ...] = METHODS
    minutes: float | None = None
    """For all methods together; None: each for as many epochs as its recipe has."""
    settings: tuple[str, ...] = ()

    def sources(self) -> tuple[Source, Source]:
        """Returns training and test images.

        Raises:
            DataError: they are not there.
        """
        paths = [self.data / f"cifar10-{part}.parquet" for part in ("train", "test")]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"there is no {missing}; give --data FOLDER with CIFAR-10 as parquet")
        train, test = (open_source(str(path)) for path in paths)
        return train, test


def reproduce(wanted: Reproduction, out: Path, say: Callable[[str], None]) -> bool:
    """Trains and measures each method, writes table.md and table.json; returns False when interrupted.

    A method's epochs are what fits into its share of the time that is left, less what measuring the method
    before took, its recipe's at most; the schedule always ends. Runs that are done are not done again,
    interrupted ones are continued.

    Args:
        wanted: what to do.
        out: a folder; each method gets one in it.
        say: takes a line of progress.

    Raises:
        ConfigError: an unknown method or key.
        DataError: the images are not there.
    """
    train, test = wanted.sources()
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    start, measuring = time.monotonic(), 0.0
    for place, method in enumerate(wanted.methods):
        run, left = out / method, None
        if wanted.minutes is not None:
            left = (wanted.minutes * 60 - (time.monotonic() - start)) / (len(wanted.methods) - place)
        share = None if left is None else max(min(left * _KEPT_SHARE, left - measuring), left * _LEAST_SHARE)
        row = _reproduce_one(wanted, method, run, share, (train, test), say)
        if row is None:
            say(f"interrupted; the same command continues in {out}")
            return False
        rows[method] = row
        measuring = 60 * row.get("measuring_minutes", 0.0)
        save_text(out / "table.json", json.dumps({"rows": rows, "notes": _notes(train)}, indent=2) + "\n")
        save_text(out / "table.md", "\n".join([*table(rows), "", *_notes(train)]) + "\n")
    return True


def _reproduce_one(
    wanted: Reproduction,
    method: str,
    run: Path,
    seconds: float | None,
    sources: tuple[Source, Source],
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    train, test = sources
    done = run / "reproduced.json"
    if done.is_file():
        say(f"{method}: done before")
        row: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return row
    begun = time.monotonic()
    try:
        if (run / "checkpoint.pt").is_file():
            trainer = Trainer(resumed_config(run, (), ()), run, resume=True)
        else:
            trainer = Trainer(_config(wanted, method, seconds, train, say), run)
        if not trainer.train():
            return None
    except (Diverged, Collapsed) as error:
        say(f"{method}: {error}")
        return {"failed": str(error)}
    config = load_config_of(run)
    measured = time.monotonic()
    features = Remembered(open_run(run).features)
    row = {
        "epochs": round(config.steps * config.batch_size / len(train), 1),
        "encoder": config.encoder.name,
        "seed": config.seed,
        "knn_top1": knn(features, train, test)["knn_top1"],
        "linear_top1": linear_probe(features, train, test)["linear_top1"],
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "measuring_minutes": round((time.monotonic() - measured) / 60, 4),
    }
    save_text(done, json.dumps(row, indent=2) + "\n")
    return row


def _config(
    wanted: Reproduction,
    method: str,
    seconds: float | None,
    train: Source,
    say: Callable[[str], None],
) -> RunConfig:
    overrides = {"data.train": [str(wanted.data / "cifar10-train.parquet")]}
    config = load_config(None, overrides, wanted.settings, method)
    if seconds is None:
        return config
    facts = DataFacts(len(train), tuple(sorted(train.classes)))
    per_step = time_step(resolve(config, len(train)), facts)
    per_epoch = per_step * len(train) / config.batch_size
    most = config.epochs or config.steps * config.batch_size / len(train)
    epochs = max(min(seconds / per_epoch, most), 0.1)
    span = f"{seconds / 60:.1f} min of training"
    say(f"{method}: {per_epoch:.0f} s an epoch; {epochs:.1f} of {most:g} fit into {span}")
    # The warm-up stays the same share of the run.
    warm = (config.optimiser.warmup_epochs or 0) * epochs / most
    cut = [f"epochs={epochs}", f"optimiser.warmup_epochs={warm}"]
    return load_config(None, overrides, [*wanted.settings, *cut], method)


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the lines of the Markdown table of all methods beside what others published."""
    lines = [
        "| method | epochs | seed | kNN | linear | minutes | founding documents (ResNet-50, linear) | "
        "best public linear | best public kNN |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for method, row in rows.items():
        known = PUBLISHED.get(method, Published())
        others = [
            _number(known.founding),
            _number(known.linear, known.linear_source),
            _number(known.knn, known.knn_source),
        ]
        if "failed" in row:
            own = ["-", "-", "failed", "failed", "-"]
        else:
            own = [
                f"{row['epochs']:g}",
                f"{row['seed']}",
                _number(row["knn_top1"]),
                _number(row["linear_top1"]),
            ]
            own.append(f"{row['minutes']:g}")
        lines.append(f"| {' | '.join([method, *own, *others])} |")
    return lines


def _number(value: float | None, source: str = "") -> str:
    return "-" if value is None else f"{value:.2f}" + (f" ({source})" if source else "")


def _notes(train: Source) -> list[str]:
    notes = [
        "Figures of the last epoch on the 10,000 test images, which choose nothing.",
        f"kNN: {TASKS['knn'].protocol}.",
        f"linear: {TASKS['linear'].protocol}.",
        "Others: best epoch on the test images (kNN), linear classifiers trained their own way; published "
        "figures are of the original PNG-exact images.",
    ]
    if train.images.read(0).startswith(b"\xff\xd8"):
        notes.append(
            "The CIFAR-10 used here is JPEG-compressed, which the published figures' images are not."
        )
    return notes


def choose_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the methods of `--methods`, comma-separated or repeated; all with published figures if none.

    Raises:
        ConfigError: an unknown one; the nearest is named.
    """
    chosen = tuple(name for given in names for name in given.split(",") if name) or METHODS
    for name in chosen:
        find_method(name)
    return chosen
