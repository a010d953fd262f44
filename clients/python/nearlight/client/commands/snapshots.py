"""`nearlight collections snapshot|snapshots|restore`."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)

LONG_SECONDS = 3600.0  # for what reads all of a collection

NameArgument = Annotated[str, typer.Argument(help="Name of the collection.", show_default=False)]
SnapshotArgument = Annotated[str, typer.Argument(help="Name of the snapshot.", show_default=False)]


@with_server
def snapshot(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection, as it is now, to a file in the server's data folder; it goes on serving.

    **Examples**

    - `nearlight collections snapshot photos`
    """
    with server.connected() as client:
        made = client.create_snapshot(name, timeout=LONG_SECONDS)
    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        typer.echo(f"{made.name}: {made.count} points, {made.size_bytes} bytes, SHA-256 {made.sha256}")


@with_server
def snapshots(
    name: Annotated[str, typer.Argument(help="Only those of this collection.")] = "",
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Snapshot to remove.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the snapshots, newest first, once those given were removed.

    **Examples**

    - `nearlight collections snapshots`
    - `nearlight collections snapshots photos --json`
    - `nearlight collections snapshots --remove photos-20261123T080000Z-1a2b3c`
    """
    with server.connected() as client:
        for one in remove or []:
            client.delete_snapshot(one)
        found = client.snapshots(name)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    rows = [
        (
            one.name,
            one.collection,
            one.count,
            one.size_bytes,
            f"{datetime.fromtimestamp(one.created_unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC",
        )
        for one in found
    ]
    print_table(["snapshot", "collection", ">points", ">bytes", "created"], rows)


@with_server
def restore(
    snapshot: SnapshotArgument,
    name: Annotated[str, typer.Argument(help="Name of the new collection.", show_default=False)],
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make a new collection of a snapshot, once its checksums hold: whole, or not at all.

    **Examples**

    - `nearlight collections restore photos-20261123T080000Z-1a2b3c photos-restored`
    - then `nearlight collections aliases live=photos-restored`
    """
    with server.connected() as client:
        made = client.restore_snapshot(snapshot, name, timeout=LONG_SECONDS)
    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        typer.echo(f"{made.name}: {made.count} points")
