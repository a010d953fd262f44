"""`nearlight export`. Imports torch only when it runs."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from nearlight.bundle.folder import Bundle
    from nearlight.export.exporter import ExportOptions, Precision

_PRECISIONS = ("fp32", "fp16")


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A training run's folder, open_clip:ARCH:FILE, or open_clip:ARCH:random.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder to make.", show_default=False)],
    precision: Annotated[
        str, typer.Option(help="How weights are stored: fp32 | fp16 (half the size).")
    ] = "fp32",
    name: Annotated[str | None, typer.Option(help="Name of the bundle; default: the source's.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images and captions to prove parity on; default: the run's own.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    description: Annotated[str, typer.Option(help="One sentence on what the model is for.")] = "",
    card: Annotated[Path | None, typer.Option(help="Markdown to put into the model card.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Turn a trained or public model into a bundle, after proving that both give the same vectors.

    **Examples**

    - `nearlight export runs/mine --out bundles/mine --precision fp16`
    - `nearlight export open_clip:ViT-B-32:weights.safetensors --out bundles/vit-b-32 --data captions.parquet`
    - `nearlight export open_clip:ViT-B-32:random --out bundles/bench`
    """
    _log_to_stderr()
    if precision not in _PRECISIONS:
        _fail(f"--precision is {precision!r}; it must be one of {', '.join(_PRECISIONS)}")
    try:
        from nearlight.bundle.errors import BundleError
        from nearlight.export.errors import ExportError
        from nearlight.export.exporter import ExportOptions
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing; exporting needs: pip install 'nearlight[export]'")
    try:
        notes = card.read_text(encoding="utf-8") if card else ""
        options = ExportOptions(name, data, force, licence, description, notes)
        bundle = _export(source, out, precision, options)
    except (ExportError, BundleError, OSError, ValueError) as error:
        _fail(str(error))
    _print(bundle, as_json)


def _export(source: str, out: Path, precision: str, options: "ExportOptions") -> "Bundle":
    from nearlight.export.errors import SourceError
    from nearlight.export.exporter import export_open_clip, export_run

    stored: Precision = "fp16" if precision == "fp16" else "fp32"
    kind, colon, rest = source.partition(":")
    if kind != "open_clip" or not colon:
        return export_run(Path(source), out, stored, options)
    arch, colon, weights = rest.partition(":")
    if not weights:
        raise SourceError(
            f"{source!r} names no weights; write open_clip:{arch or 'ARCH'}:FILE or open_clip:{arch}:random"
        )
    return export_open_clip(arch, weights, out, stored, options)


def _print(bundle: "Bundle", as_json: bool) -> None:
    manifest = bundle.manifest
    files = {file.name: file.stat().st_size for file in bundle.files}
    if as_json:
        shown = manifest.model_dump(
            mode="json", include={"name", "space_id", "dim", "precision", "metrics", "parity"}
        )
        typer.echo(json.dumps({"path": str(bundle.path), **shown, "files": files}, indent=2))
        return
    typer.echo(
        f"{bundle.path}: {manifest.name}, {sum(files.values()) / 1e6:.1f} MB, space {manifest.space_id[:12]}"
    )
    for tower in ("image", "text"):
        found = manifest.parity[tower]
        if isinstance(found, dict):
            typer.echo(f"  {tower} tower: least cosine {found['min_cosine']} over {found['count']} inputs")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("nearlight.export")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)


def _fail(message: str) -> NoReturn:
    typer.echo("error: " + " ".join(message.split()), err=True)
    raise typer.Exit(1)
