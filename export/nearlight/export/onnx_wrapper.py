"""A foreign ONNX tower as served: uint8 pixels or int64 tokens in, unit float32 vectors out.

The foreign nodes stay as they are. Ours stand before them (scaling of the channels, the attention mask) and
after them (the L2 norm). A graph fixed to one row is run row by row, by Scan.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from nearlight.bundle.manifest import ImageTower, TextTower
from nearlight.export.onnx_file import OUTPUT
from nearlight.export.onnx_graph import ForeignGraph, constant, node

_OURS = "nearlight."


def wrap_image(found: ForeignGraph, tower: ImageTower, dim: int) -> onnx.ModelProto:
    """The image graph of a bundle around a foreign one."""
    side = tower.preprocess.size_px
    mean, std = np.array(tower.mean) * 255, np.array(tower.std) * 255
    weights = [constant(f"{_OURS}mean", mean, np.float32), constant(f"{_OURS}std", std, np.float32)]
    kind = found.main.type.tensor_type.elem_type
    before = [
        node("Cast", ["pixels"], f"{_OURS}floats", to=TensorProto.FLOAT),
        node("Sub", [f"{_OURS}floats", f"{_OURS}mean"], f"{_OURS}centred"),
        node("Div", [f"{_OURS}centred", f"{_OURS}std"], f"{_OURS}scaled"),
        node("Transpose", [f"{_OURS}scaled"], f"{_OURS}images", perm=[0, 3, 1, 2]),
        node("Cast", [f"{_OURS}images"], f"{_OURS}main", to=kind),
    ]
    given = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3])
    return _assembled(found, given, before, weights, dim)


def wrap_text(found: ForeignGraph, tower: TextTower, dim: int) -> onnx.ModelProto:
    """The text graph of a bundle around a foreign one."""
    kind = found.main.type.tensor_type.elem_type
    before = [node("Cast", ["tokens"], f"{_OURS}main", to=kind)]
    weights: list[TensorProto] = []
    if found.mask is not None:
        steps, weights = _mask(found, tower)
        before += steps
    length = "length" if tower.trimmable else tower.context_length
    given = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", length])
    return _assembled(found, given, before, weights, dim)


def _mask(found: ForeignGraph, tower: TextTower) -> tuple[list[NodeProto], list[TensorProto]]:
    """1 up to the padding. An end token that also pads (Hugging Face's CLIP) counts where it comes first."""
    kind = next(
        value.type.tensor_type.elem_type for value in found.model.graph.input if value.name == found.mask
    )
    weights = [constant(f"{_OURS}pad", tower.pad_id, np.int64)]
    steps = [node("Equal", ["tokens", f"{_OURS}pad"], f"{_OURS}is_pad")]
    if tower.pad_id == tower.eot_id:
        weights += [constant(f"{_OURS}one_axis", 1, np.int64), constant(f"{_OURS}none", 0, np.int32)]
        steps += [
            node("Cast", [f"{_OURS}is_pad"], f"{_OURS}pads", to=TensorProto.INT32),
            node("CumSum", [f"{_OURS}pads", f"{_OURS}one_axis"], f"{_OURS}pads_before", exclusive=1),
            node("Equal", [f"{_OURS}pads_before", f"{_OURS}none"], f"{_OURS}kept"),
        ]
    else:
        steps.append(node("Not", [f"{_OURS}is_pad"], f"{_OURS}kept"))
    return [*steps, node("Cast", [f"{_OURS}kept"], f"{_OURS}mask", to=kind)], weights


def _assembled(
    found: ForeignGraph,
    given: onnx.ValueInfoProto,
    before: Sequence[NodeProto],
    weights: Sequence[TensorProto],
    dim: int,
) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(found.model)
    graph = model.graph
    inner = list(graph.node)
    feeds = {found.main.name: f"{_OURS}main"} | ({found.mask: f"{_OURS}mask"} if found.mask else {})
    if found.batch == 1:
        middle = [_row_by_row(found, inner, feeds)]
        graph.initializer.append(constant(f"{_OURS}first_axis", [0], np.int64))
        raw = f"{_OURS}rows"
    else:
        middle = [*(node("Identity", [ours], theirs) for theirs, ours in feeds.items()), *inner]
        raw = found.output
    after = [
        node("Cast", [raw], f"{_OURS}features", to=TensorProto.FLOAT),
        node("Mul", [f"{_OURS}features", f"{_OURS}features"], f"{_OURS}squares"),
        node("ReduceSum", [f"{_OURS}squares", f"{_OURS}last_axis"], f"{_OURS}sums", keepdims=1),
        node("Sqrt", [f"{_OURS}sums"], f"{_OURS}norms"),
        node("Max", [f"{_OURS}norms", f"{_OURS}tiny"], f"{_OURS}lengths"),
        node("Div", [f"{_OURS}features", f"{_OURS}lengths"], OUTPUT),
    ]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*before, *middle, *after])
    graph.initializer.extend(
        [*weights, constant(f"{_OURS}last_axis", [-1], np.int64), constant(f"{_OURS}tiny", 1e-12, np.float32)]
    )
    graph.input.append(given)
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", dim]))
    return _without_notes(model)


def _row_by_row(found: ForeignGraph, inner: Sequence[NodeProto], feeds: dict[str, str]) -> NodeProto:
    """Scan over the batch: the body adds the axis of one row, runs the foreign nodes, drops it again."""
    types = {value.name: value.type.tensor_type.elem_type for value in found.model.graph.input}
    kind = next(v.type.tensor_type.elem_type for v in found.model.graph.output if v.name == found.output)
    body = helper.make_graph(
        [
            *(
                node("Unsqueeze", [f"{ours}.row", f"{_OURS}first_axis"], theirs)
                for theirs, ours in feeds.items()
            ),
            *inner,
            node("Squeeze", [found.output, f"{_OURS}first_axis"], f"{_OURS}row"),
        ],
        f"{_OURS}body",
        [helper.make_tensor_value_info(f"{ours}.row", types[theirs], None) for theirs, ours in feeds.items()],
        [helper.make_tensor_value_info(f"{_OURS}row", kind, None)],
    )
    return node("Scan", list(feeds.values()), f"{_OURS}rows", body=body, num_scan_inputs=len(feeds))


def _without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What the maker's tools noted for debugging, often with paths of their machine, is left out."""
    graph = model.graph
    holders: list[Any] = [model, graph, *graph.node, *graph.initializer]
    for holder in holders:
        del holder.metadata_props[:]
        holder.doc_string = ""
    model.producer_name = ""
    return model
