"""`nearlight collections index|recall`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import LONG_SECONDS, NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
)

if TYPE_CHECKING:
    from nearlight.client.index_values import IndexKind

KindOption = Annotated[str, typer.Option(help="auto (by size), exact, hnsw or ivf.")]


@with_server
def index(
    name: NameArgument,
    kind: KindOption = "auto",
    exact_up_to: Annotated[int, typer.Option(help="Exact up to so many points; 0: chosen.")] = 0,
    recall_target: Annotated[float, typer.Option(help="Recall@10 wanted, 0.5 to 1; 0: chosen.")] = 0.0,
    hnsw_m: Annotated[int, typer.Option(help="Neighbours of a node, 4 to 128; 0: chosen.")] = 0,
    hnsw_ef_construction: Annotated[int, typer.Option(help="Width while building; 0: chosen.")] = 0,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Say how a collection is indexed. An index that is due then is built in the background.

    Without options the choice is by size again: exact up to 200,000 points, then a graph (HNSW), beyond two
    million inverted lists (IVF).

    **Examples**

    - `nearlight collections index photos --recall-target 0.99`
    - `nearlight collections index photos --kind hnsw --exact-up-to 50000`
    """
    from nearlight.client.index_values import IndexConfig

    config = IndexConfig(
        kind=cast("IndexKind", kind),
        exact_up_to=exact_up_to,
        hnsw_m=hnsw_m,
        hnsw_ef_construction=hnsw_ef_construction,
        recall_target=recall_target,
    )
    with server.connected() as client:
        one = client.configure_index(name, config)
    if as_json:
        print_json({"name": name, **dataclasses.asdict(one.index)})
    else:
        typer.echo(
            f"{name}: index {one.index.kind}, {one.index.state}; what is due is built in the background"
        )


@with_server
def recall(
    name: NameArgument,
    queries: Annotated[int, typer.Option(min=0, help="Searches to compare; 0: 200.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Hits of each; 0: 10.")] = 0,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Measure now how many of the true nearest points a search finds: by stored vectors, and by texts.

    **Examples**

    - `nearlight collections recall photos`
    - `nearlight collections recall photos --queries 1000 --limit 100 --json`
    """
    with server.connected() as client:
        found = client.measure_recall(name, queries=queries, limit=limit, timeout=LONG_SECONDS)
    if as_json:
        print_json({"name": name, **dataclasses.asdict(found)})
        return
    parts = [("images", found.image_recall), ("texts", found.text_recall)]
    shown = ", ".join(f"{what} {value:.4f}" for what, value in parts if value is not None)
    typer.echo(f"{name}: recall@{limit or 10} {shown} in {found.queries} queries")
