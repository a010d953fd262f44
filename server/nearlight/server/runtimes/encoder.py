"""What every runtime gives: rows in, unit vectors out, and the truth about what runs them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable

RuntimeName = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
RowType = type[np.uint8] | type[np.int64]


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


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What runs an encoder, as found after loading, not as asked for.

    Args:
        provider: such as "CPUExecutionProvider" or "OpenVINO".
        device: such as "cpu" or "cuda:0".
        version: library and version.
        precision: of the arithmetic.
        threads: inside one run.
    """

    provider: str
    device: str
    version: str
    precision: Precision
    threads: int

    @property
    def shares_cores(self) -> bool:
        """Whether it runs on the cores that prepare rows."""
        return self.device == "cpu"


class Engine(Encoder, Protocol):
    """An encoder that says what it runs on."""

    facts: EngineFacts


@dataclass(frozen=True, slots=True)
class Graph:
    """A tower's graph and the rows that it will be given.

    Args:
        path: ONNX; one input, one output.
        dim: of its vectors, as the manifest promises.
        dtype: of its rows.
        row_shapes: every shape that a row may have: (H, W, 3), or (L,) for each text length in use.
    """

    path: Path
    dim: int
    dtype: RowType
    row_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """One way to run a graph on the CPU.

    Args:
        runtime: the library.
        precision: of the arithmetic. int8: matrices stored as int8 with a scale for each output, rows of
            activations quantised one by one as they come, so that no row feels its batch mates.
        threads: inside one run, at least 1.
    """

    runtime: RuntimeName
    precision: Precision
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


def check_dim(path: Path, shape: list[object], dim: int) -> None:
    """Refuse a graph whose vectors are not what the manifest promises.

    Args:
        path: of the graph, for the message.
        shape: of its output; a name or None stands for a size that may vary.
        dim: promised.

    Raises:
        BundleUnusable: another number of dimensions, or another length.
    """
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != dim):
        raise BundleUnusable(f"{path} gives vectors of shape {shape}; the manifest says dim {dim}")


def warm_up(encoder: Encoder, shapes: list[tuple[int, ...]], dtype: RowType) -> None:
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
