"""ONNX Runtime on CUDA or TensorRT: fixed batch sizes, buffers made once, a CUDA graph for each size.

Rows are padded to the next of a few batch sizes ("buckets"). Each bucket owns its input and output on the
device, at addresses that never change: that spares the allocations of every run, and it is what replaying a
captured graph needs. ONNX Runtime keeps captured graphs per thread and captures by itself: the engine's
thread does so on its first run of each bucket.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.log import get_logger
from nearlight.server.runtimes.encoder import EngineFacts, Graph, check_dim
from nearlight.server.runtimes.onnx_cpu import CPU, load_session

log = get_logger(__name__)

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
MIB = 1024 * 1024

GpuProvider = Literal["cuda", "tensorrt"]


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How a GPU is used.

    Args:
        provider: "tensorrt" builds engines with TensorRT; what it cannot run stays on CUDA.
        device: index of the GPU.
        memory_mib: most device memory of one session's arena; 0: as much as there is.
        graphs: capture a CUDA graph for each bucket.
        tf32: multiply in TF32 where the hardware can: faster, 10 bits of mantissa.
        cache: folder of TensorRT's engines, which take minutes to build; None: build at every start.
    """

    provider: GpuProvider = "cuda"
    device: int = 0
    memory_mib: int = 0
    graphs: bool = True
    tf32: bool = False
    cache: Path | None = None


class BoundEncoder:
    """A session whose inputs and outputs are bound to buffers made beforehand, one pair for each bucket.

    Args:
        session: loaded, on whichever provider.
        graph: what it computes, and the shapes of its rows.
        max_batch: most rows of one call; the largest bucket.
        facts: what it runs on.
        device: where buffers lie: "cuda" or "cpu".
        device_id: index of it.
        graphs: each bucket has an id under which ONNX Runtime captures and replays a CUDA graph.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        graph: Graph,
        *,
        max_batch: int,
        facts: EngineFacts,
        device: str,
        device_id: int = 0,
        graphs: bool = False,
    ) -> None:
        self.dim = graph.dim
        self.facts = facts
        self.sizes = bucket_sizes(max_batch)
        keys = [(size, *row) for row in graph.row_shapes for size in self.sizes]
        self._buckets = {
            shape: _Bucket(session, shape, graph, device, device_id, number if graphs else None)
            for number, shape in enumerate(keys, start=1)
        }

    def encode(self, rows: Row) -> F32:
        """Unit vectors of a batch, see `Encoder.encode`; rows beyond the largest bucket go in parts."""
        largest = self.sizes[-1]
        if len(rows) > largest:
            return np.concatenate(
                [self.encode(rows[start : start + largest]) for start in range(0, len(rows), largest)]
            )
        size = next(size for size in self.sizes if size >= len(rows))
        bucket = self._buckets.get((size, *rows.shape[1:]))
        if bucket is None:
            raise ValueError(f"rows of shape {rows.shape[1:]} are none of those this encoder was made for")
        return bucket.run(rows)


class _Bucket:
    """The buffers of one batch shape, and the binding that joins them to the session."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, ...],
        graph: Graph,
        device: str,
        device_id: int,
        graph_id: int | None,
    ) -> None:
        self._session = session
        self._host: Any = np.zeros(shape, graph.dtype)  # (size, …): what pads a batch stays in it
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._input = make(list(shape), graph.dtype, device, device_id)
        self._output = make([shape[0], graph.dim], np.float32, device, device_id)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._output)
        self._options = onnxruntime.RunOptions()
        if graph_id is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def run(self, rows: Row) -> F32:
        count = len(rows)
        self._host[:count] = rows
        self._input.update_inplace(self._host)
        self._session.run_with_iobinding(self._binding, self._options)
        # A copy: on the CPU `numpy` shows the buffer itself, which the next run will overwrite.
        vectors: F32 = np.array(self._output.numpy()[:count])  # (B, D)
        return vectors


def bucket_sizes(max_batch: int) -> list[int]:
    """The batch sizes in use, ascending: powers of two below `max_batch`, and itself."""
    return [*(1 << power for power in range(max_batch.bit_length()) if 1 << power < max_batch), max_batch]


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA device and ONNX Runtime was built for it."""
    return os.path.exists("/dev/nvidiactl") and CUDA in onnxruntime.get_available_providers()


def open_gpu(graph: Graph, options: GpuOptions, *, max_batch: int) -> BoundEncoder:
    """An encoder on the GPU, with the provider verified: ONNX Runtime falls back to the CPU without an error.

    Raises:
        BundleUnusable: the graph does not load, gives another dim, or the GPU cannot be used.
    """
    session, graphs = _open_session(graph, options, max_batch)
    wanted = TENSORRT if options.provider == "tensorrt" else CUDA
    found = str(session.get_providers()[0])
    if found != wanted:
        raise BundleUnusable(
            f"provider is {options.provider}, but ONNX Runtime loaded {graph.path.name} on {found}: is there "
            f"a GPU, and are CUDA and cuDNN{' and TensorRT' if wanted == TENSORRT else ''} installed?"
        )
    check_dim(graph.path, session.get_outputs()[0].shape, graph.dim)
    # One stream per session: more threads on it would only wait for each other.
    facts = EngineFacts(
        provider=found,
        device=f"cuda:{options.device}",
        version=f"onnxruntime {onnxruntime.__version__}",
        precision="fp32",
        threads=1,
    )
    return BoundEncoder(
        session,
        graph,
        max_batch=max_batch,
        facts=facts,
        device="cuda",
        device_id=options.device,
        graphs=graphs,
    )


def _open_session(
    graph: Graph, options: GpuOptions, max_batch: int
) -> tuple[onnxruntime.InferenceSession, bool]:
    """A session, and whether it captures graphs: a model with a node left on the CPU cannot."""
    if not options.graphs:
        return _load(graph, options, max_batch), False
    try:
        return _load(graph, options, max_batch), True
    except BundleUnusable as error:
        log.warning("no CUDA graphs for this model", graph=graph.path.name, reason=str(error))
        plain = GpuOptions(
            options.provider, options.device, options.memory_mib, False, options.tf32, options.cache
        )
        return _load(graph, plain, max_batch), False


def _load(graph: Graph, options: GpuOptions, max_batch: int) -> onnxruntime.InferenceSession:
    providers = gpu_providers(graph, options, max_batch)
    return load_session(graph.path, providers, threads=1)


def gpu_providers(graph: Graph, options: GpuOptions, max_batch: int) -> Sequence[object]:
    """The provider list of ONNX Runtime: what was asked for first, then what takes the nodes it leaves."""
    cuda: dict[str, str] = {
        "device_id": str(options.device),
        # The default search measures every convolution anew for every batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "use_tf32": "1" if options.tf32 else "0",
    }
    if options.memory_mib:
        cuda["gpu_mem_limit"] = str(options.memory_mib * MIB)
    if options.provider == "cuda":
        cuda["enable_cuda_graph"] = "1" if options.graphs else "0"
        return [(CUDA, cuda), CPU]
    tensorrt = {
        "device_id": str(options.device),
        "trt_cuda_graph_enable": "1" if options.graphs else "0",
        **_tensorrt_shapes(graph, max_batch),
    }
    if options.memory_mib:
        tensorrt["trt_max_workspace_size"] = str(options.memory_mib * MIB)
    if options.cache:
        tensorrt |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(options.cache),
            "trt_timing_cache_enable": "1",
        }
    return [(TENSORRT, tensorrt), (CUDA, cuda), CPU]


def _tensorrt_shapes(graph: Graph, max_batch: int) -> dict[str, str]:
    """One engine for all shapes, best at the largest: else every new shape builds one, for minutes."""
    name = "pixels" if graph.dtype is np.uint8 else "tokens"
    least, most = (1, *min(graph.row_shapes)), (max_batch, *max(graph.row_shapes))

    def words(shape: tuple[int, ...]) -> str:
        return f"{name}:{'x'.join(map(str, shape))}"

    return {
        "trt_profile_min_shapes": words(least),
        "trt_profile_opt_shapes": words(most),
        "trt_profile_max_shapes": words(most),
    }
