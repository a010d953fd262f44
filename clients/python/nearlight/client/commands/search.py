"""`nearlight search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    CollectionOption,
    JsonOption,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from nearlight.client import Client, Hit
    from nearlight.client.options import QueryOptions
    from nearlight.client.values import PointId

# Payload keys that say nothing about the picture.
_DULL = {"path", "size", "sha256", "mtime", "mtime_ns", "source", "row", "filename"}


@with_server
def search(
    collection: CollectionOption,
    text: Annotated[str | None, typer.Argument(help="Words to search for.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Image to search with.")
    ] = None,
    point_id: Annotated[str | None, typer.Option("--id", help="Point to search with.")] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="WORDS", help="Words to stay away from.")
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(min=0, max=1, help="0: the best hits, 1: the most varied.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only the best hit of each value of a payload key.")
    ] = None,
    min_relevance: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least relevance; needs `nearlight collections calibrate`."),
    ] = None,
    autocut: Annotated[
        int | None, typer.Option(min=1, max=10, help="Cut before this many falls of the scores.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Hits wanted.")] = 10,
    score_threshold: Annotated[float | None, typer.Option(min=-1, max=1, help="Least cosine.")] = None,
    filter_json: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help="Only points that pass, as filter.proto in JSON."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every vector.")] = False,
    recall_target: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="Recall wanted of an index. Default: the collection's."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Find images by words, by an image, or by a point.

    Several of them together mean: near all of them, and away from the words of --without.

    **Examples**

    - `nearlight search "a dog on the beach" -c photos`
    - `nearlight search --image dog.jpg -c photos -n 3`
    - `nearlight search --id 2024/dog.jpg -c photos --json`
    - `nearlight search "a beach" --without people --without "a boat" -c photos`
    - `nearlight search "a dog on the beach" -c photos --min-relevance 0.5`
    - `nearlight search "a dog" -c photos --diversity 0.5`
    - `nearlight search "a dog" -c photos --group-by album`
    - `nearlight search a -c photos --filter '{"must": [{"field": {"key": "year", "range": {"gte": 2024}}}]}'`
    """
    if not (text or image or point_id or without):
        raise typer.BadParameter("give at least one of TEXT, --image, --id and --without")
    options: QueryOptions = {"limit": limit}
    if score_threshold is not None:
        options["score_threshold"] = score_threshold
    if exact:
        options["exact"] = True
    if recall_target is not None:
        options["recall_target"] = recall_target
    if min_relevance is not None:
        options["min_relevance"] = min_relevance
    if autocut is not None:
        options["autocut"] = autocut
    if diversity is not None:
        options["diversity"] = diversity
    if filter_json is not None:
        options["filter"] = read_filter(filter_json)
    with server.connected() as client:
        found = search_by(
            client, collection, sources(text, image, without or []), point_id, options, group_by
        )
    if as_json:
        print_json([as_document(hit) for hit in found])
    else:
        print_hits(found)


def sources(text: str | None, image: Path | None, without: list[str]) -> QueryOptions:
    """Returns what to look for, but for a point: one thing as it is, several as a mix."""
    from nearlight.client import Example

    if not without and not (text and image):
        if text:
            return {"text": text}
        return {"image": image} if image else {}
    like = [Example(text=text)] if text else []
    if image:
        like.append(Example(image=image))
    return {"like": like, "unlike": [Example(text=words) for words in without]}


def search_by(
    client: Client,
    collection: str,
    wanted: QueryOptions,
    point_id: str | None,
    options: QueryOptions,
    group_by: str | None,
) -> list[Hit]:
    """Searches. Digits mean the point of that number first, then that of the string of that spelling."""
    from nearlight.client import NotFound

    def run(query: QueryOptions) -> list[Hit]:
        if group_by is None:
            return list(client.query(collection, **options, **query))  # type: ignore[misc]
        groups = client.query_groups(collection, group_by, **options, **query)  # type: ignore[misc]
        return [group.hits[0] for group in groups]

    if point_id is None:
        return run(wanted)
    if point_id.isascii() and point_id.isdigit() and int(point_id) < 2**64:
        try:
            return run(with_point(wanted, int(point_id)))
        except NotFound:
            pass
    return run(with_point(wanted, point_id))


def with_point(wanted: QueryOptions, point_id: PointId) -> QueryOptions:
    """Returns what to look for, and a point beside it."""
    from nearlight.client import Example

    if not wanted:
        return {"id": point_id}
    like = [*wanted.get("like", ()), Example(id=point_id)]
    if "text" in wanted:
        like.append(Example(text=wanted["text"]))
    if "image" in wanted:
        like.append(Example(image=wanted["image"]))
    return {"like": like, "unlike": wanted.get("unlike", ())}


def read_filter(text: str) -> dict[str, Any]:
    """Returns the JSON object of ``--filter``."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--filter is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise typer.BadParameter('--filter must be a JSON object, such as {"must": [...]}')
    return document


def as_document(hit: Hit) -> dict[str, Any]:
    """Returns a hit as JSON."""
    relevance = {} if hit.relevance is None else {"relevance": round(hit.relevance, 6)}
    return {"id": hit.id, "score": round(hit.score, 6), **relevance, "payload": hit.payload}


def print_hits(hits: list[Hit], title: str | None = None) -> None:
    """Prints hits as a table: rank, score, relevance, id, and what the payload says about the picture."""
    columns = [">#", ">score", "id"]
    rows: list[list[object]] = [[rank, hit.score, hit.id] for rank, hit in enumerate(hits, 1)]
    if any(hit.relevance is not None for hit in hits):
        columns.insert(2, ">relevance")
        for row, hit in zip(rows, hits, strict=True):
            row.insert(2, "-" if hit.relevance is None else f"{hit.relevance:.2f}")
    telling = [about(hit.payload) for hit in hits]
    if any(telling):
        columns.append("payload")
        for row, words in zip(rows, telling, strict=True):
            row.append(words)
    print_table(columns, rows, title)


def about(payload: dict[str, Any]) -> str:
    """Returns the telling part of a payload, short."""
    parts = []
    for key, value in payload.items():
        if key not in _DULL and value is not None:
            first = value[0] if isinstance(value, list) and value else value
            parts.append(f"{key}={first!s:.60}")
    return ", ".join(parts[:3])
