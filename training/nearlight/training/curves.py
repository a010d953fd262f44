"""The curves of a run, from its metrics.jsonl."""

import json
from pathlib import Path

from nearlight.training.figures import save_panels

_FIRST = ("mean_loss", "lr", "grad_norm", "images_per_s", "spread", "effective_rank", "uniformity")
_NOT = ("step", "loss")  # the loss of single steps; mean_loss is smoother


def read_metrics(run: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns (step, value) of every metric of a run; a line cut short by a crash is passed over."""
    found: dict[str, list[tuple[float, float]]] = {}
    path = run / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        for name, value in row.items():
            found.setdefault(name, []).append((float(row["step"]), float(value)))
    return found


def save_curves(run: Path) -> Path | None:
    """Writes plots/curves.png of a run and returns where; None where nothing was recorded."""
    metrics = {name: points for name, points in read_metrics(run).items() if name not in _NOT}
    if not metrics:
        return None
    order = [n for n in _FIRST if n in metrics] + sorted(set(metrics) - set(_FIRST))
    path = run / "plots" / "curves.png"
    save_panels(path, run.name, {name: metrics[name] for name in order}, "step")
    return path
