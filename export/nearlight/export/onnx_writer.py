"""From a torch module to the bytes of an ONNX file: dynamic, checked, repeatable, nothing private in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from nearlight.export.errors import GraphError
from nearlight.export.onnx_file import OUTPUT, check_model

OPSET = 20  # the first with Gelu, which runtimes fuse with the bias before it

_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Input:
    """The one input of a graph: its name, an example, and the names of the dimensions that may vary."""

    name: str
    example: Tensor
    varying: Mapping[int, str]


def write_onnx(graph: nn.Module, given: Input, dim: int) -> onnx.ModelProto:
    """A module as an ONNX model.

    Args:
        graph: Takes `given.example`, returns float32 (B, dim).
        given: Its input.
        dim: Length of a vector.

    Raises:
        GraphError: The module cannot be traced, or the graph lost a varying dimension.
    """
    model = _traced(graph.eval(), given)
    _clean(model)
    _check(model, given, dim)
    check_model(model)
    return model


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its weights stored in half precision.

    Each gets a Cast in front that the runtime folds away when it loads: half the file, the same arithmetic.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    _halve(halved)
    check_model(halved)
    return halved


def dim_and_opset(model: onnx.ModelProto) -> tuple[int, int]:
    """The length of a graph's vectors, and the version of its operators."""
    shape = model.graph.output[0].type.tensor_type.shape
    opset = max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return int(shape.dim[1].dim_value), opset


def _traced(graph: nn.Module, given: Input) -> onnx.ModelProto:
    varying = dict.fromkeys(given.varying, torch.export.Dim.DYNAMIC)
    try:
        try:
            traced = torch.export.export(graph, (given.example,), dynamic_shapes=(varying,), strict=False)
        except (torch._dynamo.exc.UserError, RuntimeError):
            # Slower, but it sees through Python's len() of a tensor, which fixes a varying dimension above.
            traced = torch.export.export(graph, (given.example,), dynamic_shapes=(varying,), strict=True)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            input_names=[given.name],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # torch raises many types, each with pages of advice
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise GraphError(
            f"the model behind `{given.name}` does not become an ONNX graph: {reason}"
        ) from error
    assert program is not None
    return program.model_proto


def _clean(model: onnx.ModelProto) -> None:
    """Remove what torch notes for debugging: source lines with the paths of this machine."""
    model.doc_string = ""
    model.graph.doc_string = ""
    graph = model.graph
    holders: list[Any] = [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]
    for holder in holders:
        del holder.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    del model.graph.value_info[:]


def _check(model: onnx.ModelProto, given: Input, dim: int) -> None:
    """Name the varying dimensions, and refuse a graph where one of them was fixed while tracing."""
    graph = model.graph
    names = [value.name for value in (*graph.input, *graph.output)]
    if names != [given.name, OUTPUT]:
        raise GraphError(f"the graph has inputs and outputs {names}; it must have {[given.name, OUTPUT]}")
    source, target = graph.input[0].type.tensor_type, graph.output[0].type.tensor_type
    for axis, name in given.varying.items():
        shape = source.shape.dim[axis]
        if not shape.dim_param:
            raise GraphError(
                f"dimension {axis} ({name}) of `{given.name}` is fixed at {shape.dim_value}; it must vary"
            )
        shape.dim_param = name
    found = [axis.dim_value for axis in target.shape.dim]
    if target.elem_type != TensorProto.FLOAT or found != [0, dim]:
        raise GraphError(f"`{OUTPUT}` has shape {found}; it must be float32 (batch, {dim})")
    target.shape.dim[0].dim_param = source.shape.dim[0].dim_param


def _halve(model: onnx.ModelProto) -> None:
    """Store matrices and kernels as float16. Vectors (biases, norms) are small and stay exact."""
    kept, casts = [], []
    for weight in model.graph.initializer:
        values: Any = numpy_helper.to_array(weight)
        if (
            weight.data_type != TensorProto.FLOAT
            or values.ndim < 2
            or np.abs(values).max(initial=0) > _HALF_MAX
        ):
            kept.append(weight)
            continue
        stored = f"{weight.name}.half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(
            helper.make_node(
                "Cast", [stored], [weight.name], name=f"{weight.name}.cast", to=TensorProto.FLOAT
            )
        )
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(casts + nodes)
