"""ONNX models in memory and on disk, of any size: where protobuf ends, at 2 GiB, weights go beside it."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto

from nearlight.export.subject import Vectors

MAX_ONE_FILE_BYTES = 2_000_000_000
OUTPUT = "vectors"  # not "embedding": that is what the node of a token embedding is called

_LEAST_OUTSIDE_BYTES = 1024  # smaller weights stay in the graph

Run = Callable[[npt.NDArray[Any]], Vectors]


def bytes_of(model: ModelProto) -> int:
    """Bytes of a model's weights; unlike `ByteSize` not bound by what protobuf can count, and no copy."""
    return sum(
        math.prod(weight.dims) * onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
        for weight in model.graph.initializer
    )


def fits_one_file(model: ModelProto) -> bool:
    """Whether protobuf can hold it whole."""
    return bytes_of(model) <= MAX_ONE_FILE_BYTES


def save_model(model: ModelProto, file: Path) -> Path | None:
    """Write a model; one that is too large for a file is emptied of its weights, which go beside it.

    Returns:
        The file of weights, `NAME.data`; None where all are in `file`.

    Raises:
        OSError: The disk refuses.
    """
    if fits_one_file(model):
        file.write_bytes(model.SerializeToString(deterministic=True))
        return None
    weights = file.with_name(f"{file.name}.data")
    weights.unlink(missing_ok=True)  # onnx would append to it
    onnx.save_model(
        model,
        str(file),
        save_as_external_data=True,
        location=weights.name,
        size_threshold=_LEAST_OUTSIDE_BYTES,
    )
    return weights


def check_model(model: ModelProto) -> None:
    """Let onnx check a model with its types and shapes; of one too large for protobuf, only its nodes.

    Raises:
        onnx.checker.ValidationError: It is none.
    """
    if fits_one_file(model):
        onnx.checker.check_model(model, full_check=True)
        return
    # Without its weights a graph is small, and says as much of itself.
    bare = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    for weight in model.graph.initializer:
        value = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        bare.graph.input.append(value)
    onnx.checker.check_model(bare, full_check=True)


def open_session(
    source: ModelProto | Path, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime on the CPU."""
    providers = ["CPUExecutionProvider"]
    if isinstance(source, Path):
        return onnxruntime.InferenceSession(str(source), options, providers=providers)
    if fits_one_file(source):
        return onnxruntime.InferenceSession(source.SerializeToString(), options, providers=providers)
    with tempfile.TemporaryDirectory(prefix="nearlight-onnx-") as scratch:
        copy = ModelProto()
        copy.CopyFrom(source)  # saving takes the weights away
        save_model(copy, Path(scratch) / "model.onnx")
        return onnxruntime.InferenceSession(str(Path(scratch) / "model.onnx"), options, providers=providers)


def open_runner(source: ModelProto | Path, given: str, threads: int = 0) -> Run:
    """A function from batches of the input `given` to vectors (B, D); `threads` 0 takes what ORT takes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = open_session(source, options)

    def run(batch: npt.NDArray[Any]) -> Vectors:
        vectors: Vectors = session.run([OUTPUT], {given: batch})[0]
        return vectors

    return run


def weights_by_name(model: ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    """Every weight as an array."""
    return {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
