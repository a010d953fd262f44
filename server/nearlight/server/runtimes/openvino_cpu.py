"""OpenVINO on the CPU: bf16 where the processor multiplies it, and int8 whose rows stay independent."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.encoder import EngineFacts, Precision, check_dim

_INT8_MAX = 127
# Group sizes that the plugin takes are multiples of a vector register's width.
_LEAST_GROUP = 32

Made = TypeVar("Made")


def is_installed() -> bool:
    """Whether the extra `openvino` is."""
    return find_spec("openvino") is not None


def precisions() -> list[Precision]:
    """What this processor can do under OpenVINO; empty where it is not installed."""
    if not is_installed():
        return []
    import openvino

    able = _apart(lambda: openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return ["fp32", *(["bf16"] if "BF16" in able else []), *(["int8"] if "INT8" in able else [])]  # type: ignore[list-item]


class OpenVinoEncoder:
    """One compiled model and one request of OpenVINO.

    Args:
        path: the ONNX graph.
        dim: what the manifest promises.
        threads: inside one run.
        precision: of the arithmetic; "int8" is for the matrices, the rest is fp32 for texts, bf16 for images.

    Raises:
        BundleUnusable: OpenVINO is not installed, or refuses the graph, the dim or the precision.
    """

    def __init__(self, path: Path, *, dim: int, threads: int, precision: Precision) -> None:
        self.dim = dim
        able = precisions()
        if precision not in able:
            raise BundleUnusable(_cannot(precision, able))
        import openvino

        def compiled_model() -> Any:
            core = openvino.Core()
            model = core.read_model(path)
            group = _quantise_matrices(model) if precision == "int8" else 0
            settings = _settings(_rest(model, precision, able), threads, group)
            return core.compile_model(model, "CPU", settings)

        try:
            compiled = _apart(compiled_model)
        except Exception as error:  # OpenVINO raises RuntimeError with a page of its own source
            raise BundleUnusable(f"OpenVINO cannot load {path}: {str(error).strip()[-300:]}") from error
        shape = [len_.get_length() if len_.is_static else None for len_ in compiled.output(0).partial_shape]
        check_dim(path, shape, dim)
        self._request = compiled.create_infer_request()
        self.facts = EngineFacts(
            provider="OpenVINO",
            device="cpu",
            version=f"openvino {openvino.__version__.split('-')[0]}",
            precision=precision,
            threads=threads,
        )

    def encode(self, rows: Row) -> F32:
        """Unit vectors of a batch, see `Encoder.encode`."""
        found = self._request.infer({0: np.ascontiguousarray(rows)}, share_inputs=True, share_outputs=True)
        # A copy: the output is the request's own memory, which the next run will overwrite.
        vectors: F32 = np.array(found[0], np.float32)  # (B, D)
        return vectors


def _apart(make: Callable[[], Made]) -> Made:
    """Make something of OpenVINO's in a thread that ends with it.

    The CPU plugin gives the thread that loads it a stack for signals, and frees that stack with the last
    model, in whichever thread that is. Had the first been the main thread, it would have no place left to
    handle a signal on: a Ctrl-C, or a SIGTERM, would crash the process (seen with 2026.4).
    """
    with ThreadPoolExecutor(1, thread_name_prefix="openvino loads") as pool:
        return pool.submit(make).result()


def _cannot(precision: Precision, able: list[Precision]) -> str:
    if not able:
        return "runtime is openvino, which is not installed: pip install 'nearlight[openvino]'"
    return f"precision is {precision}; OpenVINO on this processor can do {', '.join(able)}"


def _rest(model: Any, precision: Precision, able: list[Precision]) -> str:
    """The arithmetic of all that int8 leaves, and of whole graphs in other precisions.

    Between the 8-bit products texts stay in float32: their vectors lie so near to each other that bf16 there
    changes neighbours that the 8 bits leave. That costs texts of ViT-B/32 a twentieth of the processor time;
    images would lose a fifth for nothing.
    """
    takes_tokens = model.input(0).get_element_type().to_string() == "i64"
    exact = precision == "fp32" or "bf16" not in able or (precision == "int8" and takes_tokens)
    return "f32" if exact else "bf16"


def _settings(rest: str, threads: int, group: int) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": rest,
        "INFERENCE_NUM_THREADS": str(threads),
        # One batch at a time, by all threads: the batcher makes the batches.
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        # Decoders and a second model share these cores.
        "ENABLE_CPU_PINNING": "NO",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group),
    }


def _quantise_matrices(model: Any) -> int:
    """Store every constant matrix as int8 with one scale for each of its outputs.

    OpenVINO then quantises activations as they come, in groups of so many numbers of one row: unlike a scale
    for the whole batch, no row's result depends on its neighbours.

    Returns:
        Size of a group; it divides every row.
    """
    from openvino import opset13

    group = 0
    for node in model.get_ordered_ops():
        matrix = _constant_matrix(node)
        if matrix is None:
            continue
        inner = 1 if node.get_attributes()["transpose_b"] else 0
        scale = np.abs(matrix).max(axis=inner, keepdims=True) / _INT8_MAX
        scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
        stored = np.clip(np.round(matrix / scale), -_INT8_MAX, _INT8_MAX).astype(np.int8)
        numbers = opset13.convert(opset13.constant(stored), "f32")
        node.input(1).replace_source_output(opset13.multiply(numbers, opset13.constant(scale)).output(0))
        group = math.gcd(group, matrix.shape[inner])
    return max(group, _LEAST_GROUP)


def _constant_matrix(node: Any) -> Any:
    """The constant (K, N) or (N, K) that a product multiplies by, in float32, or None."""
    if node.get_type_name() != "MatMul":
        return None
    source = node.input_value(1).get_node()
    if source.get_type_name() == "Convert":  # half-precision weights of an fp16 bundle
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or len(source.get_output_shape(0)) != 2:
        return None
    return np.asarray(source.data, np.float32)
