"""`nearlight collections export|import`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    printable,
)

SHOWN_FAILURES = 20
GO_ON = "interrupted: run the same command again to go on; nothing written is lost"


class Counting(Protocol):
    """Something that goes on row by row."""

    rows: int
    resumed: int


@with_server
def export(
    name: NameArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="FILE.parquet, FILE.npy (with FILE.jsonl beside it), or a folder of parquet files."
        ),
    ],
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Write ids, vectors and payloads of a collection to files, while it serves; memory stays small.

    Vectors keep every bit, ids their type. What is written meanwhile may be in the files or not; a snapshot
    shows one moment. Interrupted by anything, the same command goes on where it was.

    **Examples**

    - `nearlight collections export photos --out photos.parquet`
    - `nearlight collections export photos --out photos.npy`
    - `nearlight collections export photos --out /big-disk/photos/`
    """
    with server.connected(max_attempts=12) as client:
        from nearlight.client.transfer.exporting import Export

        with progress_bar("exporting", client.collection(name).count) as on_progress, said_when_interrupted():
            run = Export(client, name, out, on_progress)
            run.run()
    if as_json:
        print_json({"collection": name, "out": str(out), "rows": run.rows, "resumed": run.resumed})
    else:
        typer.echo(f"{out}: {run.rows} points")


@with_server
def import_(
    name: NameArgument,
    source: Annotated[
        Path, typer.Argument(help="What export wrote; any .parquet or .npy.", show_default=False)
    ],
    space_id: Annotated[
        str, typer.Option(help="Space of the vectors, where the files do not say; see `collections info`.")
    ] = "",
    id_column: Annotated[
        str, typer.Option(help="Other parquet: column of ids; without it row numbers.")
    ] = "id",
    vector_column: Annotated[str, typer.Option(help="Other parquet: column of vectors.")] = "vector",
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Write the points of files into a collection, which is made where it is missing.

    Points of the same ids are replaced. Vectors of another space than the collection's are refused.
    Interrupted by anything, the same command goes on where it was. The exit code is 1 where points were
    refused.

    **Examples**

    - `nearlight collections import photos photos.parquet`
    - `nearlight collections import photos vectors.npy --space-id my-own-space`
    - `nearlight collections import photos other.parquet --id-column file --vector-column emb --space-id own`
    """
    with server.connected(max_attempts=12) as client:
        from nearlight.client.transfer.files import Columns, open_files
        from nearlight.client.transfer.importing import Import

        files = open_files(source, Columns(id_column, vector_column))
        with progress_bar("importing", files.rows) as on_progress, said_when_interrupted():
            run = Import(client, name, files, space_id, on_progress)
            run.run()
    for one in run.failed[:SHOWN_FAILURES]:
        typer.echo(f"refused: row {one.index + run.resumed}: {printable(one.message)}", err=True)
    written = run.rows - run.resumed - len(run.failed)
    if as_json:
        report: dict[str, Any] = {"collection": name, "written": written, "resumed": run.resumed}
        failed = [{"row": one.index + run.resumed, "reason": one.message} for one in run.failed]
        print_json({**report, "failed": failed})
    else:
        typer.echo(f"{name}: {written} points written, {run.resumed} before, {len(run.failed)} refused")
    if run.failed:
        raise typer.Exit(1)


@contextmanager
def said_when_interrupted() -> Iterator[None]:
    """Tells on Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(GO_ON, err=True)
        raise


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[Counting], None]]:
    """Shows a bar on stderr with points/s and the time left; gives the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nearlight.client.commands.terminal import console

    rate = TextColumn("{task.fields[rate]:.0f} points/s")
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, rate=0.0)

        def on_progress(run: Counting) -> None:
            done = (run.rows - run.resumed) / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=run.rows, rate=done)

        yield on_progress
