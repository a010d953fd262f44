"""From a model to a proven bundle: graphs, parity, manifest, card, and only then a folder."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import onnxruntime
import torch

from nearlight.bundle.folder import MODEL_CARD, Bundle, refuse_existing, write_bundle
from nearlight.bundle.golden import GOLDEN, PROBE_TEXTS, Golden, probe_pixels, run_graph
from nearlight.bundle.manifest import Manifest, Towers
from nearlight.bundle.text import Tokenizer
from nearlight.export.card import model_card
from nearlight.export.graphs import image_graph, text_graph
from nearlight.export.onnx_writer import OPSET, Input, write_onnx
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.parity import MIN_COSINE, prove_images, prove_texts
from nearlight.export.run_source import open_run
from nearlight.export.samples import gather
from nearlight.export.subject import Subject

Precision = Literal["fp32", "fp16"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a user may choose.

    Attributes:
        name: Name of the bundle; None takes the source's.
        data: A source of images and texts to prove parity on; None takes the run's own, else generated ones.
        force: Replace a bundle that is already there.
        licence: Licence of the weights.
        description: One sentence for the manifest and the card.
        notes: Markdown for the model card.
    """

    name: str | None = None
    data: str | None = None
    force: bool = False
    licence: str = ""
    description: str = ""
    notes: str = ""


_DEFAULTS = ExportOptions()


def export_run(
    run: Path, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Export the last checkpoint of a training run; see `export_subject`."""
    refuse_existing(out, options.force)
    _log.info("loading %s", run)
    return export_subject(open_run(run), out, precision, options)


def export_open_clip(
    arch: str, weights: str, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Export an open_clip architecture with weights from a local file, or `random`; see `export_subject`."""
    refuse_existing(out, options.force)
    _log.info("loading open_clip:%s:%s", arch, weights)
    return export_subject(open_open_clip(arch, weights), out, precision, options)


def export_subject(
    subject: Subject, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Write the bundle of a model to `out`, after its parity is proven; on any error nothing is left behind.

    Args:
        subject: The model.
        out: The bundle's folder.
        precision: How weights are stored. `fp16` halves the files; arithmetic stays float32.
        options: What else a user may choose.

    Raises:
        BundleExists: `out` is there already.
        GraphError: The model does not become a graph of varying batch size.
        ParityError: The graphs' vectors are not the model's.
        SourceError: `options.data` cannot be read.
    """
    refuse_existing(out, options.force)
    samples = gather(options.data, subject.data, subject.image.preprocess)
    dim = _dim(subject)
    half = precision == "fp16"
    limit = MIN_COSINE[precision]
    _log.info("writing the image graph, %d numbers a vector", dim)
    image_onnx = write_onnx(image_graph(subject), _image_input(subject), dim, half=half)
    _log.info("proving it on %s", samples.origin)
    image_parity = prove_images(subject, image_onnx, samples, limit)
    _log.info("writing the text graph")
    text_onnx = write_onnx(text_graph(subject), _text_input(subject), dim, half=half)
    _log.info("proving it on %s", samples.origin)
    text_parity = prove_texts(subject, text_onnx, samples, limit)
    manifest = Manifest(
        name=options.name or subject.name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        licence=options.licence,
        description=options.description,
        dim=dim,
        towers=Towers(image=subject.image, text=subject.text),
        scoring=subject.scoring,
        precision=precision,
        opset=OPSET,
        training=dict(subject.training),
        metrics=dict(subject.metrics),
        parity={
            "data": samples.origin,
            "runtime": f"onnxruntime {onnxruntime.__version__}, CPU",
            "min_cosine_allowed": limit,
            "image": image_parity,
            "text": text_parity,
        },
        golden=GOLDEN,
    )
    command = f"nearlight export {subject.made_with} --precision {precision}"
    files = {
        subject.image.file: image_onnx,
        subject.text.file: text_onnx,
        subject.text.tokenizer_file: subject.tokenizer_json.encode(),
        GOLDEN: _golden(subject, image_onnx, text_onnx).to_npz(),
        MODEL_CARD: model_card(manifest, command, options.notes).encode(),
    }
    return write_bundle(out, manifest, files, force=options.force)


def _golden(subject: Subject, image_onnx: bytes, text_onnx: bytes) -> Golden:
    """Fixed inputs with the vectors of graphs that have just been proven."""
    pixels = probe_pixels(subject.image.preprocess.size_px)  # (N, S, S, 3)
    tokens = Tokenizer.load(subject.tokenizer_json, subject.text).encode(PROBE_TEXTS)  # (M, L)
    return Golden(pixels, run_graph(image_onnx, pixels), PROBE_TEXTS, tokens, run_graph(text_onnx, tokens))


def _image_input(subject: Subject) -> Input:
    side = subject.image.preprocess.size_px
    return Input("pixels", torch.zeros((2, side, side, 3), dtype=torch.uint8), {0: "batch"})


def _text_input(subject: Subject) -> Input:
    tower = subject.text
    length = max(2, tower.context_length // 2) if tower.trimmable else tower.context_length
    example = torch.zeros((3, length), dtype=torch.int64)
    example[:, -1] = tower.eot_id or 0
    return Input("tokens", example, {0: "batch", 1: "length"} if tower.trimmable else {0: "batch"})


def _dim(subject: Subject) -> int:
    with torch.inference_mode():
        return int(image_graph(subject)(_image_input(subject).example).shape[1])
