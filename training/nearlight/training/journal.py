"""The record of a run: `metrics.jsonl`, TensorBoard, and a progress bar."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter


class Meter:
    """Images per second and mean loss since it was read last."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._start, self._steps, self._loss = time.monotonic(), 0, 0.0

    def add(self, loss: float) -> None:
        """Counts a step."""
        self._steps += 1
        self._loss += loss

    def read(self) -> dict[str, float]:
        """Returns both, and starts anew."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        values = {
            "mean_loss": self._loss / self._steps,
            "images_per_s": self._steps * self._batch_size / elapsed,
        }
        self._start, self._steps, self._loss = time.monotonic(), 0, 0.0
        return values


class Journal:
    """Writes what a run measures; a resumed run continues the same files, without the steps done twice."""

    def __init__(self, run: Path, first_step: int, steps: int, writes: bool = True) -> None:
        """Opens the files.

        Args:
            run: the run folder.
            first_step: steps done before.
            steps: of the whole run.
            writes: false for all processes but the first of several: they write and say nothing.
        """
        self._writes = writes
        self._path = run / "metrics.jsonl" if writes else Path(os.devnull)
        if writes:
            self._keep_until(first_step)
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step or None)
        self._lines = self._path.open("a", encoding="utf-8")
        self._console = Console(stderr=True, quiet=not writes)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (writes and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("steps", total=steps, completed=first_step, note="")

    def __enter__(self) -> "Journal":
        """Starts the progress bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes files and bar."""
        self._bar.stop()
        self._lines.close()
        if self._writes:
            self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records values of a step (the number of steps done)."""
        if not self._writes:
            return
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        note = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if k in ("loss", "images_per_s"))
        self._bar.update(self._task, note=note)
        if not sys.stderr.isatty():
            self.say(f"step {step}  " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()))

    def advance(self, step: int) -> None:
        """Moves the bar to a number of steps done."""
        self._bar.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """Prints a line to standard error, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _keep_until(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                if step and json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):
                continue  # a line cut short by a crash
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
