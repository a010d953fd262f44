"""What goes into the matrix products of a graph, as calibration inputs show it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from nearlight.export.onnx_file import open_session, weights_by_name
from nearlight.export.progress import tell
from nearlight.export.quantise import Array, columns_of, products, scale_of

_SAMPLED_ROWS = 256


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of each tensor that goes into a product.

    Attributes:
        lows: Least value of each channel (C,).
        highs: Greatest value of each channel (C,).
        rows: Some of its rows (N, C).
    """

    lows: Mapping[str, Array]
    highs: Mapping[str, Array]
    rows: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibration found, by tensor of activations and by product.

    Attributes:
        ranges: Least and greatest value of each tensor, zero included.
        errors: Relative error that 8 bits make in each product's result.
    """

    ranges: Mapping[str, tuple[float, float]]
    errors: Mapping[str, float]


def observe(model: onnx.ModelProto, name: str, batches: Sequence[Array]) -> Observed:
    """Run a graph on calibration inputs and look at what goes into its products.

    Args:
        model: A float32 graph; its nodes have names.
        name: Its input.
        batches: Calibration inputs.
    """
    tensors = sorted({product.given for product in products(model)})
    lows: dict[str, Array] = {}
    highs: dict[str, Array] = {}
    kept: dict[str, Array] = {}
    for values in _values(model, name, batches, tensors):
        for tensor, value in values.items():
            rows = value.reshape(-1, value.shape[-1])  # (N, C)
            lows[tensor] = np.minimum(lows.get(tensor, np.inf), rows.min(axis=0))
            highs[tensor] = np.maximum(highs.get(tensor, -np.inf), rows.max(axis=0))
            kept.setdefault(tensor, rows[:: max(1, len(rows) // _SAMPLED_ROWS)])
    return Observed(lows, highs, kept)


def calibrate(model: onnx.ModelProto, seen: Observed) -> Calibration:
    """The range of each tensor, and what 8 bits do to each product."""
    ranges = {
        tensor: (min(0.0, float(low.min())), max(0.0, float(seen.highs[tensor].max())))
        for tensor, low in seen.lows.items()
    }
    weights = weights_by_name(model)
    errors = {
        product.node: _error(
            seen.rows[product.given], ranges[product.given], weights[product.weight], product.axis
        )
        for product in products(model)
    }
    return Calibration(ranges, errors)


def _values(
    model: onnx.ModelProto, name: str, batches: Sequence[Array], tensors: Sequence[str]
) -> Iterable[dict[str, Array]]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in present)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = open_session(watched, options)
    for number, batch in enumerate(batches, start=1):
        tell("calibrating", number, len(batches))
        yield dict(zip(tensors, session.run(list(tensors), {name: batch}), strict=True))


def _error(rows: Array, limits: tuple[float, float], weight: Array, axis: int) -> float:
    """How far a product of 8-bit numbers is from that of float32, relative to the latter's length."""
    scale, zero = scale_of(*limits)
    coarse = (np.clip(np.round(rows / scale) + zero, 0, 255) - zero) * scale  # (N, C)
    whole, scales = columns_of(weight, axis)
    rough = whole.astype(np.float32) * (scales[None, :] if axis == 1 else scales[:, None])
    exact = rows @ (weight if axis == 1 else weight.T)
    found = coarse @ (rough if axis == 1 else rough.T)
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-12))
