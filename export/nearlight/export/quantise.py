"""Matrix products of a float32 graph in 8 bits, with scales that are fixed once and for all.

Weights are symmetric int8 with one scale per output column. Activations are uint8 with one scale per tensor,
measured on calibration inputs: because it never changes, a vector cannot depend on its batch mates or on
padding, as it does where scales are taken from each batch (ONNX Runtime's dynamic quantisation). Only the
products are in 8 bits; what goes in and out of them stays float32, so that an error is not carried along.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nearlight.export.onnx_file import check_model

Array = npt.NDArray[Any]

_LEAST_WEIGHTS = 256  # smaller products gain nothing
_INT32_ROOM = 2**30


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product by a constant: MatMul, or Gemm as torch writes a linear layer.

    Attributes:
        node: Its name in the graph.
        given: The tensor of activations that goes in.
        weight: The initializer it multiplies by.
        axis: The axis of the weight that becomes the output columns.
        bias: The initializer of one number for each column that is added; "" for none.
    """

    node: str
    given: str
    weight: str
    axis: int
    bias: str = ""


def products(model: onnx.ModelProto) -> list[Product]:
    """The matrix products that can be done in 8 bits, in graph order."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    return [found for node in model.graph.node if (found := _product(node, weights)) is not None]


def quantised(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], leave_out: Iterable[str] = ()
) -> onnx.ModelProto:
    """The graph with its products in 8 bits, but for those named in `leave_out`.

    `ranges` are the least and greatest value of each tensor that goes into a product.

    Written as ONNX's own pairs of QuantizeLinear and DequantizeLinear, which runtimes fuse with the product.
    Its bias is int32 in the units of the product; where ONNX Runtime finds float32, all is float32.
    """
    skipped = set(leave_out)
    done = onnx.ModelProto()
    done.CopyFrom(model)
    graph = done.graph
    chosen = {product.node: product for product in products(model) if product.node not in skipped}
    weights = {weight.name: weight for weight in graph.initializer}
    added: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in graph.node:
        product = chosen.get(node.name)
        if product is None:
            nodes.append(node)
            continue
        steps = _steps(product, ranges[product.given], weights, added)
        nodes += [step for step in steps if step.output[0] not in made]
        made |= {step.output[0] for step in steps}
        inputs = [f"{product.given}.restored", _restored(product)]
        inputs += [f"{product.node}.bias"] if product.bias else []
        # The columns stand in the second axis now, whatever they did before.
        nodes.append(helper.make_node(node.op_type, inputs, list(node.output), name=node.name))
    used = {name for node in nodes for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added.values()])
    check_model(done)
    return done


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model, its nodes given names of their own where they have none."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"node.{number}"
        seen.add(node.name)
    return model


def _product(node: NodeProto, weights: Mapping[str, TensorProto]) -> Product | None:
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in weights:
        return None
    weight = weights.get(node.input[1])
    if weight is None or len(weight.dims) != 2 or weight.data_type != TensorProto.FLOAT:
        return None
    flags = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if flags.get("transA", 0) or flags.get("alpha", 1.0) != 1.0 or flags.get("beta", 1.0) != 1.0:
        return None
    if int(np.prod(weight.dims)) < _LEAST_WEIGHTS:
        return None
    axis = 0 if flags.get("transB", 0) else 1
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and (bias not in weights or list(weights[bias].dims) != [weight.dims[axis]]):
        return None
    return Product(node.name, node.input[0], weight.name, axis, bias)


def scale_of(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of uint8 for a range with zero in it."""
    scale = max(high - low, 1e-12) / 255
    return scale, int(np.clip(round(-low / scale), 0, 255))


def columns_of(weight: Array, axis: int, least: Array | float = 0.0) -> tuple[Array, Array]:
    """int8 weights and the scale of each output column (C,), none below `least`."""
    greatest = np.abs(weight).max(axis=1 - axis)
    scales = np.maximum(np.maximum(greatest / 127, 1e-12), least).astype(np.float32)  # (C,)
    spread = scales[None, :] if axis == 1 else scales[:, None]
    return np.clip(np.round(weight / spread), -127, 127).astype(np.int8), scales


def _activation(
    tensor: str, limits: tuple[float, float], added: dict[str, TensorProto]
) -> tuple[NodeProto, NodeProto]:
    scale, zero = scale_of(*limits)
    names = [f"{tensor}.scale", f"{tensor}.zero"]
    added[names[0]] = numpy_helper.from_array(np.array(scale, np.float32), names[0])
    added[names[1]] = numpy_helper.from_array(np.array(zero, np.uint8), names[1])
    coarse, restored = f"{tensor}.coarse", f"{tensor}.restored"
    return (
        helper.make_node("QuantizeLinear", [tensor, *names], [coarse], name=coarse),
        helper.make_node("DequantizeLinear", [coarse, *names], [restored], name=restored),
    )


def _steps(
    product: Product,
    limits: tuple[float, float],
    weights: Mapping[str, TensorProto],
    added: dict[str, TensorProto],
) -> list[NodeProto]:
    """What goes before a product; its constants go into `added`."""
    matrix = numpy_helper.to_array(weights[product.weight])
    matrix = matrix if product.axis == 1 else matrix.T  # (K, N)
    given_scale = scale_of(*limits)[0]
    bias = numpy_helper.to_array(weights[product.bias]) if product.bias else np.zeros(1, np.float32)
    # A bias must fit into 32 bits in the units of its column, even where the column is all zeros.
    whole, scales = columns_of(matrix, 1, least=np.abs(bias) / (given_scale * _INT32_ROOM))  # (K, N), (N,)
    steps = [*_activation(product.given, limits, added)]
    steps.append(_constant(_restored(product), np.ascontiguousarray(whole), scales, added, axis=1))
    if product.bias:
        units = (scales * np.float32(given_scale)).astype(np.float32)  # (N,)
        numbers = np.round(bias / units.astype(np.float64)).astype(np.int32)
        steps.append(_constant(f"{product.node}.bias", numbers, units, added, axis=0))
    return steps


def _constant(
    name: str, whole: Array, scales: Array, added: dict[str, TensorProto], *, axis: int
) -> NodeProto:
    """Whole numbers with a scale for each column, restored under `name`."""
    parts = {
        f"{name}.whole": whole,
        f"{name}.scale": scales,
        f"{name}.zero": np.zeros(len(scales), whole.dtype),
    }
    for part, values in parts.items():
        added[part] = numpy_helper.from_array(values, part)
    return helper.make_node("DequantizeLinear", list(parts), [name], name=name, axis=axis)


def _restored(product: Product) -> str:
    return f"{product.node}.weight"
