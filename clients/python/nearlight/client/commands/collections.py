"""`nearlight collections`: list, info, create, delete, aliases, index-payload, verify, calibrate and more."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nearlight.client.commands import (
    collection_checks,
    duplicates,
    indexes,
    snapshots,
    transfer,
    upgrade,
)
from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
    printable,
)

if TYPE_CHECKING:
    from nearlight.client import CollectionInfo
    from nearlight.client.index_values import IndexState
    from nearlight.client.terms import Durability
    from nearlight.client.values import PayloadKind

DurabilityOption = Annotated[
    str, typer.Option(help="Writes are answered when on the disk (full), or before (relaxed).")
]

app = typer.Typer(
    help="List, show, create and delete collections.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

app.command()(indexes.index)
app.command()(indexes.recall)
app.command()(snapshots.snapshot)
app.command()(snapshots.snapshots)
app.command()(snapshots.restore)
app.command()(upgrade.upgrade)
app.command()(duplicates.duplicates)
app.command()(collection_checks.verify)
app.command()(collection_checks.calibrate)
app.command()(transfer.export)
app.command("import")(transfer.import_)


@app.command("list")
@with_server
def list_all(
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the collections.

    **Examples**

    - `nearlight collections list`
    - `nearlight collections list --json`
    """
    with server.connected() as client:
        found = client.collections()
    if as_json:
        print_json([as_document(one) for one in found])
        return
    rows = [(one.name, one.count, one.dim, one.model or "-", created(one)) for one in found]
    print_table(["collection", ">points", ">dim", "model", "created"], rows)


@app.command()
@with_server
def info(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show one collection.

    **Examples**

    - `nearlight collections info photos`
    - `nearlight collections info photos --json | jq .count`
    """
    with server.connected() as client:
        show(client.collection(name), as_json)


@app.command()
@with_server
def create(
    name: NameArgument,
    model: Annotated[str, typer.Option(help="Model to embed with. Default: the server's.")] = "",
    store_images: Annotated[
        bool, typer.Option("--store-images", help="Keep images and texts, for a change of model.")
    ] = False,
    durability: DurabilityOption = "full",
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Create an empty collection.

    **Examples**

    - `nearlight collections create photos`
    - `nearlight collections create photos --model nearlight-tiny`
    - `nearlight collections create photos --store-images`
    """
    with server.connected() as client:
        made = client.create_collection(
            name, model=model, durability=cast("Durability", durability), store_images=store_images
        )
        show(made, as_json)


@app.command()
@with_server
def update(
    name: NameArgument,
    durability: DurabilityOption,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Change when writes of a collection are acknowledged.

    **Examples**

    - `nearlight collections update photos --durability relaxed`
    """
    with server.connected() as client:
        show(client.update_collection(name, durability=cast("Durability", durability)), as_json)


@app.command()
@with_server
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Delete a collection and its points, for good.

    **Examples**

    - `nearlight collections delete photos`
    - `nearlight collections delete photos --yes`
    """
    with server.connected() as client:
        if not yes:
            count = client.collection(name).count
            typer.confirm(f"Delete collection {name!r} with {count} points for good?", abort=True, err=True)
        deleted = client.delete_collection(name)
    if as_json:
        print_json({"name": name, "deleted": deleted})
    else:
        typer.echo(f"deleted {name} with {deleted} points")


@app.command()
@with_server
def aliases(
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[ALIAS=COLLECTION]...", show_default=False)
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Alias to remove.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the aliases, once those given were made, moved or removed: all in one step, or none.

    **Examples**

    - `nearlight collections aliases`
    - `nearlight collections aliases live=photos-2026 previous=photos-2025`
    - `nearlight collections aliases --remove previous`
    """
    wanted: dict[str, str] = {}
    for change in changes or []:
        alias, equals, name = change.partition("=")
        if not (alias and equals and name):
            raise typer.BadParameter(f"{printable(change)} is not of the form ALIAS=COLLECTION")
        wanted[alias] = name
    with server.connected() as client:
        if wanted or remove:
            client.update_aliases(wanted, remove or [])
        found = client.aliases()
    if as_json:
        print_json(found)
    else:
        print_table(["alias", "collection"], list(found.items()))


@app.command("index-payload")
@with_server
def index_payload(
    name: NameArgument,
    key: Annotated[str, typer.Argument(help="Payload key; dots go into objects.", show_default=False)],
    kind: Annotated[
        str, typer.Option(help="Its values: keyword, integer, number, bool, datetime or geo.")
    ] = "keyword",
    drop: Annotated[bool, typer.Option("--drop", help="Remove the index instead.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make filters on a payload key fast.

    **Examples**

    - `nearlight collections index-payload photos tags`
    - `nearlight collections index-payload photos year --kind integer`
    - `nearlight collections index-payload photos tags --drop`
    """
    with server.connected() as client:
        if drop:
            one = client.delete_payload_index(name, key)
        else:
            one = client.create_payload_index(name, key, cast("PayloadKind", kind))
    show(one, as_json)


def show(one: CollectionInfo, as_json: bool) -> None:
    """Prints one collection."""
    if as_json:
        print_json(as_document(one))
        return
    document = {**as_document(one), "created_unix_ms": created(one), "index": indexed(one.index)}
    rows = [
        (key.removesuffix("_unix_ms"), "-" if value in ("", (), {}) else value)
        for key, value in document.items()
    ]
    print_table(["field", "value"], rows)


def as_document(one: CollectionInfo) -> dict[str, Any]:
    """Returns a collection as JSON."""
    return dataclasses.asdict(one)


def indexed(index: IndexState) -> str:
    """Returns how a collection is searched, for people; an exact search has no recall to tell."""
    if not index.generation:
        return f"{index.kind}, {index.state}"
    beside = f"{index.head_points} points beside it, {index.tombstones} dead in it"
    return f"{index.kind}, {index.state}: {beside}, recall {index.estimated_recall:.3f}"


def created(one: CollectionInfo) -> str:
    """Returns when it was created, for people."""
    return f"{datetime.fromtimestamp(one.created_unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
