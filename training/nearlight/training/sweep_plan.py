"""What a sweep is made of: axes, their values, and the cells they give."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nearlight.training.errors import ConfigError

LINEAR_OPTIMISER = "linear_optimiser"
RECIPE = "recipe"
_SHORT = {
    "lr": "optimiser.lr",
    "optimiser": "optimiser.name",
    "positives": "options.max_positives",
    "max_positives": "options.max_positives",
    LINEAR_OPTIMISER: LINEAR_OPTIMISER,
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that is varied."""

    key: str
    """A key of the configuration, or `linear_optimiser`."""
    values: tuple[str, ...]
    """Each `VALUE`, or `VALUE+key=value` where other keys must follow it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep and how it is measured."""

    settings: tuple[str, ...]
    """`key=value`, sorted, without those that only say how the run is measured."""
    linear_optimiser: str | None
    seed: int

    @property
    def run_name(self) -> str:
        """A folder name that says what is special, and cannot collide."""
        said = re.sub(r"[^A-Za-z0-9.=-]+", "_", "_".join(self.settings)) or "base"
        mark = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:6]
        return f"{said[:60]}-{mark}-seed{self.seed}"


def parse_axis(text: str, known: Sequence[str]) -> Axis:
    """Returns the axis of `KEY=V1,V2,…`; `lr`, `optimiser` and `positives` are short for their keys.

    Args:
        text: as given.
        known: keys of the configuration that need no section before them.

    Raises:
        ConfigError: no values, or the same one twice.
    """
    name, equals, rest = text.partition("=")
    key = name.strip().removeprefix("--").replace("-", "_")
    values = tuple(v.strip() for v in _split(rest) if v.strip())
    if not equals or not key or not values:
        raise ConfigError(f"--over {text!r} is not of the form KEY=VALUE,VALUE,…")
    if len(set(values)) < len(values):
        raise ConfigError(f"--over {text!r} names a value twice")
    own = "." in key or key in known
    return Axis(_SHORT.get(key) or (key if own else f"options.{key}"), values)


def _split(text: str) -> list[str]:
    """Splits at commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def cells_of(axes: Sequence[Axis], grid: bool, seeds: Sequence[int]) -> list[Cell]:
    """Returns the cells, the unchanged recipe first, each once.

    Args:
        axes: what is varied.
        grid: all combinations; else one axis at a time with the recipe in all others.
        seeds: every cell is run with each.
    """
    choices: list[tuple[tuple[str, str], ...]] = [()]
    if grid:
        choices += list(itertools.product(*([(axis.key, v) for v in axis.values] for axis in axes)))
    else:
        choices += [((axis.key, value),) for axis in axes for value in axis.values]
    cells = [_cell(chosen, seed) for chosen in choices for seed in seeds]
    return list(dict.fromkeys(cells))


def _cell(chosen: Sequence[tuple[str, str]], seed: int) -> Cell:
    settings, linear = [], None
    for key, value in chosen:
        first, *more = value.split("+") if "=" in value else [value]
        if key == LINEAR_OPTIMISER:
            linear = first
        else:
            settings.append(f"{key}={first}")
        settings += more
    return Cell(tuple(sorted(settings)), linear, seed)


def label(axis: Axis, cell: Cell) -> str | None:
    """Returns the value of an axis that a cell has; `recipe` of the recipe, None of other axes' cells."""
    if not cell.settings and cell.linear_optimiser is None:
        return RECIPE
    for value in axis.values:
        made = _cell([(axis.key, value)], cell.seed)
        if axis.key == LINEAR_OPTIMISER:
            if cell.linear_optimiser == made.linear_optimiser:
                return value
        elif set(made.settings) <= set(cell.settings):
            return value
    return None
