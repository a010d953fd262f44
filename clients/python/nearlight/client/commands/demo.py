"""`nearlight demo`: a server of its own, real photographs, and what one does with them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from nearlight.client.commands.classify import as_document as labels_document
from nearlight.client.commands.classify import print_results
from nearlight.client.commands.index import index_images
from nearlight.client.commands.search import as_document as hit_document
from nearlight.client.commands.search import print_hits
from nearlight.client.commands.server_options import Server
from nearlight.client.commands.terminal import JsonOption, print_json

if TYPE_CHECKING:
    from nearlight.client import Client
    from nearlight.client.indexing import Indexing

COLLECTION = "demo"
SERVER_GROUP = "nearlight.local_server"

# Photographs that scikit-image ships inside its wheel (its other samples are drawings or are downloaded).
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
SEARCHES = ("a cat", "a motorcycle", "a cup of coffee", "a rocket in the sky")
LABELS = ("cat", "motorcycle", "cup of coffee", "rocket", "person", "coins", "stars in space", "brick wall")
TO_LABEL = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


class LocalServer(Protocol):
    """What the entry point ``nearlight.local_server`` starts."""

    @property
    def address(self) -> str:
        """host:port."""
        ...

    def stop(self) -> None:
        """Stops it; returns when it is down."""
        ...


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            file_okay=False,
            help="Images. Default: photographs that scikit-image ships.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to serve.", show_default="the one that is shipped")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up, to try commands against it.")] = False,
    listen: Annotated[str, typer.Option(help="Address to listen at; port 0: any free one.")] = "127.0.0.1:0",
    as_json: JsonOption = False,
) -> None:
    """Show it all in half a minute: index photographs, search them, label them.

    Starts a server in this process, with a temporary data folder, and needs no network.

    **Examples**

    - `nearlight demo`
    - `nearlight demo ~/Pictures/holiday --keep`
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nearlight-demo-") as scratch:
        images = folder or copy_photographs(Path(scratch) / "photographs")
        with running_server(bundle, Path(scratch) / "data", listen) as address:
            with Server(address).connected() as client:
                document = show(client, images, as_json)
            document = {"server": address, "folder": str(images), **document}
            document["seconds"] = round(time.monotonic() - started, 1)
            if as_json:
                print_json(document)
            typer.echo(f"\ndone in {document['seconds']} s", err=True)
            if keep:
                stay(address, images)


def show(client: Client, folder: Path, as_json: bool) -> dict[str, Any]:
    """Indexes the folder, searches and labels it; prints tables, or returns all of it as a document."""
    from nearlight.client.sources import ImageFolder

    images = ImageFolder.scan(folder)
    if not images.paths:
        raise typer.BadParameter(f"there are no images in {folder}")
    client.create_collection(COLLECTION)
    run, _, stopped_by = index_images(client, COLLECTION, images)
    if stopped_by is not None:
        raise stopped_by
    bad = {failure.id for failure in run.failed}
    good = [path for path in images.paths if path not in bad]
    return {
        "indexed": run.indexed,
        "failed": describe_failures(run),
        "searches": [search_text(client, words, as_json) for words in SEARCHES],
        "image_search": search_image(client, folder, pick(good, ("chelsea.png",)), as_json),
        "classification": label(client, folder, pick(good, TO_LABEL), as_json),
    }


def search_text(client: Client, words: str, as_json: bool) -> dict[str, Any]:
    """Searches with words."""
    hits = list(client.query(COLLECTION, text=words, limit=3))
    if not as_json:
        print_hits(hits, f'nearlight search "{words}"')
    return {"query": words, "hits": [hit_document(hit) for hit in hits]}


def search_image(client: Client, folder: Path, names: list[str], as_json: bool) -> dict[str, Any]:
    """Searches with the first of the images: its nearest, after itself."""
    if not names:
        return {}
    hits = list(client.query(COLLECTION, image=folder / names[0], limit=4))
    if not as_json:
        print_hits(hits, f"nearlight search --image {names[0]}")
    return {"image": names[0], "hits": [hit_document(hit) for hit in hits]}


def label(client: Client, folder: Path, names: list[str], as_json: bool) -> list[dict[str, Any]]:
    """Labels the images with words."""
    if not names:
        return []
    results = client.classify([folder / name for name in names], labels=list(LABELS), top_k=3)
    files = [Path(name) for name in names]
    if not as_json:
        print_results(files, results, f'nearlight classify ... --labels "{",".join(LABELS)}"')
    return [labels_document(file, result) for file, result in zip(files, results, strict=True)]


def describe_failures(run: Indexing) -> list[dict[str, Any]]:
    """Returns the failures as a document, and names them on stderr."""
    for failure in run.failed:
        typer.echo(f"failed: {failure.id}: {failure.reason}", err=True)
    return [{"id": failure.id, "reason": failure.reason} for failure in run.failed]


def pick(paths: list[str], wanted: tuple[str, ...]) -> list[str]:
    """Returns those of the wanted names that are there, else as many of the first ones."""
    return [name for name in wanted if name in paths] or paths[: len(wanted)]


def copy_photographs(to: Path) -> Path:
    """Copies scikit-image's photographs into a folder; ends with what to install where they are missing."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        typer.echo("The demo's photographs come with scikit-image: pip install 'nearlight[demo]'", err=True)
        typer.echo("Or name a folder of your own: nearlight demo FOLDER", err=True)
        raise typer.Exit(1)
    data = Path(found.origin).parent / "data"
    to.mkdir(parents=True)
    for name in PHOTOGRAPHS:
        if (data / name).is_file():
            shutil.copyfile(data / name, to / name)
    return to


@contextmanager
def running_server(bundle: str | None, data_folder: Path, listen: str) -> Iterator[str]:
    """Runs a server in this process; gives its address."""
    entries = importlib.metadata.entry_points(group=SERVER_GROUP, name="default")
    entry = next(iter(entries), None)
    if entry is None:
        typer.echo("There is no server in this installation: pip install 'nearlight[demo]'", err=True)
        raise typer.Exit(1)
    start = entry.load()
    try:
        server: LocalServer = start(bundle, data_folder, listen)
    except ImportError:
        raise  # the command line says what to install
    except Exception as error:  # the server's own errors, which this room does not know
        typer.echo(f"The server did not start: {error}", err=True)
        raise typer.Exit(1) from None
    try:
        yield server.address
    finally:
        server.stop()


def stay(address: str, folder: Path) -> None:
    """Prints what to try, and waits for Ctrl-C."""
    typer.echo(f"The server stays up at {address}; Ctrl-C stops it and deletes its data. Try:\n", err=True)
    at = f"--server {address}"
    for command in (
        f'nearlight search "a photo of the moon" -c {COLLECTION} {at}',
        f"nearlight search --image FILE -c {COLLECTION} {at}",
        f'nearlight classify {folder}/* --labels "cat,dog,rocket" {at}',
        f"nearlight collections info {COLLECTION} {at}",
        f"nearlight models {at}",
    ):
        typer.echo(f"    {command}", err=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        typer.echo("\nstopped", err=True)
