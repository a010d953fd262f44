"""ONNX Runtime on the CPU: float32, the reference for every other runtime."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.encoder import EngineFacts, check_dim

CPU = "CPUExecutionProvider"
_FATAL = 4

SessionConfig = Sequence[tuple[str, str]]


class OnnxEncoder:
    """One session of ONNX Runtime on the CPU.

    Args:
        path: the graph; its first input takes rows, its output gives vectors.
        dim: what the manifest promises.
        threads: inside one run.
        arena: keep freed memory for the next run: faster, but it stays at the height of the largest batch.

    Raises:
        BundleUnusable: the graph does not load, or gives another dim.
    """

    def __init__(self, path: Path, *, dim: int, threads: int, arena: bool = True) -> None:
        self.dim = dim
        self._session = load_session(path, [CPU], threads=threads, arena=arena)
        self._input = str(self._session.get_inputs()[0].name)
        self._output = str(self._session.get_outputs()[0].name)
        check_dim(path, self._session.get_outputs()[0].shape, dim)
        self.facts = EngineFacts(
            provider=str(self._session.get_providers()[0]),
            device="cpu",
            version=f"onnxruntime {onnxruntime.__version__}",
            precision="fp32",
            threads=threads,
        )

    def encode(self, rows: Row) -> F32:
        """Unit vectors of a batch, see `Encoder.encode`."""
        vectors: F32 = self._session.run([self._output], {self._input: rows})[0]  # (B, D)
        return vectors


def load_session(
    path: Path, providers: Sequence[object], *, threads: int, arena: bool = True, config: SessionConfig = ()
) -> onnxruntime.InferenceSession:
    """A session; which provider it got is for the caller to look at.

    Args:
        path: the graph.
        providers: in order of preference.
        threads: inside one run, on the CPU.
        arena: see `OnnxEncoder`.
        config: further session options.

    Raises:
        BundleUnusable: ONNX Runtime refuses.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = _FATAL
    # Idle workers of one session would spin on the cores that the other session and the decoders need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in config:
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime has no common class for its errors
        raise BundleUnusable(f"ONNX Runtime cannot load {path}: {error}") from error
