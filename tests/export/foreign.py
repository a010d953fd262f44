"""Small ONNX towers as other tools write them, and the folders they come in. Weights are random."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.export.towers import write_unigram, write_wordpiece

SIDE, DIM, ROWS, LENGTH = 32, 12, 64, 10
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    values = np.random.default_rng([seed, *name.encode()]).normal(size=shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def indices(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def value(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[TensorProto],
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "tower", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="someone's laptop")


def image_model(
    given: str = "pixel_values", output: str = "image_embeds", batch: int | str = "batch", opset: int = 17
) -> onnx.ModelProto:
    """Patches of 8 px, two layers, the mean over patches."""
    nodes = [
        helper.make_node("Conv", [given, "patch"], ["patches"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Tanh", ["patches"], ["last_hidden_state"]),
        helper.make_node("GlobalAveragePool", ["last_hidden_state"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "projection"], [output]),
    ]
    outputs = [value(output, TensorProto.FLOAT, [batch, DIM])]
    if output == "image_embeds":
        outputs.insert(0, value("last_hidden_state", TensorProto.FLOAT, [batch, 8, "h", "w"]))
    return model_of(
        nodes,
        [value(given, TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        outputs,
        [weight("patch", 8, 3, 8, 8), weight("projection", 8, DIM)],
        opset,
    )


def text_model(
    given: str = "input_ids",
    output: str = "text_embeds",
    *,
    kind: int = TensorProto.INT64,
    batch: int | str = "batch",
    length: int | str = "length",
    causal: bool = True,
    masked: bool = False,
    rows: int = ROWS,
) -> onnx.ModelProto:
    """Sums of embeddings: up to the first highest id (`causal`, as CLIP), or over all, or by the mask."""
    nodes = [helper.make_node("Gather", ["table", given], ["embedded"])]  # (B, L, W)
    weights = [weight("table", rows, 8), weight("projection", 8, DIM), indices("length_axis", 1)]
    if causal:
        nodes += [
            helper.make_node("Tanh", ["embedded"], ["bent"]),
            helper.make_node("CumSum", ["bent", "length_axis_"], ["sums"]),
            helper.make_node("ArgMax", [given], ["at"], axis=1, keepdims=0),
            helper.make_node("Unsqueeze", ["at", "length_axis"], ["ends"]),
            helper.make_node("GatherND", ["sums", "ends"], ["pooled"], batch_dims=1),
        ]
        weights.append(numpy_helper.from_array(np.array(1, np.int64), "length_axis_"))
    elif masked:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last_axis"], ["kept_rows"]),
            helper.make_node("Mul", ["embedded", "kept_rows"], ["kept_only"]),
            helper.make_node("ReduceSum", ["kept_only", "length_axis"], ["pooled"], keepdims=0),
        ]
        weights.append(indices("last_axis", -1))
    else:
        nodes.append(helper.make_node("ReduceSum", ["embedded", "length_axis"], ["pooled"], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["pooled", "projection"], [output]))
    inputs = [value(given, kind, [batch, length])]
    if masked:
        inputs.append(value("attention_mask", kind, [batch, length]))
    return model_of(nodes, inputs, [value(output, TensorProto.FLOAT, [batch, DIM])], weights)


def write_json(file: Path, document: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def write_transformers_js(folder: Path, *, siglip: bool = False, **text: Any) -> Path:
    """onnx/vision_model.onnx, onnx/text_model.onnx and the settings of transformers beside them."""
    (folder / "onnx").mkdir(parents=True)
    output = "pooler_output" if siglip else "image_embeds"
    onnx.save(image_model(output=output), folder / "onnx" / "vision_model.onnx")
    made = {"causal": False, "output": "pooler_output"} if siglip else {"masked": True, "causal": False}
    onnx.save(text_model(**{**made, **text}), folder / "onnx" / "text_model.onnx")
    write_json(folder / "config.json", {"model_type": "siglip" if siglip else "clip"})
    size = {"height": SIDE, "width": SIDE} if siglip else {"shortest_edge": SIDE}
    crop = {} if siglip else {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    normal = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "rescale_factor": 0.00392156862745098}
    settings = {"do_resize": True, "size": size, "resample": 2 if siglip else 3, **crop, **normal}
    write_json(folder / "preprocessor_config.json", settings)
    (write_unigram if siglip else write_wordpiece)(folder)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**tokenizer, "model_max_length": LENGTH})
    return folder


def write_immich(folder: Path, batch: int | str = 1) -> Path:
    """visual/ and textual/ with open_clip's settings; Immich fixes the batch at 1 and takes int32."""
    for part in ("visual", "textual"):
        (folder / part).mkdir(parents=True)
    onnx.save(image_model("image", "embedding", batch), folder / "visual" / "model.onnx")
    model = text_model("text", "embedding", kind=TensorProto.INT32, batch=batch, length=LENGTH)
    onnx.save(model, folder / "textual" / "model.onnx")
    settings = {"size": [SIDE, SIDE], "mode": "RGB", "mean": CLIP_MEAN, "std": CLIP_STD, "fill_color": 0}
    write_json(
        folder / "visual" / "preprocess_cfg.json",
        {**settings, "interpolation": "bicubic", "resize_mode": "shortest"},
    )
    write_json(folder / "config.json", {"text_cfg": {"context_length": LENGTH}, "vision_cfg": {}})
    write_wordpiece(folder / "textual")
    return folder


def write_clip_as_service(folder: Path) -> Path:
    """Two files and nothing else."""
    folder.mkdir()
    onnx.save(image_model(output="out"), folder / "visual.onnx")
    onnx.save(text_model(output="out", rows=49408), folder / "textual.onnx")
    return folder
