"""Channels that stand out are evened out before rounding, without a change of any result.

After a LayerNorm a few channels of trained transformers are many times as large as the others; one scale for
the whole tensor then leaves few of 256 steps to the rest. The norm's own scale and shift can make such a
channel smaller; the rows of the next matrix make up for it (Xiao et al. 2022, "SmoothQuant", alpha = 1/2).
Where the next layer can hold a bias, the shift also moves each channel's middle to zero, and the bias takes
it back (Wei et al. 2023, "Outlier Suppression+"): what all inputs have in common then costs no steps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from nearlight.export.calibration import Observed
from nearlight.export.onnx_file import weights_by_name
from nearlight.export.quantise import Array, Product, products

_KEEPS_CHANNELS = ("GatherND", "Reshape", "Slice", "Unsqueeze")
_LEAST = 1e-5  # of what a channel holds, and of what it is multiplied by


def equalised(model: onnx.ModelProto, seen: Observed) -> tuple[onnx.ModelProto, Observed]:
    """The same function with even channels, and what calibration would see of it.

    Args:
        model: A float32 graph; its nodes have names.
        seen: Of this graph.
    """
    done = onnx.ModelProto()
    done.CopyFrom(model)
    graph = done.graph
    weights = weights_by_name(done)
    by_node = {product.node: product for product in products(done)}
    lows, highs, rows = dict(seen.lows), dict(seen.highs), dict(seen.rows)
    added: dict[str, Array] = {}
    for norm in [node for node in graph.node if node.op_type == "LayerNormalization"]:
        reached = _reached(graph, norm, by_node)
        if not reached or any(name not in weights for name in norm.input[1:] if name):
            continue
        if any(len(lows[product.given]) != weights[norm.input[1]].size for product in reached):
            continue  # reshaped into other channels
        takers = [_node(graph, product.node) for product in reached]
        middle = _middles(reached, lows, highs) * all(taker.op_type == "Gemm" for taker in takers)  # (C,)
        factor = _factors(reached, weights, lows, highs, middle)  # (C,)
        added |= _changed_norm(norm, weights, middle, factor)
        for product, taker in zip(reached, takers, strict=True):
            added |= _changed_taker(product, taker, weights, middle, factor)
        for tensor in {product.given for product in reached}:
            lows[tensor], highs[tensor], rows[tensor] = (
                (values[tensor] - middle) / factor for values in (lows, highs, rows)
            )
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(v, name) for name, v in added.items())])
    return done, Observed(lows, highs, rows)


def _changed_norm(
    norm: NodeProto, weights: Mapping[str, Array], middle: Array, factor: Array
) -> dict[str, Array]:
    """Let a norm give (x - middle) / factor; its new constants."""
    scale = weights[norm.input[1]]  # (C,)
    shift = weights[norm.input[2]] if len(norm.input) > 2 and norm.input[2] else np.zeros_like(scale)
    names = [f"{norm.name}.even{place}" for place in (1, 2)]
    del norm.input[1:]
    norm.input.extend(names)
    return dict(zip(names, _floats(scale / factor, (shift - middle) / factor), strict=True))


def _changed_taker(
    product: Product, taker: NodeProto, weights: Mapping[str, Array], middle: Array, factor: Array
) -> dict[str, Array]:
    """Let a product take (x - middle) / factor for x; its new constants."""
    weight = weights[product.weight]
    spread = factor[:, None] if product.axis == 1 else factor[None, :]
    taker.input[1] = f"{product.node}.even"
    added = dict(zip([taker.input[1]], _floats(weight * spread), strict=True))
    if not middle.any():
        return added
    common = middle.astype(np.float64) @ (weight if product.axis == 1 else weight.T)  # (N,)
    del taker.input[2:]
    taker.input.append(f"{product.node}.even.bias")
    (added[taker.input[2]],) = _floats(common + (weights[product.bias] if product.bias else 0))
    return added


def _reached(graph: onnx.GraphProto, norm: NodeProto, by_node: Mapping[str, Product]) -> list[Product]:
    """The products that a norm's result (or rows of it) goes into; none if it goes anywhere else."""
    found: list[Product] = []
    waiting = [norm.output[0]]
    outputs = {value.name for value in graph.output}
    while waiting:
        tensor = waiting.pop()
        if tensor in outputs:
            return []
        for node in graph.node:
            if tensor not in node.input:
                continue
            product = by_node.get(node.name)
            if product is not None and product.given == tensor:
                found.append(product)
            elif node.op_type in _KEEPS_CHANNELS and node.input[0] == tensor:
                waiting.append(node.output[0])
            else:
                return []
    return found


def _middles(reached: Sequence[Product], lows: Mapping[str, Array], highs: Mapping[str, Array]) -> Array:
    """What lies between the least and the greatest of each channel (C,)."""
    low = np.min([lows[product.given] for product in reached], axis=0)
    middle: Array = (low + np.max([highs[product.given] for product in reached], axis=0)) / 2
    return middle


def _factors(
    reached: Sequence[Product],
    weights: Mapping[str, Array],
    lows: Mapping[str, Array],
    highs: Mapping[str, Array],
    middle: Array,
) -> Array:
    """What each channel is divided by (C,): the root of what it holds over what it is multiplied by."""
    holds = np.max([np.maximum(middle - lows[p.given], highs[p.given] - middle) for p in reached], axis=0)
    times = np.max([np.abs(weights[p.weight]).max(axis=p.axis) for p in reached], axis=0)  # (C,)
    roots = np.sqrt(np.maximum(holds, _LEAST) / np.maximum(times, _LEAST))
    factor: Array = roots / np.exp(np.log(roots).mean())  # around 1
    return factor


def _floats(*values: Array) -> tuple[Array, ...]:
    return tuple(np.asarray(value, np.float32) for value in values)


def _node(graph: onnx.GraphProto, name: str) -> NodeProto:
    return next(node for node in graph.node if node.name == name)
