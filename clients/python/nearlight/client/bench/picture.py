"""Latency against load, as a PNG."""

from __future__ import annotations

from pathlib import Path

from nearlight.client.bench.measure import Outcome
from nearlight.client.bench.results import Point
from nearlight.client.errors import InvalidInput

QUANTILES = (("p50_ms", "p50", "-"), ("p95_ms", "p95", "--"), ("p99_ms", "p99", ":"))
COLOURS = {"closed": "tab:blue", "open": "tab:orange"}


def check_drawing() -> None:
    """Raises InvalidInput where matplotlib is missing: said before the work, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InvalidInput("--png needs matplotlib: pip install 'nearlight[bench]'") from None


def draw(outcome: Outcome, file: Path, title: str) -> None:
    """Saves a picture: inputs per second to the right, latency upwards, the machine's limit as a line.

    Args:
        outcome: at least one point.
        file: PNG.
        title: above it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for mode in ("closed", "open"):
        points = [point for point in outcome.points if point.mode == mode and point.calls]
        if not points:
            continue
        across = [point.inputs_per_s for point in points]
        for key, name, style in QUANTILES:
            heights = [getattr(point, key) for point in points]
            axes.plot(across, heights, style, marker="o", color=COLOURS[mode], label=f"{mode} loop, {name}")
        for point in points:
            axes.annotate(_load(point), (point.inputs_per_s, point.p50_ms), fontsize=8)
    if outcome.limit:
        limit = outcome.limit.mean_per_s
        axes.axvline(limit, color="grey", label=f"in process, without the server: {limit:.0f}/s")
    axes.set_xlabel("inputs embedded per second")
    axes.set_ylabel("milliseconds from due to answered")
    axes.set_yscale("log")
    axes.margins(x=0.15)  # room for the words beside the last point
    axes.set_xlim(left=0)
    axes.grid(visible=True, alpha=0.3)
    axes.set_title(title)
    axes.legend(fontsize=8)
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise InvalidInput(f"cannot write {file}: {error.strerror}") from None


def _load(point: Point) -> str:
    return f" {point.load:.0f} in flight" if point.mode == "closed" else f" {point.load:.0f}/s arriving"
