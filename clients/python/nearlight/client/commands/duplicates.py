"""`nearlight collections duplicates`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import LONG_SECONDS, NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from nearlight.client import Client, Hit
    from nearlight.client.duplicates import DuplicateOptions

DELETE_AT_ONCE = 256


@with_server
def duplicates(
    name: NameArgument,
    by: Annotated[
        str, typer.Option(help="vector: cosine of vectors. hash: perceptual hash of images.")
    ] = "vector",
    threshold: Annotated[
        float | None,
        typer.Option(
            show_default="0.97 or 4",
            help="Least cosine of a pair, or most of 64 bits in which its hashes differ.",
        ),
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", help="Only among these points: JSON of filter.proto.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete all but the oldest point of each group.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List groups of points that show (nearly) the same, largest first; in each the oldest comes first.

    Every point of a group is close to some other of it; the distance shown is to the first. Hashes are of
    points that were written as images. Nothing is deleted unless --delete says so.

    **Examples**

    - `nearlight collections duplicates photos`
    - `nearlight collections duplicates photos --by hash --threshold 6 --json`
    - `nearlight collections duplicates photos --by hash --threshold 2 --delete`
    """
    options = options_of(by, threshold, filter)
    with server.connected() as client:
        found = client.find_duplicates(name, **options)
        ids = [hit.id for group in found for hit in group[1:]]
        deleted = 0
        if delete and ids:
            if not yes:
                typer.confirm(f"Delete {len(ids)} points of {name!r} for good?", abort=True, err=True)
            deleted = delete_all(client, name, ids)
    if as_json:
        print_json({"collection": name, "by": by, "deleted": deleted, "groups": as_documents(found, by)})
        return
    rows = [
        (number, hit.id, distance_of(hit, by), json.dumps(hit.payload, ensure_ascii=False)[:60])
        for number, group in enumerate(found, 1)
        for hit in group
    ]
    if rows:
        print_table([">group", "id", ">distance", "payload"], rows)
    typer.echo(f"{name}: {len(found)} groups with {len(ids)} points to spare, {deleted} deleted")


def options_of(by: str, threshold: float | None, filter: str | None) -> DuplicateOptions:
    """Returns what to ask for; raises BadParameter where it makes no sense."""
    if by not in ("vector", "hash"):
        raise typer.BadParameter(f"{by!r} is neither vector nor hash", param_hint="--by")
    options: DuplicateOptions = {"by": "hash" if by == "hash" else "vector", "timeout": LONG_SECONDS}
    if threshold is not None and by == "hash":
        if threshold != int(threshold) or threshold < 0:
            raise typer.BadParameter(f"{threshold:g} is no number of bits", param_hint="--threshold")
        options["max_bits"] = int(threshold)
    elif threshold is not None:
        options["min_score"] = threshold
    if filter is not None:
        try:
            options["filter"] = json.loads(filter)
        except ValueError as error:
            raise typer.BadParameter(f"not JSON: {error}", param_hint="--filter") from None
    return options


def delete_all(client: Client, name: str, ids: list[Any]) -> int:
    """Deletes points; returns how many there were."""
    parts = [ids[at : at + DELETE_AT_ONCE] for at in range(0, len(ids), DELETE_AT_ONCE)]
    return sum(client.delete(name, part) for part in parts)


def distance_of(hit: Hit, by: str) -> float | int:
    """Returns how far a point is from the first of its group: bits, or one minus the cosine."""
    from nearlight.client.duplicates import differing_bits

    return differing_bits(hit.score) if by == "hash" else max(0.0, 1 - hit.score)


def as_documents(groups: list[tuple[Hit, ...]], by: str) -> list[list[dict[str, Any]]]:
    """Returns groups as JSON."""
    return [
        [{"id": hit.id, "distance": distance_of(hit, by), "payload": hit.payload} for hit in group]
        for group in groups
    ]
