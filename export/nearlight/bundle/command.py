"""`nearlight bundle`: look at, check and list models on disk. Imports little until a command runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from nearlight.bundle.folder import Bundle

app = typer.Typer(
    name="bundle",
    help="Look at, verify and list models on disk.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

Where = Annotated[
    str, typer.Argument(metavar="PATH_OR_NAME", help="Folder of a bundle, or the name of a packaged one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def info(where: Where, as_json: AsJson = False) -> None:
    """Say what a bundle is: towers, precision, provenance, metrics. Checksums are verified first.

    **Examples**

    - `nearlight bundle info nearlight-tiny`
    - `nearlight bundle info ./my-model --json`
    """
    with _one_line_errors():
        facts = _facts(_opened(where))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for line in _described(facts):
        typer.echo(line)


@app.command()
def verify(where: Where, as_json: AsJson = False) -> None:
    """Read every file of a bundle and compare it with its checksum; exit code 1 when anything differs.

    Where ONNX Runtime is installed, the towers also embed the bundle's golden inputs and must give its golden
    vectors.

    **Examples**

    - `nearlight bundle verify ./my-model`
    - `nearlight bundle verify nearlight-tiny --json`
    """
    with _one_line_errors():
        bundle = _opened(where)
        facts = _facts(bundle)
        cosines, said = _golden(bundle)
    if as_json:
        kept = {key: facts[key] for key in ("path", "name", "space_id", "files")}
        typer.echo(json.dumps({**kept, "verified": True, "golden_min_cosine": cosines}, indent=2))
        return
    files = facts["files"]
    typer.echo(
        f"{facts['name']}: all {len(files)} files agree, {_megabytes(files)}, space {facts['space_id'][:12]}"
    )
    typer.echo(f"golden vectors: {said}")


@app.command("list")
def list_bundles(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of bundles; default: the packaged ones.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List bundles; one that cannot be opened is listed with its error. Checksums are not verified.

    **Examples**

    - `nearlight bundle list`
    - `nearlight bundle list ./models --json`
    """
    from nearlight.bundle.errors import BundleError
    from nearlight.bundle.folder import Bundle
    from nearlight.bundle.registry import packaged_bundles

    if folder is not None and not folder.is_dir():
        _fail(f"no folder {folder}")
    places = (
        packaged_bundles()
        if folder is None
        else sorted(place.parent for place in folder.glob("*/manifest.json"))
    )
    found: list[dict[str, Any]] = []
    for place in places:
        try:
            found.append(_facts(Bundle.open(place, verify=False)))
        except BundleError as error:
            found.append({"path": str(place), "name": place.name, "error": str(error)})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        typer.echo("no bundles found", err=True)
    for facts in found:
        typer.echo(_listed(facts))


def _opened(where: str) -> "Bundle":
    from nearlight.bundle.folder import Bundle
    from nearlight.bundle.registry import find_bundle

    return Bundle.open(find_bundle(where))


def _golden(bundle: "Bundle") -> tuple[dict[str, float] | None, str]:
    """The least cosine of each tower with its golden vectors, or None, and either in words."""
    from nearlight.bundle.golden import prove_golden

    try:
        cosines = prove_golden(bundle)
    except ImportError:
        return None, "not checked, ONNX Runtime is not installed (pip install 'nearlight[server]')"
    if cosines is None:
        return None, "this bundle has none"
    return cosines, ", ".join(f"{tower} cosine {cosine:.6f}" for tower, cosine in cosines.items())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    from nearlight.bundle.errors import BundleError

    try:
        yield
    except (BundleError, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo("error: " + " ".join(message.split()), err=True)
    raise typer.Exit(1)


def _facts(bundle: "Bundle") -> dict[str, Any]:
    """What `--json` prints: the folder, its files in bytes, and the manifest."""
    files = {file.name: file.stat().st_size for file in bundle.files}
    manifest = bundle.manifest.model_dump(mode="json")
    first = ("name", "space_id", "dim", "towers", "precision")
    ordered = {key: manifest[key] for key in (*first, *(key for key in manifest if key not in first))}
    return {"path": str(bundle.path), **ordered, "files": files}


def _described(facts: dict[str, Any]) -> Iterator[str]:
    image, text = facts["towers"]["image"]["preprocess"], facts["towers"]["text"]
    yield f"{facts['name']}  {facts['description']}".rstrip()
    yield f"  path       {facts['path']}"
    yield f"  space      {facts['space_id']}"
    yield f"  vectors    {facts['dim']} numbers, unit length"
    yield f"  images     {image['size_px']} px, {image['resize']} side, {image['interpolation']}"
    yield f"  texts      up to {text['context_length']} tokens" if text else "  texts      none: image-only"
    if facts["scoring"]:
        yield f"  scoring    {facts['scoring']['kind']}, scale {facts['scoring']['logit_scale']:.4g}"
    yield f"  precision  {facts['precision']}, opset {facts['opset']}, {_megabytes(facts['files'])}"
    yield f"  created    {facts['created']}"
    yield f"  licence    {facts['licence'] or 'not stated'}"
    for title in ("metrics", "parity"):
        for name, value in facts[title].items():
            yield f"  {title:<9}  {name}: {json.dumps(value)}"


def _listed(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return f"{facts['name']:<24} error: {facts['error']}"
    kinds = "image + text" if facts["towers"]["text"] else "image"
    size = _megabytes(facts["files"])
    return f"{facts['name']:<24} {kinds:<13} {facts['dim']:>5}-d  {facts['precision']}  {size}"


def _megabytes(files: dict[str, int]) -> str:
    return f"{sum(files.values()) / 1e6:.1f} MB"
