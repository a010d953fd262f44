"""Plots as PNG files, each small enough for a page of a report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Series = Mapping[str, Sequence[tuple[float, float]]]


def save_bars(
    path: Path, title: str, bars: Mapping[str, float], unit: str, mark: float | None = None
) -> None:
    """Writes horizontal bars, the first on top; `mark` is a line across (chance, say)."""
    figure = Figure(figsize=(7, 0.9 + 0.32 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names = list(bars)
    axes.barh(range(len(bars)), [bars[n] for n in names], color="#4477aa")
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=unit)
    if mark is not None:
        axes.axvline(mark, color="#cc3311", linestyle="--", linewidth=1)
    _write(figure, path)


def save_lines(path: Path, title: str, series: Series, x: str, y: str, log_x: bool = False) -> None:
    """Writes lines through points (x, y), one for each name."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(series.items()):
        style = "-" if place < 10 else "--"  # there are ten colours
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, linewidth=1.2, label=name)
    axes.set(title=title, xlabel=x, ylabel=y)
    if log_x:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    if len(series) > 1:
        figure.legend(fontsize=7, loc="outside right upper")
    _write(figure, path)


def save_panels(path: Path, title: str, panels: Series, x: str) -> None:
    """Writes one small plot for each name, in rows of three."""
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(3.6 * across, 2.4 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes, (name, points) in zip(grid.flat, panels.items(), strict=False):
        axes.plot(*zip(*points, strict=True), linewidth=1.2)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title)
    figure.supxlabel(x, fontsize=9)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    figure.savefig(aside, dpi=110, format="png")
    aside.replace(path)
