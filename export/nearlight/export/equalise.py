"""Channels that stand out are evened out before rounding, without a change of any result.

After a LayerNorm a few channels of trained transformers are many times as large as the others; one scale for
the whole tensor then leaves few of 256 steps to the rest. The norm's own scale and shift can make such a
channel smaller; the rows of the next matrix make up for it (Xiao et al. 2022, "SmoothQuant", alpha = 1/2).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from nearlight.export.calibration import Observed
from nearlight.export.onnx_file import weights_by_name
from nearlight.export.quantise import Array, Product, products

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
        if not reached or any(name not in weights for name in norm.input[1:]):
            continue
        if any(len(lows[product.given]) != weights[norm.input[1]].size for product in reached):
            continue  # reshaped into other channels
        factor = _factors(reached, weights, lows, highs)  # (C,)
        for place, name in list(enumerate(norm.input))[1:]:
            norm.input[place] = f"{norm.name}.even{place}"
            added[norm.input[place]] = (weights[name] / factor).astype(np.float32)
        for product in reached:
            _node(graph, product.node).input[1] = f"{product.node}.even"
            spread = factor[:, None] if product.axis == 1 else factor[None, :]
            added[f"{product.node}.even"] = (weights[product.weight] * spread).astype(np.float32)
        for tensor in {product.given for product in reached}:
            lows[tensor], highs[tensor] = lows[tensor] / factor, highs[tensor] / factor
            rows[tensor] = rows[tensor] / factor
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(v, name) for name, v in added.items())])
    return done, Observed(lows, highs, rows)


def _reached(graph: onnx.GraphProto, norm: NodeProto, by_node: Mapping[str, Product]) -> list[Product]:
    """The products that a norm's result goes into, perhaps reshaped; none if it goes anywhere else."""
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
            elif node.op_type == "Reshape" and node.input[0] == tensor:
                waiting.append(node.output[0])
            else:
                return []
    return found


def _factors(
    reached: Sequence[Product],
    weights: Mapping[str, Array],
    lows: Mapping[str, Array],
    highs: Mapping[str, Array],
) -> Array:
    """What each channel is divided by (C,): the root of what it holds over what it is multiplied by."""
    holds = np.max([np.maximum(-lows[p.given], highs[p.given]) for p in reached], axis=0)  # (C,)
    times = np.max([np.abs(weights[p.weight]).max(axis=p.axis) for p in reached], axis=0)  # (C,)
    roots = np.sqrt(np.maximum(holds, _LEAST) / np.maximum(times, _LEAST))
    factor: Array = roots / np.exp(np.log(roots).mean())  # around 1
    return factor


def _node(graph: onnx.GraphProto, name: str) -> NodeProto:
    return next(node for node in graph.node if node.name == name)
