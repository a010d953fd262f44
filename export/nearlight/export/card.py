"""The model card: what a bundle is, in words, made from its manifest."""

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from nearlight.bundle.manifest import Manifest


def model_card(manifest: Manifest, command: str, notes: str = "") -> str:
    """The Markdown of README.md.

    Args:
        manifest: All but its space id, which only the finished files give.
        command: How the bundle was made.
        notes: Markdown of the author's own, put after the first lines.
    """
    return "\n".join(_lines(manifest, command, notes)) + "\n"


def _lines(manifest: Manifest, command: str, notes: str) -> Iterator[str]:
    yield f"# {manifest.name}"
    yield ""
    yield (
        manifest.description
        or "A Nearlight bundle: encoders in ONNX that turn images and texts into vectors."
    )
    yield ""
    yield f"Licence: {manifest.licence or 'not stated'}. Made {manifest.created} by `{command}`."
    if notes.strip():
        yield ""
        yield notes.strip()
    yield ""
    yield "## Use"
    yield ""
    yield "```"
    yield "nearlight bundle verify PATH      # every file against its checksum"
    yield "nearlight serve --bundle PATH     # embeddings, search and labels over gRPC"
    yield "```"
    yield ""
    yield from _inputs(manifest)
    yield from _truncations(manifest)
    yield from _table("Metrics", manifest.metrics)
    yield from _table("Parity with the original model", manifest.parity)
    for tower in ("image", "text"):
        yield from _candidates(tower, manifest.parity.get(tower))
    yield "## Origin"
    yield ""
    yield "```json"
    yield json.dumps(manifest.training, indent=2, ensure_ascii=False)
    yield "```"


def _inputs(manifest: Manifest) -> Iterator[str]:
    image, text, scoring = manifest.towers.image.preprocess, manifest.towers.text, manifest.scoring
    yield "## Inputs and output"
    yield ""
    yield f"- Image: `pixels` uint8 (B, {image.size_px}, {image.size_px}, 3) RGB; {image.resize} resize"
    yield f"  to {image.scale_px} px, {image.interpolation}, crop: {image.crop}."
    yield "  Scaling of the channels is in the graph."
    if text is not None:
        length = (
            f"any length up to {text.context_length}" if text.trimmable else f"{text.context_length} tokens"
        )
        yield f"- Text: `tokens` int64 (B, L), {length},"
        yield f"  from `{text.tokenizer_file}` after cleaning `{text.clean}`."
    yield f"- Output: `vectors` float32 (B, {manifest.dim}), unit length."
    yield f"- Weights: stored as {manifest.precision}; opset {manifest.opset}."
    if scoring is not None:
        yield f"- Score: {scoring.kind} of {scoring.logit_scale:.6g} · cosine {scoring.logit_bias:+.6g}."
    yield ""


def _truncations(manifest: Manifest) -> Iterator[str]:
    if not manifest.truncations:
        return
    yield "## Shorter vectors"
    yield ""
    yield "The first numbers of a vector, scaled back to unit length. A server gives those that hold."
    yield ""
    yield "| numbers | recall@10 | of whole vectors | holds |"
    yield "|---|---|---|---|"
    for cut in manifest.truncations:
        recalls = f"{cut.recall_at_10:.4f} | {cut.whole_recall_at_10:.4f}"
        yield f"| {cut.dim} | {recalls} | {'yes' if cut.holds else 'no'} |"
    yield ""


def _table(title: str, figures: Mapping[str, JsonValue]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if not figures:
        yield "None recorded."
        yield ""
        return
    yield "| what | value |"
    yield "|---|---|"
    for name, value in _flat(figures):
        shown = f"{value:.9g}" if isinstance(value, float) else str(value)
        yield f"| {name} | {shown} |"
    yield ""


def _candidates(tower: str, figures: JsonValue) -> Iterator[str]:
    """What was tried to do a tower's products in 8 bits: drift against speed."""
    report = figures.get("int8") if isinstance(figures, dict) else None
    if not isinstance(report, dict) or not isinstance(report["tried"], list):
        return
    yield f"## The {tower} tower in 8 bits"
    yield ""
    yield f"Of {report['products']} matrix products, those that 8 bits harm most are left in 32."
    yield "The last row was taken."
    yield ""
    yield "| left out | least cosine | overlap@10 | times as fast |"
    yield "|---|---|---|---|"
    for row in report["tried"]:
        if isinstance(row, dict):
            cells = (row["left_out"], row["min_cosine"], row["overlap_at_10"], row["speed_ratio"])
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _flat(figures: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in figures.items():
        if name == "int8":
            continue  # has a table of its own
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} · ")
        else:
            yield f"{prefix}{name}", value
