"""What turns rows into vectors: the protocol, and ONNX Runtime behind it."""

import os
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import onnxruntime

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.log import get_logger

log = get_logger(__name__)

Provider = Literal["auto", "cpu", "cuda"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
# HEURISTIC: the default search re-measures every convolution for every new batch size.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
_FATAL = 4


class Encoder(Protocol):
    """A model's tower on a device. One thread calls it."""

    dim: int

    def encode(self, rows: Row) -> F32:
        """Unit vectors of a batch.

        Args:
            rows: (B, H, W, 3) uint8 or (B, L) int64.

        Returns:
            (B, dim) float32; row i depends on rows[i] alone.
        """
        ...


class OnnxEncoder:
    """One ONNX Runtime session.

    Args:
        path: the graph; its first input takes rows, its output gives vectors.
        dim: what the manifest promises.
        provider: "cuda" is an error where it does not load; "auto" then says so in the log and takes the CPU.
        threads: inside the session, on the CPU.

    Raises:
        BundleUnusable: the graph does not load, gives another dim, or the provider is not the one requested.
    """

    def __init__(self, path: Path, *, dim: int, provider: Provider, threads: int) -> None:
        self.dim = dim
        self.threads = threads
        self._session = _open_session(path, provider, threads)
        self.provider = str(self._session.get_providers()[0])
        self.shares_cores = self.provider == _CPU
        self._input = str(self._session.get_inputs()[0].name)
        self._output = str(self._session.get_outputs()[0].name)
        shape = self._session.get_outputs()[0].shape
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != dim):
            raise BundleUnusable(f"{path} gives vectors of shape {shape}; the manifest says dim {dim}")

    def encode(self, rows: Row) -> F32:
        """Unit vectors of a batch, see `Encoder.encode`."""
        vectors: F32 = self._session.run([self._output], {self._input: rows})[0]  # (B, D)
        return vectors


def _open_session(path: Path, provider: Provider, threads: int) -> onnxruntime.InferenceSession:
    """A session on the provider asked for, verified: ONNX Runtime falls back to the CPU without an error."""
    if provider == "cpu" or (provider == "auto" and not _has_cuda_device()):
        return _load(path, [_CPU], threads)
    session = _load(path, [(_CUDA, _CUDA_OPTIONS), _CPU], threads)
    if session.get_providers()[0] != _CUDA:
        if provider == "cuda":
            raise BundleUnusable(
                f"provider is cuda, but ONNX Runtime loaded {path.name} on {session.get_providers()[0]}: "
                "is there a GPU, and are CUDA and cuDNN installed?"
            )
        log.warning(
            "a CUDA device is here but ONNX Runtime cannot use it; serving from the CPU", graph=path.name
        )
        return _load(path, [_CPU], threads)
    return session


def _has_cuda_device() -> bool:
    return os.path.exists("/dev/nvidiactl") and _CUDA in onnxruntime.get_available_providers()


def _load(path: Path, providers: list[object], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Idle workers of one session would spin on the cores that the other session and the decoders need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has no common class for its errors
        raise BundleUnusable(f"ONNX Runtime cannot load {path}: {error}") from error


def warm_up(encoder: Encoder, shapes: list[tuple[int, ...]], dtype: type[np.uint8] | type[np.int64]) -> None:
    """Run each batch shape once, so that no caller pays for the first.

    Raises:
        BundleUnusable: the engine fails, or answers with another shape or with numbers that are not finite.
    """
    for shape in shapes:
        try:
            vectors = encoder.encode(np.ones(shape, dtype))
        except Exception as error:
            raise BundleUnusable(f"the engine failed on rows of shape {shape}: {error}") from error
        if vectors.shape != (shape[0], encoder.dim) or not np.isfinite(vectors).all():
            raise BundleUnusable(
                f"the engine answered rows of shape {shape} with {vectors.shape}, expected finite "
                f"{(shape[0], encoder.dim)}"
            )
