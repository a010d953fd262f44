"""`nearlight index`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    CollectionOption,
    JsonOption,
    print_json,
    printable,
)

if TYPE_CHECKING:
    from nearlight.client import Client
    from nearlight.client.indexing import Indexing
    from nearlight.client.sources import Source

# Bad files named on the terminal; --json names all.
SHOWN_FAILURES = 50


@with_server
def index(
    source: Annotated[str, typer.Argument(help="Folder, parquet file, or glob of them.", show_default=False)],
    collection: CollectionOption,
    model: Annotated[str, typer.Option(help="Model of a new collection. Default: the server's.")] = "",
    image_column: Annotated[str, typer.Option(help="Parquet: column of the images.")] = "image",
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Parquet: column of the ids; '' for row numbers.", show_default="filename if unique"
        ),
    ] = None,
    store_images: Annotated[
        bool, typer.Option("--store-images", help="New collection: keep the images, for a change of model.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a message.")] = 32,
    in_flight: Annotated[int, typer.Option(min=1, help="Messages under way at once.")] = 4,
    skip_duplicates: Annotated[
        int | None,
        typer.Option(
            "--skip-duplicates",
            min=0,
            max=32,
            metavar="BITS",
            help="Leave out images that look like one that is there: so many of 64 bits may differ; try 4.",
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Put a folder or a parquet file of images into a collection.

    Folders are read deep (jpg, png, webp, gif, bmp, tiff; not hidden files); ids are relative paths. The
    collection is made where it is missing. A second run sends only what is new or has changed, and removes
    nothing. Ctrl-C loses nothing: run the same command again to go on. The exit code is 1 where a file could
    not be indexed.

    **Examples**

    - `nearlight index ~/Pictures --collection photos`
    - `nearlight index shots.parquet -c shots --id-column filename`
    - `nearlight index 'data/*.parquet' -c data --json > report.json`
    - `nearlight index ~/Pictures -c photos --skip-duplicates 4`
    """
    from nearlight.client import NearlightError
    from nearlight.client.sources import SourceError, open_source

    try:
        images = open_source(source, image_column, id_column)
    except SourceError as error:
        raise typer.BadParameter(str(error)) from None
    with server.connected(max_attempts=12) as client:
        client.models(timeout=3.0)  # a server that is not there is noticed soon
        made = client.create_collection(collection, model=model, exist_ok=True, store_images=store_images)
        if store_images and not made.store_images:
            typer.echo(f"error: collection {printable(collection)} exists and keeps no images", err=True)
            raise typer.Exit(1)
        run, seconds, stopped_by = index_images(
            client,
            collection,
            images,
            batch_size=batch_size,
            in_flight=in_flight,
            skip_duplicates_bits=skip_duplicates,
        )
        report(run, seconds, stopped_by, as_json)
        if not run.done and not stopped_by:
            typer.echo(f"there are no images in {printable(source)}", err=True)
        if isinstance(stopped_by, NearlightError):
            raise stopped_by  # said by connected, after the report
    if isinstance(stopped_by, KeyboardInterrupt):
        raise typer.Exit(130)
    if run.failed or stopped_by:
        raise typer.Exit(1)


def index_images(
    client: Client,
    collection: str,
    images: Source,
    *,
    batch_size: int = 32,
    in_flight: int = 4,
    skip_duplicates_bits: int | None = None,
) -> tuple[Indexing, float, BaseException | None]:
    """Indexes a source under a progress bar; returns the run, its seconds, and what ended it too early.

    That is None, a KeyboardInterrupt, or the NearlightError of a server that is gone for good.
    """
    from nearlight.client import NearlightError
    from nearlight.client.indexing import Indexing

    started = time.monotonic()
    stopped_by: BaseException | None = None
    with progress_bar(len(images)) as on_progress:
        run = Indexing(client, collection, images, on_progress, skip_duplicates_bits=skip_duplicates_bits)
        try:
            run.run(batch_size=batch_size, in_flight=in_flight)
        except (KeyboardInterrupt, NearlightError) as error:
            stopped_by = error
    return run, time.monotonic() - started, stopped_by


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Indexing], None]]:
    """Shows a bar on stderr with images/s and the time left; gives the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nearlight.client.commands.terminal import console

    columns = (
        TextColumn("indexing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[bad]}"),
    )
    started = time.monotonic()
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("indexing", total=total, rate=0.0, bad="")

        def on_progress(run: Indexing) -> None:
            rate = run.indexed / max(time.monotonic() - started, 1e-9)
            bad = f"{len(run.failed)} failed" if run.failed else ""
            progress.update(task, completed=run.done, rate=rate, bad=bad)

        yield on_progress


def report(run: Indexing, seconds: float, stopped_by: BaseException | None, as_json: bool) -> None:
    """Says what was done: people on stderr, programs on stdout."""
    document: dict[str, Any] = {
        "collection": run.collection,
        "found": len(run.source),
        "indexed": run.indexed,
        "skipped": run.skipped,
        "duplicates": [{"id": one.id, "reason": one.reason} for one in run.duplicates],
        "failed": [{"id": one.id, "reason": one.reason} for one in run.failed],
        "seconds": round(seconds, 3),
        "images_per_second": round(run.indexed / max(seconds, 1e-9), 1),
        "interrupted": stopped_by is not None,
    }
    for one in run.failed[:SHOWN_FAILURES]:
        typer.echo(f"failed: {printable(one.id)}: {printable(one.reason)}", err=True)
    if len(run.failed) > SHOWN_FAILURES:
        typer.echo(f"... and {len(run.failed) - SHOWN_FAILURES} more; --json lists all", err=True)
    alike = f" {len(run.duplicates)} duplicates," if run.skip_duplicates_bits is not None else ""
    typer.echo(
        f"{run.collection}: {run.indexed} indexed, {run.skipped} unchanged,{alike} {len(run.failed)} failed"
        f" in {seconds:.1f} s",
        err=True,
    )
    if stopped_by is not None:
        typer.echo("interrupted: run the same command again to go on; nothing indexed is lost", err=True)
    if as_json:
        print_json(document)
