"""Proof that the vectors of the ONNX graphs are those of the model.

The reference is the model's own code in full: channels scaled as torchvision does it, texts padded to the
whole context length. The graphs run as they are served: uint8 pixels, trimmed tokens, batches of any size.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto
from pydantic import JsonValue

from nearlight.bundle.text import Tokenizer, Tokens
from nearlight.export.errors import ParityError
from nearlight.export.onnx_file import open_runner
from nearlight.export.progress import tell
from nearlight.export.retrieval import label_agreement, neighbour_overlap, retrieval_overlap
from nearlight.export.samples import Samples
from nearlight.export.subject import Subject, Vectors

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999}
# Kernels may add in another order when a batch has another size: the last bits of float32, no more.
MAX_BATCH_ERROR = 1e-5

LABEL_PROMPT = "a photo of a {}."

_BATCH = 32
_ALONE = 16

Graph = ModelProto | Path


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


@dataclass(frozen=True, slots=True)
class Timed:
    """Vectors (N, D), and the seconds that they took."""

    vectors: Vectors
    seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    """One tower's figures for the manifest, and the unit vectors (N, D) they are of.

    Attributes:
        figures: For the manifest.
        expected: The model's, of every input.
        found: The graph's.
        labels: The model's and the graph's of the samples' labels; None for images.
    """

    figures: dict[str, JsonValue]
    expected: Vectors
    found: Vectors
    labels: tuple[Vectors, Vectors] | None = None


def prove_images(subject: Subject, graph: Graph, samples: Samples, limit: float) -> Proof:
    """Compare the image graph with the model.

    Raises:
        ParityError: The least cosine is below `limit`, or a vector depends on its batch mates.
    """
    pixels = samples.pixels
    embed = subject.encoders.embed_images
    expected = _embed("images, original", len(pixels), lambda start, stop: embed(pixels[start:stop]))
    return _tower("image", open_runner(graph, "pixels"), lambda a, b: pixels[a:b], expected, limit)


def prove_texts(subject: Subject, graph: Graph, samples: Samples, limit: float) -> Proof:
    """Compare the text graph, fed with trimmed tokens, with the model, fed with whole contexts.

    Raises:
        ParityError: The least cosine is below `limit`, or a vector depends on its batch mates.
    """
    assert subject.text is not None
    assert subject.tokenizer_json is not None
    tokenizer = Tokenizer.load(subject.tokenizer_json, subject.text)
    embed, run = subject.encoders.embed_texts, open_runner(graph, "tokens")

    def both(rows: list[list[int]]) -> tuple[Timed, Callable[[int, int], Tokens]]:
        whole = _embed("texts, original", len(rows), lambda a, b: embed(tokenizer.pad(rows[a:b])))
        return whole, lambda start, stop: tokenizer.pad(rows[start:stop], trim=True)

    expected, trimmed = both(tokenizer.rows(samples.texts))
    proof = _tower("text", run, trimmed, expected, limit)
    label_rows = tokenizer.rows([LABEL_PROMPT.replace("{}", label) for label in samples.labels])
    expected, trimmed = both(label_rows)
    found = _embed("labels", len(label_rows), lambda a, b: run(trimmed(a, b)))
    return replace(proof, labels=(expected.vectors, found.vectors))


def prove_uses(image: Proof, text: Proof | None) -> dict[str, JsonValue]:
    """What the difference that is left does to search and labels: figures for the manifest."""
    near = {"image_neighbours_overlap_at_10": neighbour_overlap(image.expected, image.found)}
    if text is not None:
        near["text_to_image_overlap_at_10"] = retrieval_overlap(
            text.expected, image.expected, text.found, image.found
        )
        if text.labels is not None:
            near["zero_shot_agreement"] = label_agreement(
                image.expected, text.labels[0], image.found, text.labels[1]
            )
    return {name: round(value, 5) for name, value in near.items()}


def _tower(
    name: str,
    run: Callable[[Any], Vectors],
    rows: Callable[[int, int], npt.NDArray[Any]],
    reference: Timed,
    limit: float,
) -> Proof:
    expected = reference.vectors
    timed = _embed(f"{name}s, graph", len(expected), lambda start, stop: run(rows(start, stop)))
    found = timed.vectors
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
    figures: dict[str, JsonValue] = {
        "count": near.count,
        "min_cosine": round(near.min_cosine, 9),
        "mean_cosine": round(near.mean_cosine, 9),
        "max_abs_error": float(f"{near.max_abs_error:.3g}"),
        "max_batch_error": float(f"{drift:.3g}"),
        "rows_per_second": round(near.count / timed.seconds, 1),
        "speed_over_original": round(reference.seconds / timed.seconds, 2),
    }
    return Proof(figures, expected, found)


def _embed(what: str, count: int, batch: Callable[[int, int], Vectors]) -> Timed:
    """Vectors (count, D) of batches whose sizes differ, the last one short."""
    parts: list[Vectors] = []
    start = 0
    began = time.perf_counter()
    while start < count:
        # 32, 31, 30, …: no size is trusted because another one works
        stop = min(count, start + max(1, _BATCH - len(parts) % _BATCH))
        parts.append(batch(start, stop))
        start = stop
        tell(what, start, count)
    return Timed(np.concatenate(parts), max(time.perf_counter() - began, 1e-9))
