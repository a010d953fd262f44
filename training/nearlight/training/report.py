"""`report.md` of a run: what it is, its curves, and every evaluation with its protocol."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearlight.training.checkpoint import load_config_of, save_text
from nearlight.training.curves import save_curves
from nearlight.training.figures import save_bars, save_lines
from nearlight.training.units import cell

SEVERITIES = (1, 2, 3, 4, 5)


def write_report(run: Path) -> Path:
    """Writes report.md and the plots of a run from its evaluation-*.json, and returns where.

    Raises:
        CheckpointError: the folder is no run.
    """
    config = load_config_of(run)
    encoder = f"{config.encoder.name}, {config.encoder.image_px} px" if config.views else "two towers"
    lines = [
        f"# {run.resolve().name}",
        "",
        f"`{config.method}`, {encoder}; {config.steps} steps of {config.batch_size}, "
        f"{config.optimiser.name}, learning rate {config.optimiser.lr:g}"
        + (f" for {config.optimiser.lr_batch_size}" if config.optimiser.lr_batch_size else "")
        + f", {config.precision}, seed {config.seed}. Trained on {', '.join(_names(config.data.train))}.",
        "",
    ]
    curves = save_curves(run)
    if curves is not None:
        lines += ["![curves](plots/curves.png)", ""]
    for path in sorted(run.glob("evaluation-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        lines += [f"## {found['task']}", "", f"Protocol: {found.get('protocol', '-')}.", ""]
        if found.get("train"):
            lines += [f"Learned from {', '.join(found['train'])}; last checkpoint.", ""]
        lines += table(found["results"])
        for name in _plot(run, found):
            lines += ["", f"![{found['task']}](plots/{name})"]
        lines.append("")
    report = run / "report.md"
    save_text(report, "\n".join(lines))
    return report


def table(results: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the lines of a Markdown table: a row for each figure, a column for each source."""
    rows = list(dict.fromkeys(name for figures in results.values() for name in figures))
    lines = [f"| | {' | '.join(results)} |", f"|---|{'---:|' * len(results)}"]
    for row in rows:
        cells = [cell(row, figures[row]) if row in figures else "" for figures in results.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _names(specs: tuple[str, ...]) -> list[str]:
    return [Path(spec).name for spec in specs]


def _plot(run: Path, found: Mapping[str, Any]) -> list[str]:
    """Writes the plots of one evaluation and returns their names."""
    task, made = found["task"], []
    for source, figures in found["results"].items():
        name = f"{task}-{source}.png"
        path, title = run / "plots" / name, f"{task} on {source}"
        shares = {key: value for key, value in figures.items() if cell(key, value).endswith("%")}
        if task == "corruption":
            series = {
                kind: list(zip(SEVERITIES, scores, strict=True))
                for kind, scores in found["details"][source]["top1"].items()
            }
            save_lines(path, title, series, "severity", "top-1 (%)")
        elif len(shares) > 1:
            save_bars(path, title, shares, "%")
        else:
            continue
        made.append(name)
    return made
