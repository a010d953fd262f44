"""`nearlight sweep`: the same method many times, to see what it is sensitive to."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearlight.training.checkpoint import save_text
from nearlight.training.config import load_config, resumed_config
from nearlight.training.errors import CheckpointError, Collapsed, ConfigError, Diverged
from nearlight.training.figures import save_bars, save_lines
from nearlight.training.probes.knn import knn
from nearlight.training.probes.linear import linear_probe
from nearlight.training.probes.linear_stage import RATES, linear_stage
from nearlight.training.probes.probed import first_labelled, open_run
from nearlight.training.probes.tasks import TASKS
from nearlight.training.sources import open_source
from nearlight.training.sweep_plan import RECIPE, Axis, Cell, cells_of, label
from nearlight.training.trainer import Trainer

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is swept, and how it is measured."""

    method: str
    train: tuple[str, ...]
    test: str
    axes: tuple[Axis, ...]
    settings: tuple[str, ...] = ()
    """`key=value` that all cells share."""
    seeds: tuple[int, ...] = (0,)
    grid: bool = False
    task: str = "linear"
    """`linear` or `knn`."""

    def cells(self) -> list[Cell]:
        """Returns the cells in the order they are run."""
        return cells_of(self.axes, self.grid, self.seeds)

    def settings_of(self, cell: Cell) -> list[str]:
        """Returns all `key=value` of a cell."""
        return [*self.settings, *cell.settings, f"seed={cell.seed}"]


def run_sweep(sweep: Sweep, out: Path, say: Say) -> bool:
    """Trains and measures what is not measured yet; returns False when it was interrupted.

    Runs lie in `cells/`; sweep.json, sweep.md and plots/ are brought up to date after each. Cells that only
    differ in how they are measured share a run.

    Args:
        sweep: what to do.
        out: the folder; a sweep that lies there is continued, with more axes or seeds if need be.
        say: takes a line of progress.

    Raises:
        CheckpointError: the folder holds another sweep.
        ConfigError: a cell's configuration is wrong; said before the first is run.
        DataError: a source cannot be read.
    """
    if sweep.task not in ("linear", "knn"):
        raise ConfigError(f"--task is {sweep.task!r}; a sweep measures linear or knn")
    cells = sweep.cells()
    for cell in cells:
        load_config(None, {"data.train": list(sweep.train)}, sweep.settings_of(cell), sweep.method)
        if cell.linear_optimiser not in (None, *RATES):
            raise ConfigError(f"linear_optimiser is {cell.linear_optimiser!r}; one of {', '.join(RATES)}")
    open_source(sweep.test, words=False)
    results = _begin(sweep, out)
    for number, cell in enumerate(cells, start=1):
        if _key(cell) not in results:
            say(f"cell {number} of {len(cells)}: {' '.join(cell.settings) or 'the recipe'}, seed {cell.seed}")
            figure = _run_cell(sweep, cell, out / "cells" / cell.run_name)
            if figure is None:
                say(f"interrupted; the same command continues in {out}")
                return False
            results[_key(cell)] = figure
            _save(sweep, out, results)
    return True


def _run_cell(sweep: Sweep, cell: Cell, run: Path) -> dict[str, Any] | None:
    """Returns the figures of a cell, or None where it was interrupted."""
    try:
        if (run / "checkpoint.pt").is_file():
            finished = Trainer(resumed_config(run, (), ()), run, resume=True).train()
        else:
            overrides = {"data.train": list(sweep.train)}
            config = load_config(None, overrides, sweep.settings_of(cell), sweep.method)
            finished = Trainer(config, run).train()
    except (Diverged, Collapsed) as error:
        return {"top1": None, "failed": str(error)}
    if not finished:
        return None
    probed, test = open_run(run), open_source(sweep.test, words=False)
    bank = first_labelled(sweep.train)
    if cell.linear_optimiser is not None:
        found = linear_stage(probed.features, bank, test, cell.linear_optimiser, cell.seed)
    elif sweep.task == "knn":
        found = knn(probed.features, bank, test)
    else:
        found = linear_probe(probed.features, bank, test, cell.seed)
    return {"top1": next(iter(found.values())), "run": run.name}


def _key(cell: Cell) -> str:
    return json.dumps([list(cell.settings), cell.linear_optimiser, cell.seed])


def _begin(sweep: Sweep, out: Path) -> dict[str, Any]:
    """Returns what is measured already."""
    path = out / "sweep.json"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in _identity(sweep).items():
        if found.get(name) != value:
            raise CheckpointError(f"{out} holds another sweep: its {name} is {found.get(name)}, not {value}")
    results: dict[str, Any] = found["results"]
    return results


def _identity(sweep: Sweep) -> dict[str, Any]:
    return {
        "method": sweep.method,
        "train": list(sweep.train),
        "test": sweep.test,
        "settings": list(sweep.settings),
        "task": sweep.task,
    }


def _save(sweep: Sweep, out: Path, results: dict[str, Any]) -> None:
    protocol = TASKS[sweep.task].protocol
    tree = {**_identity(sweep), "protocol": protocol, "seeds": list(sweep.seeds), "results": results}
    save_text(out / "sweep.json", json.dumps(tree, indent=2) + "\n")
    lines = [f"# Sweep of {sweep.method}", "", f"Protocol: {protocol}; last step.", ""]
    shared = ", ".join(sweep.settings) or "the recipe"
    lines += [f"All cells: {shared}; seeds {', '.join(map(str, sweep.seeds))}.", ""]
    for axis in sweep.axes:
        lines += axis_table(axis, table_of(sweep, axis, results))
        if _plot(out, axis, table_of(sweep, axis, results)):
            lines += ["", f"![{axis.key}](plots/{_file(axis)})"]
        lines.append("")
    save_text(out / "sweep.md", "\n".join(lines))


def table_of(sweep: Sweep, axis: Axis, results: dict[str, Any]) -> dict[str, list[float | None]]:
    """Returns the top-1 of every run by its value of an axis, None where it failed.

    `recipe` is the unchanged recipe. A grid mixes all values of the other axes.
    """
    rows: dict[str, list[float | None]] = {value: [] for value in (RECIPE, *axis.values)}
    for cell in sweep.cells():
        value, found = label(axis, cell), results.get(_key(cell))
        if value is not None and found is not None:
            rows[value].append(found["top1"])
    return {value: tops for value, tops in rows.items() if tops}


def axis_table(axis: Axis, rows: dict[str, list[float | None]]) -> list[str]:
    """Returns the lines of an axis's Markdown table, and how far its values lie apart."""
    lines = [f"## {axis.key}", "", "| value | top-1 | ± | runs | failed |", "|---|---:|---:|---:|---:|"]
    means = []
    for value, tops in rows.items():
        sound = [t for t in tops if t is not None]
        mean = f"{statistics.fmean(sound):.2f} %" if sound else "-"
        spread = f"{statistics.stdev(sound):.2f}" if len(sound) > 1 else ""
        means += [statistics.fmean(sound)] if sound else []
        lines.append(f"| {value} | {mean} | {spread} | {len(tops)} | {len(tops) - len(sound)} |")
    if len(means) > 1:
        lines += ["", f"Best over worst: {max(means) - min(means):.2f} points."]
    return lines


def _file(axis: Axis) -> str:
    return f"{axis.key.replace('.', '-')}.png"


def _plot(out: Path, axis: Axis, rows: dict[str, list[float | None]]) -> bool:
    means = {
        v: statistics.fmean(s)
        for v, t in rows.items()
        if v != RECIPE and (s := [x for x in t if x is not None])
    }
    if len(means) < 2:
        return False
    path, title = out / "plots" / _file(axis), axis.key
    try:
        points = sorted((float(value), top) for value, top in means.items())
    except ValueError:
        save_bars(path, title, means, "top-1 (%)")
    else:
        log = points[0][0] > 0 and points[-1][0] / points[0][0] >= 8
        save_lines(path, title, {axis.key: points}, axis.key, "top-1 (%)", log_x=log)
    return True
