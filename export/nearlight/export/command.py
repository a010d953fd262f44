"""`nearlight export`. Imports torch only when it runs."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

if TYPE_CHECKING:
    from nearlight.bundle.folder import Bundle
    from nearlight.export.estimate import Estimate
    from nearlight.export.proven import Precision

_PRECISIONS = ("fp32", "fp16", "int8")


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A training run's folder; open_clip:ARCH:WEIGHTS or timm:NAME:WEIGHTS with WEIGHTS a file, a"
            " folder, a tag of open_clip, or `random`; onnx:FOLDER; hf:REPO[@REVISION].",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder to make.", show_default=False)],
    precision: Annotated[
        str, typer.Option(help="fp32 | fp16 (half the size) | int8 (faster on CPUs, calibrated on --data).")
    ] = "fp32",
    name: Annotated[str | None, typer.Option(help="Name of the bundle; default: the source's.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images and captions to prove parity on; default: the run's own.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder with tokenizer.json, for models that do not use CLIP's own; default: beside the"
            " weights, else from the hub."
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="Published weights of open_clip whose image settings a local file shares."),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="open_clip architecture behind a pair of ONNX files (clip-as-service).")
    ] = None,
    logit_scale: Annotated[
        float | None, typer.Option(help="Factor of the cosine, for ONNX files that do not hold it.")
    ] = None,
    logit_bias: Annotated[
        float | None, typer.Option(help="Added after the factor, for ONNX files that do not hold it.")
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load weights that are arbitrary pickles. They can run any code."
        ),
    ] = False,
    head: Annotated[
        bool,
        typer.Option("--head", help="Of a run of images alone: keep the projection head behind the encoder."),
    ] = False,
    min_cosine: Annotated[
        float, typer.Option(help="int8: the least cosine with float32 that any input may have.")
    ] = 0.995,
    min_overlap: Annotated[
        float, typer.Option(help="int8: the least mean share of ten neighbours that must stay.")
    ] = 0.97,
    dims: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Shorter lengths of vectors to try; servers give those that hold their recall.",
        ),
    ] = None,
    min_recall: Annotated[
        float, typer.Option(help="--dims: least share of the recall@10 of whole vectors.")
    ] = 0.97,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    description: Annotated[str, typer.Option(help="One sentence on what the model is for.")] = "",
    card: Annotated[Path | None, typer.Option(help="Markdown to put into the model card.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Also save the encoder's weights, a .safetensors file for open_clip or timm."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load the model, say sizes and time, write nothing.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Convert anew, and keep no copy for the next time.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Turn a trained or public model into a bundle, after proving that both give the same vectors.

    **Examples**

    - `nearlight export runs/mine --out bundles/mine --precision fp16`
    - `nearlight export open_clip:ViT-B-32:weights.safetensors --out bundles/vit-b-32 --data captions.parquet`
    - `nearlight export open_clip:ViT-B-16-SigLIP:webli --out bundles/siglip --precision int8 --data my/`
    - `nearlight export open_clip:ViT-L-14:weights.pt --out bundles/l14 --data pairs.parquet --dims 128,256`
    - `nearlight export timm:resnet50.a1_in1k --out bundles/resnet50`
    - `nearlight export onnx:clip-vit-base-patch32 --out bundles/clip --dry-run`
    - `nearlight export hf:timm/ViT-B-32-SigLIP2-256 --out bundles/siglip2`
    - `nearlight export open_clip:ViT-B-32:random --out bundles/bench`
    """
    _log_to_stderr()
    if precision not in _PRECISIONS:
        _fail(f"--precision is {precision!r}; it must be one of {', '.join(_PRECISIONS)}")
    try:
        from nearlight.bundle.errors import BundleError
        from nearlight.export.cache import cache_folder
        from nearlight.export.candidates import DriftTarget
        from nearlight.export.choice import Choice
        from nearlight.export.errors import ExportError
        from nearlight.export.estimate import estimate
        from nearlight.export.exporter import ExportOptions, export_source
        from nearlight.export.progress import bars
        from nearlight.export.source import open_subject
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing; exporting needs: pip install 'nearlight[export]'")
    try:
        notes = card.read_text(encoding="utf-8") if card else ""
        drift = DriftTarget(min_cosine, min_overlap)
        options = ExportOptions(
            name, data, force, licence, description, notes, drift, weights,
            _lengths(dims), min_recall, None if no_cache else cache_folder(),
        )  # fmt: skip
        choice = Choice(tokenizer, tag, arch, logit_scale, logit_bias, trust_pickle, head)
        if dry_run:
            _print_estimate(estimate(open_subject(source, choice), precision), out, as_json)
            return
        with bars():
            bundle = export_source(source, out, cast("Precision", precision), options, choice)
    except (ExportError, BundleError, OSError, ValueError) as error:
        _fail(str(error))
    _print(bundle, as_json)


def _lengths(dims: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(dim) for dim in dims.split(",")) if dims else ()
    except ValueError:
        raise ValueError(f"--dims is {dims!r}; it must be numbers with commas, such as 128,256") from None


def _print_estimate(found: "Estimate", out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"path": str(out), **asdict(found)}, indent=2))
        return
    megabytes = (found.image_bytes + found.text_bytes) / 1e6
    typer.echo(f"{out}: {found.name}, about {megabytes:.0f} MB and {found.seconds} s; nothing is written")
    typer.echo(f"  vectors: {found.dim} numbers")
    typer.echo(f"  image tower: {found.image_px} px, about {found.image_bytes / 1e6:.1f} MB")
    if found.context_length is not None:
        length = f"up to {found.context_length} tokens{', short texts run short' if found.trimmable else ''}"
        typer.echo(f"  text tower: {length}, about {found.text_bytes / 1e6:.1f} MB")


def _print(bundle: "Bundle", as_json: bool) -> None:
    manifest = bundle.manifest
    files = {file.name: file.stat().st_size for file in bundle.files}
    if as_json:
        shown = manifest.model_dump(
            mode="json",
            include={"name", "space_id", "dim", "precision", "metrics", "parity", "truncations"},
        )
        typer.echo(json.dumps({"path": str(bundle.path), **shown, "files": files}, indent=2))
        return
    typer.echo(
        f"{bundle.path}: {manifest.name}, {sum(files.values()) / 1e6:.1f} MB, space {manifest.space_id[:12]}"
    )
    for tower in ("image", "text"):
        found = manifest.parity.get(tower)
        if isinstance(found, dict):
            typer.echo(f"  {tower} tower: least cosine {found['min_cosine']} over {found['count']} inputs")
    for cut in manifest.truncations:
        said = "holds" if cut.holds else "does not hold"
        typer.echo(f"  {cut.dim} numbers: recall@10 {cut.recall_at_10} of {cut.whole_recall_at_10}: {said}")


class _Lines(logging.Handler):
    """A line on standard error for each message; looked up anew each time, since bars stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def _log_to_stderr() -> None:
    handler = _Lines()
    logger = logging.getLogger("nearlight.export")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)


def _fail(message: str) -> NoReturn:
    typer.echo("error: " + " ".join(message.split()), err=True)
    raise typer.Exit(1)
