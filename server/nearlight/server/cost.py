"""How long a batch takes: seconds = a x rows + b for each row shape of a tower, measured and kept fresh."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nearlight.server.call import Row
from nearlight.server.fair_queue import Shape
from nearlight.server.runtimes.encoder import Encoder
from nearlight.server.stopwatch import Stopwatch

# Runs that a line is fitted to; older ones are forgotten.
WINDOW = 64
# A run counts as so many times the prediction at most: a paused process is no slow engine.
OUTLIER = 4.0
# Before there were so many runs the line is no measure for what is unusual.
TRUSTED_RUNS = 8
# Of the runs of late, how much the newest counts for the mix of shapes.
MIX_RATE = 0.05
# Rows of the other lane may ride along as long as they make a batch this much longer at most.
RIDER_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Line:
    """seconds = `per_row_s` x rows + `fixed_s`; both at least 0, not both 0."""

    per_row_s: float
    fixed_s: float

    def seconds(self, rows: int) -> float:
        """Of a batch."""
        return self.per_row_s * rows + self.fixed_s


def fit_line(runs: Sequence[tuple[int, float]], known: Line | None) -> Line:
    """The least-squares line through the runs, kept to what is possible.

    Args:
        runs: (rows, seconds), at least one.
        known: scaled to the runs where these are all of one size: a line needs two.
    """
    rows, seconds = np.array(runs, np.float64).T  # (N,), (N,)
    mean_rows, mean_s = float(rows.mean()), float(max(seconds.mean(), 1e-9))
    spread = float(((rows - mean_rows) ** 2).mean())
    if spread < (0.1 * mean_rows) ** 2:
        if known is None:
            return Line(0.0, mean_s)
        ratio = mean_s / (known.per_row_s * mean_rows + known.fixed_s)
        return Line(known.per_row_s * ratio, known.fixed_s * ratio)
    slope = float(((rows - mean_rows) * (seconds - mean_s)).mean()) / spread
    if slope <= 0:
        return Line(0.0, mean_s)
    if mean_s < slope * mean_rows:
        return Line(float((rows * seconds).sum() / (rows * rows).sum()), 0.0)
    return Line(slope, mean_s - slope * mean_rows)


class CostModel:
    """The lines of one tower. Any thread may observe and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Shape, deque[tuple[int, float]]] = {}
        self._lines: dict[Shape, Line] = {}
        self._mix: dict[Shape, float] = {}

    def observe(self, shape: Shape, rows: int, seconds: float) -> None:
        """A batch of so many rows of one shape took so long."""
        with self._lock:
            self._observe(shape, rows, seconds)

    def _observe(self, shape: Shape, rows: int, seconds: float) -> None:
        known = self._lines.get(shape)
        runs = self._runs.setdefault(shape, deque(maxlen=WINDOW))
        if known and len(runs) >= TRUSTED_RUNS:
            seconds = min(seconds, OUTLIER * known.seconds(rows))
        runs.append((rows, seconds))
        line = fit_line(runs, known)
        # Whole dictionaries are replaced: whoever reads sees the old or the new one.
        self._lines = {**self._lines, shape: line}
        mix = {key: share * (1 - MIX_RATE) ** rows for key, share in self._mix.items()}
        self._mix = {**mix, shape: mix.get(shape, 0.0) + 1 - (1 - MIX_RATE) ** rows}

    def line(self, shape: Shape) -> Line | None:
        """What is known of a shape."""
        return self._lines.get(shape)

    def batch_s(self, shape: Shape, rows: int) -> float:
        """Predicted seconds of a batch; of a shape never seen: as of those seen on average."""
        line = self._lines.get(shape)
        return line.seconds(rows) if line else self.input_s(rows) * rows

    def input_s(self, batch: int) -> float:
        """Predicted engine seconds per input in batches of `batch`, over the shapes of late; 0: unknown."""
        mix, lines = self._mix, self._lines
        total = sum(mix.values())
        if not total:
            return 0.0
        return sum(share * lines[shape].seconds(batch) for shape, share in mix.items()) / total / batch

    def rows_within(self, shape: Shape, seconds: float, limit: int) -> int:
        """Rows of a batch that is done in time, 1 to `limit`; `limit` where not even one would be."""
        if self.batch_s(shape, limit) <= seconds:
            return limit
        line = self._lines.get(shape)
        if line is None or line.seconds(1) > seconds:
            return limit
        return max(1, int((seconds - line.fixed_s) / line.per_row_s))

    def riders(self, shape: Shape, rows: int, limit: int) -> int:
        """Rows that may join a batch of `rows` without making it much longer, up to `limit` in all.

        On a device that runs one row as fast as sixteen they are fifteen; where each costs its share, none.
        """
        line = self._lines.get(shape)
        if line is None:
            return 0
        allowed_s = (1 + RIDER_SHARE) * line.seconds(rows)
        if line.seconds(limit) <= allowed_s:
            return limit - rows
        return int((allowed_s - line.seconds(rows)) / line.per_row_s)


def measure(
    encoder: Encoder, shapes: Iterable[Shape], dtype: type[np.uint8] | type[np.int64], *, max_batch: int
) -> CostModel:
    """Time a warm engine on single rows and on full batches.

    Args:
        encoder: warm: it has run each shape before.
        shapes: of rows, without the batch.
        dtype: of rows.
        max_batch: rows of a full batch.
    """
    costs = CostModel()
    for shape in shapes:
        for rows in (1, 1, max_batch) if max_batch > 1 else (1, 1):
            batch: Row = np.ones((rows, *shape), dtype)
            watch = Stopwatch()
            encoder.encode(batch)
            costs.observe(shape, rows, watch.ms / 1e3)
    return costs
