"""`nearlight collections upgrade`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import LONG_SECONDS, NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
    printable,
)

if TYPE_CHECKING:
    from nearlight.client import Client
    from nearlight.client.upgrades import Upgrade, UpgradeFailure, UpgradeStep
    from nearlight.client.upgrading import Originals

SHOWN_FAILURES = 50


@with_server
def upgrade(
    name: NameArgument,
    bundle: Annotated[
        str, typer.Option(help="The new model: name of a loaded one, or a bundle on the server's disk.")
    ] = "",
    model_name: Annotated[str, typer.Option(help="Name to load the bundle under. Default: its own.")] = "",
    images: Annotated[
        str, typer.Option(help="Folder or parquet files indexed then, for images the server has not kept.")
    ] = "",
    image_column: Annotated[str, typer.Option(help="Parquet: column of the images.")] = "image",
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Parquet: column of the ids; '' for row numbers.", show_default="filename if unique"
        ),
    ] = None,
    max_rate: Annotated[float, typer.Option(min=0, help="Points a second at most; 0: no bound.")] = 0,
    query: Annotated[
        list[str] | None, typer.Option("--query", help="Text to compare both models with; may be repeated.")
    ] = None,
    no_promote: Annotated[
        bool, typer.Option("--no-promote", help="Stop before the new model serves.")
    ] = False,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out points that cannot be embedded.")
    ] = False,
    step: Annotated[
        str,
        typer.Option(
            "--step", help="Only: status, pause, resume, evaluate, promote, rollback, cancel or clean."
        ),
    ] = "",
    status: Annotated[bool, typer.Option("--status", help="Only tell how far it is.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the old model serve again.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove the old vectors: no way back.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Change the model of a collection while it serves.

    Every point is embedded again with the new model, beside the old vectors; searches go on with the old one.
    Then both are compared, and the new one takes over in one step. Until `--clean` the way back is as short.
    Ctrl-C, a crash or a restart lose nothing: run the same command again to go on. The exit code is 1 where
    points could not be embedded; they are listed, and nothing is promoted without `--drop-missing`.

    **Examples**

    - `nearlight collections upgrade photos --bundle ./models/v2 --images ~/Pictures`
    - `nearlight collections upgrade photos --bundle v2 --max-rate 50 --no-promote --query "a dog"`
    - `nearlight collections upgrade photos --status`, then `--step promote`, `--rollback`, `--clean`
    """
    wanted = step_of(bundle, step, status=status, rollback=rollback, clean=clean)
    originals = originals_of(images, image_column, id_column, drop_missing=drop_missing)
    with server.connected(max_attempts=12) as client:
        if wanted is None:
            found, failed = run(client, name, bundle, model_name, originals, max_rate)
            found = end(client, found, failed, query or [], no_promote=no_promote, drop_missing=drop_missing)
        else:
            if wanted != "status":
                client.control_upgrade(
                    name, wanted, drop_missing=drop_missing, queries=query or [], timeout=LONG_SECONDS
                )
            found, failed = client.upgrade(name), client.upgrade_failures(name)
    report(found, failed, as_json)
    is_done = wanted is not None or found.state == "promoted" or (no_promote and found.state == "ready")
    if not is_done or (wanted is None and found.failed and not drop_missing):
        raise typer.Exit(1)


def step_of(bundle: str, step: str, **flags: bool) -> UpgradeStep | Any:
    """Returns the one step that is wanted, or None for the whole way."""
    given = [word for word, is_set in flags.items() if is_set] + ([step] if step else [])
    if len(given) + bool(bundle) != 1:
        raise typer.BadParameter(
            "exactly one of --bundle, --step, --status, --rollback and --clean is needed"
        )
    if not given:
        return None
    words = {"rollback": "roll_back"} | {
        word: word for word in ("status", "pause", "resume", "evaluate", "promote", "cancel", "clean")
    }
    if given[0] not in words:
        raise typer.BadParameter(f"{printable(given[0])} is no step; it must be one of {', '.join(words)}")
    return words[given[0]]


def originals_of(
    images: str, image_column: str, id_column: str | None, *, drop_missing: bool
) -> Originals | None:
    """Returns where originals are that the server has not kept; None where nobody said."""
    from nearlight.client.sources import SourceError, open_source
    from nearlight.client.upgrading import NoOriginals, originals_in

    if not images:
        return NoOriginals() if drop_missing else None
    try:
        return originals_in(open_source(images, image_column, id_column))
    except SourceError as error:
        raise typer.BadParameter(str(error)) from None


def run(
    client: Client, name: str, bundle: str, model_name: str, originals: Originals | None, max_rate: float
) -> tuple[Upgrade, list[UpgradeFailure]]:
    """Embeds every point anew, or goes on with it; returns the upgrade and the points that failed."""
    from nearlight.client.upgrading import Upgrading

    started = client.start_upgrade(
        name, model_of(client, name, bundle, model_name), max_points_per_second=max_rate
    )
    if started.state == "promoted":
        typer.echo(f"{name}: promoted already; --rollback or --clean is next", err=True)
        return started, client.upgrade_failures(name)
    try:
        with progress_bar(started.total) as on_progress:
            found = Upgrading(client, name, originals, on_progress).run()
    except KeyboardInterrupt:
        typer.echo("interrupted: run the same command again to go on; nothing is lost", err=True)
        raise
    return found, client.upgrade_failures(name)


def model_of(client: Client, name: str, bundle: str, model_name: str) -> str:
    """Returns the name of the new model, loading its bundle where that is not in service."""
    from nearlight.client import AlreadyExists, NotFound

    models = client.models(timeout=3.0)  # a server that is not there is noticed soon
    client.collection(name)  # before a model is loaded for nothing
    folder = Path(bundle)
    known = None if model_name else next((one for one in models if bundle in (one.name, *one.aliases)), None)
    if known is None and folder.is_dir():
        bundle = str(folder.resolve())
        space_id = space_of(folder)
        known = next((one for one in models if one.space_id == space_id), None)
    if known is None:
        try:
            under_way = client.upgrade(name)
        except NotFound:
            under_way = None
        if under_way and under_way.bundle == bundle and under_way.model:
            return under_way.model
    if known is not None:
        return known.name
    typer.echo(f"loading {printable(bundle)} ...", err=True)
    try:
        return client.load_model(bundle, name=model_name).name
    except AlreadyExists as error:
        typer.echo(
            f"error: {error}\nSay --bundle with that name to use that model, or --model-name OTHER to load "
            "this one beside it.",
            err=True,
        )
        raise typer.Exit(1) from None


def space_of(folder: Path) -> str:
    """Returns the space of a bundle on this machine, "" where it cannot be read here."""
    try:
        return str(json.loads((folder / "manifest.json").read_bytes())["space_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def end(
    client: Client,
    found: Upgrade,
    failed: list[UpgradeFailure],
    queries: list[str],
    *,
    no_promote: bool,
    drop_missing: bool,
) -> Upgrade:
    """Compares both models once all is embedded, and lets the new one take over where it may."""
    name = found.collection
    if found.state == "running":
        typer.echo(
            f"error: the server has not kept the originals of {found.wanted} points: name the folder or the "
            "parquet files they were indexed from with --images, or leave them out with --drop-missing",
            err=True,
        )
        return found
    if found.state != "ready":
        return found
    if queries:
        found = client.control_upgrade(name, "evaluate", queries=queries, timeout=LONG_SECONDS)
    if no_promote:
        return found
    if failed and not drop_missing:
        typer.echo(
            f"error: {len(failed)} points cannot be embedded: repair them and run this again, or leave them "
            "out with --drop-missing; nothing was promoted",
            err=True,
        )
        return found
    return client.control_upgrade(name, "promote", drop_missing=drop_missing, timeout=LONG_SECONDS)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Upgrade], None]]:
    """Shows a bar on stderr; gives the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nearlight.client.commands.terminal import console

    columns = (
        TextColumn("embedding anew"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("embedding anew", total=total, note="")

        def on_progress(now: Upgrade) -> None:
            note = now.message or (f"{now.failed} failed" if now.failed else "")
            progress.update(task, completed=now.done + now.failed, total=now.total, note=printable(note))

        yield on_progress


def report(found: Upgrade, failed: list[UpgradeFailure], as_json: bool) -> None:
    """Says how far it is: people on stderr and in a table, programs on stdout."""
    for one in failed[:SHOWN_FAILURES]:
        typer.echo(f"cannot be embedded: {printable(one.id)}: {printable(one.message)}", err=True)
    if len(failed) > SHOWN_FAILURES:
        typer.echo(f"... and {len(failed) - SHOWN_FAILURES} more; --json lists all", err=True)
    document = dataclasses.asdict(found)
    if as_json:
        print_json({**document, "failures": [dataclasses.asdict(one) for one in failed]})
        return
    document |= document.pop("evaluation") or {}
    rows = [(key, "-" if value in ("", None) else value) for key, value in document.items()]
    print_table(["field", "value"], rows)
