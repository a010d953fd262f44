"""An ONNX graph that someone else made: read with suspicion, then given a bundle's inputs and outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from nearlight.export.errors import GraphError, SourceError

MIN_OPSET, MAX_OPSET = 13, 21  # of ReduceSum with its axes as input; of the oldest ONNX Runtime we run on

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


@dataclass(frozen=True, slots=True)
class ForeignGraph:
    """One tower as found.

    Attributes:
        model: The graph, its weights inside.
        file: Where it was read, for messages.
        main: The input of pixels or tokens.
        mask: The input of an attention mask, where there is one.
        output: The output that holds the vector.
    """

    model: onnx.ModelProto
    file: Path
    main: ValueInfoProto
    mask: str | None
    output: str

    @property
    def batch(self) -> int:
        """The fixed batch size; 0 where it varies."""
        return _dims(self.main)[0]


def read_graph(file: Path) -> onnx.ModelProto:
    """An ONNX file with its external weights, if they stand inside its own folder.

    Raises:
        SourceError: Missing, damaged, of an opset or with operators that are not supported, or
            with weights outside its folder.
    """
    if not file.is_file():
        raise SourceError(f"no ONNX file at {file}")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError and its kin
        raise SourceError(f"{file.name} is truncated or not ONNX: {error}") from error
    if not model.graph.node or not model.opset_import:
        raise SourceError(f"{file.name} holds no graph: it is truncated or not ONNX")
    _check_operators(model, file)
    external = [tensor for tensor in _tensors(model.graph) if tensor.data_location == TensorProto.EXTERNAL]
    for tensor in external:
        _check_place(tensor, file)
    try:
        onnx.checker.check_model(str(file))  # by its path: in memory it may be too large for protobuf
        if external:
            onnx.load_external_data_for_model(model, str(file.parent))
    except Exception as error:
        raise SourceError(
            f"{file.name} is not a valid graph: {' '.join(str(error).split())[:300]}"
        ) from error
    return model


def image_tower(file: Path) -> ForeignGraph:
    """The graph of an image tower: one float input (B, 3, H, W).

    Raises:
        SourceError: Other inputs, or no output that is a vector per image.
    """
    model = read_graph(file)
    inputs = _inputs(model)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in _FLOATS or len(_dims(inputs[0])) != 4:
        raise SourceError(
            f"{file.name} takes {_described(inputs)}; an image tower takes one float (B, 3, H, W)"
        )
    if _dims(inputs[0])[1] not in (0, 3):
        raise SourceError(f"{file.name} takes {_dims(inputs[0])[1]} channels; it must take 3")
    return _checked(ForeignGraph(model, file, inputs[0], None, _vector_output(model, file, "image_embeds")))


def text_tower(file: Path) -> ForeignGraph:
    """The graph of a text tower: integer tokens (B, L), and perhaps their attention mask.

    Raises:
        SourceError: Other inputs, or no output that is a vector per text.
    """
    model = read_graph(file)
    inputs = _inputs(model)
    masks = [value.name for value in inputs if value.name == "attention_mask"]
    others = [value for value in inputs if value.name not in masks]
    if len(others) != 1 or any(
        value.type.tensor_type.elem_type not in _INTEGERS or len(_dims(value)) != 2 for value in inputs
    ):
        raise SourceError(
            f"{file.name} takes {_described(inputs)}; a text tower takes integer tokens (B, L) and at most an"
            " attention_mask"
        )
    output = _vector_output(model, file, "text_embeds")
    return _checked(ForeignGraph(model, file, others[0], masks[0] if masks else None, output))


def embedding_rows(graph: ForeignGraph) -> int | None:
    """Rows of the table that the tokens index; None where it is not a plain look-up."""
    shapes = {weight.name: list(weight.dims) for weight in graph.model.graph.initializer}
    same = {graph.main.name}
    for node in graph.model.graph.node:
        if node.op_type in ("Cast", "Identity", "Reshape", "Flatten") and node.input[0] in same:
            same.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in same and node.input[0] in shapes:
            return int(shapes[node.input[0]][0])
    return None


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def constants(model: onnx.ModelProto, name: str) -> float | None:
    """The one number of an initializer whose name ends in `name`."""
    for weight in model.graph.initializer:
        if weight.name.rpartition(".")[2] == name:
            values: Any = numpy_helper.to_array(weight)
            return float(values.reshape(-1)[0]) if values.size == 1 else None
    return None


def _checked(graph: ForeignGraph) -> ForeignGraph:
    if graph.batch > 1:
        raise GraphError(
            f"{graph.file.name}: the batch of `{graph.main.name}` is fixed at {graph.batch};"
            " it must vary, or be 1"
        )
    return graph


def _check_operators(model: onnx.ModelProto, file: Path) -> None:
    foreign = sorted(
        {f"{node.domain}.{node.op_type}" for node in _nodes(model.graph) if node.domain not in _DOMAINS}
    )
    if foreign or model.functions:
        named = ", ".join(foreign) or ", ".join(function.name for function in model.functions)
        raise SourceError(f"{file.name} uses custom operators, which no server has: {named}")
    if not MIN_OPSET <= opset_of(model) <= MAX_OPSET:
        raise SourceError(
            f"{file.name} has opset {opset_of(model)}; supported: {MIN_OPSET} to {MAX_OPSET}"
            " (onnx.version_converter changes it)"
        )


def _nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from (tensor for tensor in (attribute.t, *attribute.tensors) if tensor.ByteSize())
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer


def _check_place(tensor: TensorProto, file: Path) -> None:
    """A weight must stand in a plain file in the folder of its graph, never elsewhere."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = file.parent / location
    if not location or Path(location).name != location or place.is_symlink():
        raise SourceError(f"{file.name} keeps the weight {tensor.name!r} at {location!r}, outside its folder")
    if not place.is_file():
        raise SourceError(f"{file.name} keeps weights in {location}, which is missing")


def _inputs(model: onnx.ModelProto) -> list[ValueInfoProto]:
    weights = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _vector_output(model: onnx.ModelProto, file: Path, preferred: str) -> str:
    outputs = {value.name: value for value in model.graph.output}
    for name in (preferred, "pooler_output"):
        if name in outputs:
            return name
    flat = [name for name, value in outputs.items() if len(_dims(value)) in (0, 2)]
    if len(outputs) == 1 and flat:
        return flat[0]
    raise SourceError(
        f"{file.name} returns {', '.join(outputs)}; one of them must be `{preferred}` or `pooler_output`, or"
        " the only one be a vector per input"
    )


def _dims(value: ValueInfoProto) -> list[int]:
    """Sizes of each dimension; 0 where it varies."""
    return [int(axis.dim_value) for axis in value.type.tensor_type.shape.dim]


def _described(values: Sequence[ValueInfoProto]) -> str:
    kind = TensorProto.DataType.Name
    return ", ".join(
        f"{value.name} {kind(value.type.tensor_type.elem_type).lower()} {_dims(value)}" for value in values
    )


def constant(name: str, values: Any, kind: Any) -> TensorProto:
    """A named tensor for a graph."""
    return numpy_helper.from_array(np.asarray(values, dtype=kind), name)


def node(kind: str, given: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    """A node of ours; its output has its name."""
    return helper.make_node(kind, list(given), [output], name=output, **attributes)
