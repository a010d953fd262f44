"""From a model to a proven bundle: graphs, parity, manifest, card, and only then a folder."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import onnxruntime
from pydantic import JsonValue

from nearlight.bundle.folder import MODEL_CARD, Bundle, refuse_existing, write_bundle
from nearlight.bundle.golden import GOLDEN, PROBE_TEXTS, Golden, probe_pixels, run_graph
from nearlight.bundle.manifest import Manifest, Towers
from nearlight.bundle.text import Tokenizer
from nearlight.export.candidates import Batches, DriftTarget, int8_tower
from nearlight.export.card import model_card
from nearlight.export.choice import Choice
from nearlight.export.onnx_writer import dim_and_opset, with_half_weights
from nearlight.export.parity import MIN_COSINE, prove_images, prove_texts
from nearlight.export.samples import Samples, gather
from nearlight.export.source import open_subject
from nearlight.export.subject import Subject
from nearlight.export.weights_file import refuse_place, save_weights

Precision = Literal["fp32", "fp16", "int8"]

_CALIBRATED = 16  # inputs a batch

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
        drift: How far int8 may be from float32.
        weights: A .safetensors file to write the encoder's weights to as well.
    """

    name: str | None = None
    data: str | None = None
    force: bool = False
    licence: str = ""
    description: str = ""
    notes: str = ""
    drift: DriftTarget = DriftTarget()
    weights: Path | None = None


_DEFAULTS = ExportOptions()


def export_source(
    source: str,
    out: Path,
    precision: Precision = "fp32",
    options: ExportOptions = _DEFAULTS,
    choice: Choice | None = None,
) -> Bundle:
    """Export what a SOURCE names (see `nearlight.export.source`); see `export_subject`."""
    refuse_existing(out, options.force)
    if options.weights is not None:
        refuse_place(options.weights)
    _log.info("loading %s", source)
    subject = open_subject(source, choice or Choice())
    bundle = export_subject(subject, out, precision, options)
    if options.weights is not None:
        save_weights(subject, options.weights)
    return bundle


def export_run(
    run: Path, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Export the last checkpoint of a training run; see `export_subject`."""
    return export_source(str(run), out, precision, options)


def export_open_clip(
    arch: str, weights: str, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Export an open_clip model; see `open_open_clip` and `export_subject`."""
    return export_source(f"open_clip:{arch}:{weights}", out, precision, options)


def export_subject(
    subject: Subject, out: Path, precision: Precision = "fp32", options: ExportOptions = _DEFAULTS
) -> Bundle:
    """Write the bundle of a model to `out`, after its parity is proven; on any error nothing is left behind.

    Args:
        subject: The model.
        out: The bundle's folder.
        precision: `fp16` stores weights in halves; arithmetic stays float32. `int8` does matrix products in 8
            bits, calibrated on `options.data`, as far as `options.drift` allows.
        options: What else a user may choose.

    Raises:
        BundleExists: `out` is there already.
        GraphError: The model does not become a graph of varying batch size.
        ParityError: The graphs' vectors are not the model's, or int8 cannot keep to the target.
        SourceError: `options.data` cannot be read.
    """
    refuse_existing(out, options.force)
    samples = gather(options.data, subject.data, subject.image.preprocess)
    if precision == "int8" and options.data is None and not subject.data:
        _log.warning("int8 is calibrated on generated images; give your own with --data")
    graphs, proofs = _proven(subject, samples, precision, options.drift)
    parity: dict[str, JsonValue] = {
        "data": samples.origin,
        "runtime": f"onnxruntime {onnxruntime.__version__}, CPU",
        "min_cosine_allowed": options.drift.min_cosine if precision == "int8" else MIN_COSINE[precision],
        **proofs,
    }
    dim, opset = dim_and_opset(graphs[subject.image.file])
    manifest = Manifest(
        name=options.name or subject.name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        licence=options.licence,
        description=options.description,
        dim=dim,
        towers=Towers(image=subject.image, text=subject.text),
        scoring=subject.scoring,
        precision=precision,
        opset=opset,
        training=dict(subject.training),
        metrics=dict(subject.metrics),
        parity=parity,
        golden=GOLDEN,
    )
    return write_bundle(out, manifest, _files(subject, manifest, graphs, options.notes), force=options.force)


def _files(
    subject: Subject, manifest: Manifest, graphs: dict[str, bytes], notes: str
) -> dict[str, bytes | Path]:
    """Graphs, card, golden vectors and tokenizer by name."""
    command = f"nearlight export {subject.made_with} --precision {manifest.precision}"
    files: dict[str, bytes | Path] = {**graphs, MODEL_CARD: model_card(manifest, command, notes).encode()}
    files[GOLDEN] = _golden(subject, graphs).to_npz()
    if subject.text is not None and subject.tokenizer_json is not None:
        files[subject.text.tokenizer_file] = subject.tokenizer_json.encode()
    return files


def _golden(subject: Subject, graphs: dict[str, bytes]) -> Golden:
    """Fixed inputs with the vectors of graphs that have just been proven."""
    pixels = probe_pixels(subject.image.preprocess.size_px)  # (N, S, S, 3)
    vectors = run_graph(graphs[subject.image.file], pixels)
    if subject.text is None or subject.tokenizer_json is None:
        return Golden(pixels, vectors)
    tokens = Tokenizer.load(subject.tokenizer_json, subject.text).encode(PROBE_TEXTS)  # (M, L)
    return Golden(pixels, vectors, PROBE_TEXTS, tokens, run_graph(graphs[subject.text.file], tokens))


def _proven(
    subject: Subject, samples: Samples, precision: Precision, drift: DriftTarget
) -> tuple[dict[str, bytes], dict[str, JsonValue]]:
    """Graphs by file name, and by tower the figures of their parity."""
    _log.info("writing the image graph")
    starts = range(0, len(samples.pixels), _CALIBRATED)
    images = [samples.pixels[start : start + _CALIBRATED] for start in starts]
    graph, report = _stored(subject.encoders.image_onnx(), "image", images, precision, drift)
    limit = drift.min_cosine if precision == "int8" else MIN_COSINE[precision]
    _log.info("proving it on %s", samples.origin)
    graphs = {subject.image.file: graph}
    proofs: dict[str, JsonValue] = {"image": {**prove_images(subject, graph, samples, limit), **report}}
    if subject.text is not None and subject.tokenizer_json is not None:
        _log.info("writing the text graph")
        tokenizer = Tokenizer.load(subject.tokenizer_json, subject.text)
        starts = range(0, len(samples.texts), _CALIBRATED)
        texts = [tokenizer.encode(samples.texts[start : start + _CALIBRATED], trim=True) for start in starts]
        graph, report = _stored(subject.encoders.text_onnx(), "text", texts, precision, drift)
        _log.info("proving it on %s", samples.origin)
        graphs[subject.text.file] = graph
        proofs["text"] = {**prove_texts(subject, graph, samples, limit), **report}
    return graphs, proofs


def _stored(
    content: bytes, tower: str, batches: Batches, precision: Precision, drift: DriftTarget
) -> tuple[bytes, dict[str, JsonValue]]:
    """The graph of a tower in a precision, and what int8 has to report."""
    match precision:
        case "fp32":
            return content, {}
        case "fp16":
            return with_half_weights(content), {}
        case "int8":
            given = "pixels" if tower == "image" else "tokens"
            graph, report = int8_tower(tower, content, given, batches, drift)
            return graph, {"int8": report}
