"""int8 that is proven: layers are left out until the drift target holds, or the export is refused."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto
from pydantic import JsonValue

from nearlight.export.calibration import calibrate, observe
from nearlight.export.equalise import equalised
from nearlight.export.errors import GraphError, ParityError
from nearlight.export.onnx_file import open_runner
from nearlight.export.progress import tell
from nearlight.export.quantise import named, products, quantised
from nearlight.export.retrieval import neighbour_overlap
from nearlight.export.subject import Vectors

_TIMED = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriftTarget:
    """How far int8 vectors may be from float32 ones.

    Attributes:
        min_cosine: Least cosine of any input's two vectors.
        min_overlap: Mean share of the ten nearest neighbours that stay the same.
    """

    min_cosine: float = 0.995
    min_overlap: float = 0.97

    def __post_init__(self) -> None:
        for name, value in (("min_cosine", self.min_cosine), ("min_overlap", self.min_overlap)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be 0 to 1")


Batches = Sequence[npt.NDArray[Any]]


def int8_tower(
    tower: str, model: ModelProto, given: str, batches: Batches, target: DriftTarget
) -> tuple[ModelProto, dict[str, JsonValue]]:
    """The first candidate that keeps to the target, fewest layers left out, and a report of all tried.

    Args:
        tower: `image` or `text`, for messages.
        model: The float32 graph.
        given: Name of its input.
        batches: Inputs; every other one calibrates, the rest judge.
        target: What must hold.

    Raises:
        GraphError: The tower has no product that can be done in 8 bits.
        ParityError: No candidate holds; says how near the best one came.
    """
    layers = products(named(model))
    if not layers:
        raise GraphError(f"{tower} tower: it has no matrix product by a constant; int8 gains nothing")
    even, seen = equalised(model, observe(model, given, batches[::2]))
    calibration = calibrate(even, seen)
    judges = batches[1::2] or batches
    expected, plain_seconds = _measured(model, given, judges)
    by_error = sorted((product.node for product in layers), key=lambda node: -calibration.errors[node])
    tried: list[JsonValue] = []
    best = (-1.0, -1.0)
    counts = list(_counts(len(by_error)))
    for number, left_out in enumerate(counts):
        tell(f"{tower}, int8 candidates", number, len(counts))
        candidate = quantised(even, calibration.ranges, by_error[:left_out])
        found, seconds = _measured(candidate, given, judges)
        cosine, overlap = float((expected * found).sum(axis=1).min()), neighbour_overlap(expected, found)
        _log.info(
            "%s tower, %d of %d products in int8: least cosine %.5f, overlap %.4f, %.2f times as fast",
            tower, len(layers) - left_out, len(layers), cosine, overlap, plain_seconds / seconds,
        )  # fmt: skip
        tried.append(
            {
                "left_out": left_out,
                "min_cosine": round(cosine, 6),
                "overlap_at_10": round(overlap, 5),
                "speed_ratio": round(plain_seconds / seconds, 2),
            }
        )
        best = max(best, (cosine, overlap))
        if cosine >= target.min_cosine and overlap >= target.min_overlap:
            return candidate, {"products": len(layers), "left_out": list(by_error[:left_out]), "tried": tried}
    raise ParityError(
        f"{tower} tower: no int8 candidate holds; the best has least cosine {best[0]:.5f} and overlap"
        f" {best[1]:.4f}, the target is {target.min_cosine} and {target.min_overlap}"
    )


def _counts(layers: int) -> Iterator[int]:
    """Layers to leave out: 0, 1, 2, 3, 4, 6, 8, 12, 16, … up to three quarters; beyond, int8 gains little."""
    count, step = 0, 1
    while count <= layers * 3 // 4:
        yield count
        count += step
        step = max(1, 1 << (count.bit_length() - 2)) if count >= 4 else 1


def _measured(model: ModelProto, given: str, batches: Batches) -> tuple[Vectors, float]:
    """Vectors of all batches, and the least seconds that the first one took."""
    run = open_runner(model, given)
    vectors = np.concatenate([run(batch) for batch in batches])
    seconds = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        run(batches[0])
        seconds.append(time.perf_counter() - start)
    return vectors, max(min(seconds), 1e-9)
