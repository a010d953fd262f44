"""Proof that the vectors of the ONNX graphs are those of the model.

The reference is the model's own code in full: channels scaled as torchvision does it, texts padded to the
whole context length. The graphs run as they are served: uint8 pixels, trimmed tokens, batches of any size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import JsonValue

from nearlight.bundle.text import Tokenizer, Tokens
from nearlight.export.errors import ParityError
from nearlight.export.samples import Samples
from nearlight.export.subject import Subject, Vectors

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999}
# Kernels may add in another order when a batch has another size: the last bits of float32, no more.
MAX_BATCH_ERROR = 1e-5

_BATCH = 32
_ALONE = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near the found unit vectors are to the expected ones."""

    count: int
    min_cosine: float
    mean_cosine: float
    max_abs_error: float


def agreement(expected: Vectors, found: Vectors) -> Agreement:
    """Compare unit vectors (N, D) row by row; a row that is not finite has cosine -1."""
    cosines = (expected.astype(np.float64) * found).sum(axis=1)  # (N,)
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    error = np.abs(expected - found).max()
    return Agreement(
        count=len(expected),
        min_cosine=float(min(cosines.min(), 1.0)),
        mean_cosine=float(min(cosines.mean(), 1.0)),
        max_abs_error=float(error) if np.isfinite(error) else 1e30,
    )


def prove_images(subject: Subject, image_onnx: bytes, samples: Samples, limit: float) -> dict[str, JsonValue]:
    """Compare the image graph with the model; the figures for the manifest.

    Raises:
        ParityError: The least cosine is below `limit`, or a vector depends on its batch mates.
    """
    pixels = samples.pixels
    expected = _embed(len(pixels), lambda start, stop: subject.encoders.embed_images(pixels[start:stop]))
    return _tower("image", _session(image_onnx, "pixels"), lambda a, b: pixels[a:b], expected, limit)


def prove_texts(subject: Subject, text_onnx: bytes, samples: Samples, limit: float) -> dict[str, JsonValue]:
    """Compare the text graph, fed with trimmed tokens, with the model, fed with whole contexts.

    Raises:
        ParityError: The least cosine is below `limit`, or a vector depends on its batch mates.
    """
    assert subject.text is not None
    assert subject.tokenizer_json is not None
    tokenizer = Tokenizer.load(subject.tokenizer_json, subject.text)
    rows = tokenizer.rows(samples.texts)
    embed = subject.encoders.embed_texts
    expected = _embed(len(rows), lambda start, stop: embed(tokenizer.pad(rows[start:stop])))

    def trimmed(start: int, stop: int) -> Tokens:
        return tokenizer.pad(rows[start:stop], trim=True)

    return _tower("text", _session(text_onnx, "tokens"), trimmed, expected, limit)


def _tower(
    name: str,
    run: Callable[[Any], Vectors],
    rows: Callable[[int, int], npt.NDArray[Any]],
    expected: Vectors,
    limit: float,
) -> dict[str, JsonValue]:
    found = _embed(len(expected), lambda start, stop: run(rows(start, stop)))
    near = agreement(expected, found)
    if not near.min_cosine >= limit:
        raise ParityError(
            f"{name} tower: the least cosine over {near.count} inputs is {near.min_cosine:.7f};"
            f" it must be at least {limit}"
        )
    alone = np.concatenate([run(rows(index, index + 1)) for index in range(min(_ALONE, len(expected)))])
    drift = float(np.abs(alone - found[: len(alone)]).max())
    if not drift <= MAX_BATCH_ERROR:
        raise ParityError(
            f"{name} tower: a vector changes by {drift:.2g} with its batch mates;"
            f" the limit is {MAX_BATCH_ERROR}"
        )
    return {
        "count": near.count,
        "min_cosine": round(near.min_cosine, 9),
        "mean_cosine": round(near.mean_cosine, 9),
        "max_abs_error": float(f"{near.max_abs_error:.3g}"),
        "max_batch_error": float(f"{drift:.3g}"),
    }


def _embed(count: int, batch: Callable[[int, int], Vectors]) -> Vectors:
    """Vectors (count, D) of batches whose sizes differ, the last one short."""
    parts: list[Vectors] = []
    start = 0
    while start < count:
        # 32, 31, 30, …: no size is trusted because another one works
        stop = min(count, start + max(1, _BATCH - len(parts) % _BATCH))
        parts.append(batch(start, stop))
        start = stop
    return np.concatenate(parts)


def _session(graph: bytes, name: str) -> Callable[[Any], Vectors]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def run(batch: npt.NDArray[Any]) -> Vectors:
        vectors: Vectors = session.run(["vectors"], {name: batch})[0]
        return vectors

    return run
