"""Both towers of a subject: written, stored in a precision, and proven beside the model itself."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from onnx import ModelProto
from pydantic import JsonValue

from nearlight.bundle.manifest import Truncation
from nearlight.bundle.text import Tokenizer
from nearlight.export.candidates import Batches, DriftTarget, int8_tower
from nearlight.export.errors import SourceError
from nearlight.export.onnx_file import save_model
from nearlight.export.onnx_writer import dim_and_opset, with_half_weights
from nearlight.export.parity import MIN_COSINE, Proof, prove_images, prove_texts, prove_uses
from nearlight.export.retrieval import recall_of_pairs, shortened, truncation_recall
from nearlight.export.samples import Samples
from nearlight.export.subject import Subject

Precision = Literal["fp32", "fp16", "int8"]

_CALIBRATED = 16  # inputs a batch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Demands:
    """What a bundle must be like.

    Attributes:
        precision: `fp16` stores weights in halves; `int8` does matrix products in 8 bits.
        drift: How far int8 may be from float32.
        dims: Shorter lengths of vectors to try.
        min_recall: Share of the whole vectors' recall@10 that a shorter length must keep to be allowed.
    """

    precision: Precision = "fp32"
    drift: DriftTarget = DriftTarget()
    dims: Sequence[int] = ()
    min_recall: float = 0.97

    def __post_init__(self) -> None:
        if not 0 <= self.min_recall <= 1:
            raise ValueError(f"min_recall is {self.min_recall}; it must be 0 to 1")
        if any(dim < 1 for dim in self.dims):
            raise ValueError(f"dims are {', '.join(map(str, self.dims))}; each must be at least 1")

    @property
    def min_cosine(self) -> float:
        """What every proven input must keep."""
        return self.drift.min_cosine if self.precision == "int8" else MIN_COSINE[self.precision]

    def as_json(self) -> dict[str, JsonValue]:
        """What decides graphs and figures."""
        drift = f"{self.drift.min_cosine} {self.drift.min_overlap}" if self.precision == "int8" else None
        return {
            "precision": self.precision,
            "drift": drift,
            "dims": [*self.dims],
            "min_recall": self.min_recall if self.dims else None,
        }


@dataclass(slots=True)
class Proven:
    """The graphs, in a scratch folder, and what was found.

    Attributes:
        files: By their names in the bundle.
        weights_files: By tower, where a tower is too large for one file.
        dim: Length of a vector.
        opset: Version of the operators.
        parity: For the manifest.
        truncations: For the manifest.
    """

    files: dict[str, Path] = field(default_factory=dict)
    weights_files: dict[str, str] = field(default_factory=dict)
    dim: int = 0
    opset: int = 0
    parity: dict[str, JsonValue] = field(default_factory=dict)
    truncations: tuple[Truncation, ...] = ()


def prove(subject: Subject, samples: Samples, demands: Demands, scratch: Path) -> Proven:
    """Write and prove the towers.

    Raises:
        GraphError: The model does not become a graph of varying batch size.
        ParityError: The graphs' vectors are not the model's, or int8 cannot keep to the target.
        SourceError: A length to try is not below the model's.
    """
    done = Proven(
        parity={
            "data": samples.origin,
            "runtime": f"onnxruntime {onnxruntime.__version__}, CPU",
            "min_cosine_allowed": demands.min_cosine,
        }
    )
    starts = range(0, len(samples.pixels), _CALIBRATED)
    pixels = [samples.pixels[start : start + _CALIBRATED] for start in starts]
    file, report = _written(done, subject.image.file, subject, pixels, demands, scratch)
    _refuse_lengths(demands.dims, done.dim)
    _log.info("proving it on %s", samples.origin)
    image = prove_images(subject, file, samples, demands.min_cosine)
    done.parity["image"] = {**image.figures, **report}
    text = None
    if subject.text is not None and subject.tokenizer_json is not None:
        tokenizer = Tokenizer.load(subject.tokenizer_json, subject.text)
        starts = range(0, len(samples.texts), _CALIBRATED)
        tokens = [tokenizer.encode(samples.texts[start : start + _CALIBRATED], trim=True) for start in starts]
        file, report = _written(done, subject.text.file, subject, tokens, demands, scratch)
        _log.info("proving it on %s", samples.origin)
        text = prove_texts(subject, file, samples, demands.min_cosine)
        done.parity["text"] = {**text.figures, **report}
    done.parity["uses"] = prove_uses(image, text)
    done.truncations = _truncations(image, text, samples, demands)
    return done


def _written(
    done: Proven, name: str, subject: Subject, batches: Batches, demands: Demands, scratch: Path
) -> tuple[Path, dict[str, JsonValue]]:
    """The file of a tower in the precision asked for, and what int8 has to report."""
    tower = "image" if name == subject.image.file else "text"
    _log.info("writing the %s graph", tower)
    model = subject.encoders.image_onnx() if tower == "image" else subject.encoders.text_onnx()
    stored, report = _stored(model, tower, batches, demands)
    if tower == "image":
        done.dim, done.opset = dim_and_opset(stored)
    done.files[name] = scratch / name
    weights = save_model(stored, scratch / name)
    if weights is not None:
        done.files[weights.name] = weights
        done.weights_files[tower] = weights.name
    return scratch / name, report


def _stored(
    model: ModelProto, tower: str, batches: Batches, demands: Demands
) -> tuple[ModelProto, dict[str, JsonValue]]:
    match demands.precision:
        case "fp32":
            return model, {}
        case "fp16":
            return with_half_weights(model), {}
        case "int8":
            given = "pixels" if tower == "image" else "tokens"
            graph, report = int8_tower(tower, model, given, batches, demands.drift)
            return graph, {"int8": report}


def _refuse_lengths(dims: Sequence[int], dim: int) -> None:
    for asked in dims:
        if asked >= dim:
            raise SourceError(f"--dims names {asked}; it must be below {dim}, the model's own")


def _truncations(
    image: Proof, text: Proof | None, samples: Samples, demands: Demands
) -> tuple[Truncation, ...]:
    """Each shorter length with its recall, by captions and their images where there are any."""
    pairs: Any = np.array(samples.pairs, dtype=np.int64)
    tried = []
    for dim in sorted(set(demands.dims)):
        if text is not None and (pairs >= 0).any():
            captions, wanted = text.found[pairs >= 0], pairs[pairs >= 0]
            whole = recall_of_pairs(captions, image.found, wanted)
            found = recall_of_pairs(shortened(captions, dim), shortened(image.found, dim), wanted)
        else:
            queries, items = (image.found, None) if text is None else (text.found, image.found)
            whole, found = 1.0, truncation_recall(queries, items, dim)
        holds = found >= demands.min_recall * whole
        _log.info(
            "%d numbers: recall@10 %.4f of %.4f, %s", dim, found, whole, "holds" if holds else "too low"
        )
        tried.append(
            Truncation(dim=dim, recall_at_10=round(found, 5), whole_recall_at_10=round(whole, 5), holds=holds)
        )
    return tuple(tried)
