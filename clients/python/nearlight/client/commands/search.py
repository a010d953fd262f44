"""`nearlight search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.address import DEFAULT_ADDRESS
from nearlight.client.commands.terminal import (
    CollectionOption,
    JsonOption,
    ServerOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TokenOption,
    connected,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from nearlight.client import Client, Hit, QueryResult
    from nearlight.client.values import QueryOptions

# Payload keys that say nothing about the picture.
_DULL = {"path", "size", "sha256", "mtime", "mtime_ns", "source", "row", "filename"}


def search(
    collection: CollectionOption,
    text: Annotated[str | None, typer.Argument(help="Words to search for.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Image to search with.")
    ] = None,
    point_id: Annotated[str | None, typer.Option("--id", help="Point to search with.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Hits wanted.")] = 10,
    score_threshold: Annotated[float | None, typer.Option(min=-1, max=1, help="Least cosine.")] = None,
    server: ServerOption = DEFAULT_ADDRESS,
    token: TokenOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images by words, by an image, or by a point.

    **Examples**

    - `nearlight search "a dog on the beach" -c photos`
    - `nearlight search --image dog.jpg -c photos -n 3`
    - `nearlight search --id 2024/dog.jpg -c photos --json`
    """
    if sum(given is not None for given in (text, image, point_id)) != 1:
        raise typer.BadParameter("give exactly one of TEXT, --image and --id")
    options: QueryOptions = {"limit": limit}
    if score_threshold is not None:
        options["score_threshold"] = score_threshold
    with connected(server, token, tls_ca, tls_cert, tls_key) as client:
        if text is not None:
            options["text"] = text
            found = client.query(collection, **options)
        elif image is not None:
            options["image"] = image
            found = client.query(collection, **options)
        else:
            found = query_by_id(client, collection, point_id or "", options)
    if as_json:
        print_json([as_document(hit) for hit in found])
    else:
        print_hits(list(found))


def query_by_id(client: Client, collection: str, point_id: str, options: QueryOptions) -> QueryResult:
    """Searches with a point. Digits mean the number first, then the string of that spelling."""
    from nearlight.client import NotFound

    if point_id.isascii() and point_id.isdigit() and int(point_id) < 2**64:
        try:
            options["id"] = int(point_id)
            return client.query(collection, **options)
        except NotFound:
            pass
    options["id"] = point_id
    return client.query(collection, **options)


def as_document(hit: Hit) -> dict[str, Any]:
    """Returns a hit as JSON."""
    return {"id": hit.id, "score": round(hit.score, 6), "payload": hit.payload}


def print_hits(hits: list[Hit], title: str | None = None) -> None:
    """Prints hits as a table: rank, score, id, and what the payload says about the picture."""
    rows: list[tuple[object, ...]] = [
        (rank, hit.score, hit.id, about(hit.payload)) for rank, hit in enumerate(hits, 1)
    ]
    columns = [">#", ">score", "id", "payload"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(columns, rows, title)


def about(payload: dict[str, Any]) -> str:
    """Returns the telling part of a payload, short."""
    parts = []
    for key, value in payload.items():
        if key not in _DULL and value is not None:
            first = value[0] if isinstance(value, list) and value else value
            parts.append(f"{key}={first!s:.60}")
    return ", ".join(parts[:3])
