"""`nearlight bundle`: look at, check, list, pull, push and remove models. Light until a command runs."""

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
    help="Look at, verify, list, pull, push and remove models on disk.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

Where = Annotated[
    str,
    typer.Argument(
        metavar="PATH_OR_NAME",
        help="Folder of a bundle, a name of your library (NAME or NAME@VERSION), or of a packaged one.",
    ),
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
        Path | None, typer.Argument(help="A folder of bundles; default: your library and the packaged ones.")
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
    from nearlight.bundle.registry import entries, packaged_bundles

    if folder is not None and not folder.is_dir():
        _fail(f"no folder {folder}")
    if folder is None:
        own = [(f"{entry.name}@{entry.version}", entry.path) for entry in entries()]
        places = [*own, *((place.name, place) for place in packaged_bundles())]
    else:
        places = [(file.parent.name, file.parent) for file in sorted(folder.glob("*/manifest.json"))]
    found: list[dict[str, Any]] = []
    for label, place in places:
        try:
            found.append({"label": label, **_facts(Bundle.open(place, verify=False))})
        except BundleError as error:
            found.append({"label": label, "path": str(place), "name": place.name, "error": str(error)})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        typer.echo("no bundles found", err=True)
    for facts in found:
        typer.echo(_listed(facts))


@app.command()
def pull(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder of a bundle, or hf:REPO[@REVISION] on the hub.")
    ],
    name: Annotated[str | None, typer.Option(help="Name in your library; default: the bundle's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle and put it into your library, where `nearlight serve --bundle NAME` finds it.

    **Examples**

    - `nearlight bundle pull /mnt/share/vit-b-32`
    - `nearlight bundle pull hf:someone/vit-b-32-nearlight@main --name vit-b-32`
    """
    from nearlight.bundle.registry import add
    from nearlight.bundle.remote import REMOTE, fetched

    with _one_line_errors():
        if source.startswith(REMOTE):
            with fetched(source) as folder:
                entry = add(folder, name)
        else:
            entry = add(Path(source), name)
    facts = {"name": entry.name, "version": entry.version, "path": str(entry.path)}
    typer.echo(json.dumps(facts, indent=2) if as_json else f"{entry.name}@{entry.version}: {entry.path}")


@app.command()
def push(
    where: Where,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A folder to make, or hf:REPO on the hub.")],
) -> None:
    """Verify a bundle and hand it out: to a folder (a share, a USB disk) or to a repository on the hub.

    The hub's token is taken from where `hf auth login` puts it, or from HF_TOKEN.

    **Examples**

    - `nearlight bundle push vit-b-32 /mnt/share/vit-b-32`
    - `nearlight bundle push vit-b-32 hf:me/vit-b-32-nearlight`
    """
    from nearlight.bundle.folder import copy_bundle
    from nearlight.bundle.remote import REMOTE, upload

    with _one_line_errors():
        bundle = _opened(where)
        if target.startswith(REMOTE):
            typer.echo(f"{bundle.manifest.name}: {upload(bundle, target)}")
        else:
            typer.echo(f"{bundle.manifest.name}: {copy_bundle(bundle, Path(target)).path}")


@app.command()
def rm(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="NAME or NAME@VERSION of your library.", show_default=False)
    ],
    every: Annotated[bool, typer.Option("--all", help="Every version of NAME.")] = False,
) -> None:
    """Remove a bundle from your library. Packaged bundles and other folders are never removed.

    **Examples**

    - `nearlight bundle rm vit-b-32`
    - `nearlight bundle rm vit-b-32@3f2a`
    """
    from nearlight.bundle.registry import library, matching, remove

    with _one_line_errors():
        found = matching(name)
        if not found:
            _fail(f"no bundle {name!r} in {library()}")
        if len(found) > 1 and not every:
            versions = ", ".join(entry.version for entry in found)
            _fail(
                f"{name!r} has {len(found)} versions ({versions}): name one as {name}@VERSION, or give --all"
            )
        for entry in found:
            remove(entry)
            typer.echo(f"removed {entry.name}@{entry.version}")


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
    for cut in facts["truncations"]:
        recall = f"recall@10 {cut['recall_at_10']} of {cut['whole_recall_at_10']}"
        yield f"  shorter    {cut['dim']} numbers: {recall}, {'holds' if cut['holds'] else 'does not hold'}"
    for title in ("metrics", "parity"):
        for name, value in facts[title].items():
            yield f"  {title:<9}  {name}: {json.dumps(value)}"


def _listed(facts: dict[str, Any]) -> str:
    if "error" in facts:
        return f"{facts['label']:<24} error: {facts['error']}"
    kinds = "image + text" if facts["towers"]["text"] else "image"
    size = _megabytes(facts["files"])
    return f"{facts['label']:<24} {kinds:<13} {facts['dim']:>5}-d  {facts['precision']}  {size}"


def _megabytes(files: dict[str, int]) -> str:
    return f"{sum(files.values()) / 1e6:.1f} MB"
