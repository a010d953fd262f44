"""From a model to a proven bundle: graphs, parity, manifest, card, and only then a folder."""

import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nearlight.bundle.checksums import SUMS
from nearlight.bundle.folder import MANIFEST, MODEL_CARD, Bundle, refuse_existing, write_bundle
from nearlight.bundle.golden import GOLDEN, PROBE_TEXTS, Golden, probe_pixels, run_graph
from nearlight.bundle.manifest import Manifest, Towers
from nearlight.bundle.text import Tokenizer
from nearlight.export import cache
from nearlight.export.candidates import DriftTarget
from nearlight.export.card import model_card
from nearlight.export.choice import Choice
from nearlight.export.proven import Demands, Precision, Proven, prove
from nearlight.export.samples import gather
from nearlight.export.source import open_subject
from nearlight.export.subject import Subject
from nearlight.export.weights_file import refuse_place, save_weights

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
        dims: Shorter lengths of vectors to try.
        min_recall: Share of the whole vectors' recall@10 that a shorter length must keep to be allowed.
        cache: Folder of exports done before; None neither looks nor keeps.
    """

    name: str | None = None
    data: str | None = None
    force: bool = False
    licence: str = ""
    description: str = ""
    notes: str = ""
    drift: DriftTarget = DriftTarget()
    weights: Path | None = None
    dims: tuple[int, ...] = ()
    min_recall: float = 0.97
    cache: Path | None = None


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
        SourceError: `options.data` cannot be read, or a length to try is not below the model's.
    """
    refuse_existing(out, options.force)
    demands = Demands(precision, options.drift, options.dims, options.min_recall)
    samples = gather(options.data, subject.data, subject.image.preprocess)
    key = cache.key_of(subject, samples, demands.as_json()) if options.cache is not None else ""
    known = cache.find(options.cache, key) if options.cache is not None else None
    if known is not None:
        _log.info("this was exported before: copied from %s", known.path)
        return _copied(known, subject, out, options)
    if precision == "int8" and options.data is None and not subject.data:
        _log.warning("int8 is calibrated on generated images; give your own with --data")
    with tempfile.TemporaryDirectory(prefix="nearlight-export-") as scratch:
        done = prove(subject, samples, demands, Path(scratch))
        manifest = _manifest(subject, done, precision, options)
        files: dict[str, bytes | Path] = {**done.files, GOLDEN: _golden(subject, done).to_npz()}
        if subject.text is not None and subject.tokenizer_json is not None:
            files[subject.text.tokenizer_file] = subject.tokenizer_json.encode()
        bundle = _written(out, manifest, files, subject, options)
    if options.cache is not None:
        cache.keep(options.cache, key, bundle)
    return bundle


def _manifest(subject: Subject, done: Proven, precision: Precision, options: ExportOptions) -> Manifest:
    image = subject.image.model_copy(update={"weights_file": done.weights_files.get("image")})
    text = subject.text and subject.text.model_copy(update={"weights_file": done.weights_files.get("text")})
    return Manifest(
        name=options.name or subject.name,
        created=_now(),
        licence=options.licence,
        description=options.description,
        dim=done.dim,
        towers=Towers(image=image, text=text),
        scoring=subject.scoring,
        precision=precision,
        opset=done.opset,
        training=dict(subject.training),
        metrics=dict(subject.metrics),
        parity=done.parity,
        golden=GOLDEN,
        truncations=done.truncations,
    )


def _copied(known: Bundle, subject: Subject, out: Path, options: ExportOptions) -> Bundle:
    """A bundle made before, with the names and words of now."""
    manifest = known.manifest.model_copy(
        update={
            "name": options.name or subject.name,
            "created": _now(),
            "licence": options.licence,
            "description": options.description,
            "training": dict(subject.training),
            "metrics": dict(subject.metrics),
        }
    )
    own = {MANIFEST, MODEL_CARD, SUMS}
    files: dict[str, bytes | Path] = {file.name: file for file in known.files if file.name not in own}
    return _written(out, manifest, files, subject, options)


def _written(
    out: Path, manifest: Manifest, files: dict[str, bytes | Path], subject: Subject, options: ExportOptions
) -> Bundle:
    command = f"nearlight export {subject.made_with} --precision {manifest.precision}"
    files[MODEL_CARD] = model_card(manifest, command, options.notes).encode()
    return write_bundle(out, manifest, files, force=options.force)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _golden(subject: Subject, done: Proven) -> Golden:
    """Fixed inputs with the vectors of graphs that have just been proven."""
    pixels = probe_pixels(subject.image.preprocess.size_px)  # (N, S, S, 3)
    vectors = run_graph(done.files[subject.image.file], pixels)
    if subject.text is None or subject.tokenizer_json is None:
        return Golden(pixels, vectors)
    tokens = Tokenizer.load(subject.tokenizer_json, subject.text).encode(PROBE_TEXTS)  # (M, L)
    return Golden(pixels, vectors, PROBE_TEXTS, tokens, run_graph(done.files[subject.text.file], tokens))
