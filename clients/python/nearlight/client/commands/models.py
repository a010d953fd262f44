"""`nearlight models`, and `nearlight models load|unload|alias`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearlight.client import ModelInfo

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

NameArgument = Annotated[str, typer.Argument(help="Name of the model.", show_default=False)]


@app.callback(invoke_without_command=True)
@with_server
def models(
    context: typer.Context,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the models a server has loaded; load, unload and alias them.

    **Examples**

    - `nearlight models`
    - `nearlight models --server 10.0.0.5:50051 --json`
    - `nearlight models load /srv/models/clip-v2 --alias clip --default`
    """
    if context.invoked_subcommand is not None:
        return
    with server.connected() as client:
        found = client.models()
    if as_json:
        print_json([dataclasses.asdict(model) for model in found])
        return
    show(found)


@app.command()
@with_server
def load(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Folder on the server's disk, inside a --model-folder of it, or a shipped bundle's name.",
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="Serve it under this name. Default: the bundle's own.")] = "",
    alias: Annotated[
        list[str] | None, typer.Option(help="Move this alias to it once it is ready; repeatable.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default model.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Load a bundle into a running server; aliases move when it is warm and checked, and no call fails.

    **Examples**

    - `nearlight models load /srv/models/clip-v2 --alias clip --default`
    - `nearlight models load nearlight-tiny --name second`
    """
    with server.connected() as client:
        loaded = client.load_model(bundle, name=name, aliases=alias or (), make_default=default)
    if as_json:
        print_json(dataclasses.asdict(loaded))
        return
    show([loaded])


@app.command()
@with_server
def unload(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of service, wait for the calls that use it, and give its memory back.

    **Examples**

    - `nearlight models unload clip-v1`
    - `nearlight models unload clip-v1 --json`
    """
    with server.connected() as client:
        client.unload_model(name)
    if as_json:
        print_json({"unloaded": name})
        return
    typer.echo(f"{name} is unloaded")


@app.command()
@with_server
def alias(
    alias: Annotated[
        str | None, typer.Argument(help="Alias to make or move, or to --delete.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Argument(help="Name of the model it stands for from now on.", show_default=False)
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the alias.")] = False,
    default: Annotated[str, typer.Option(help="Name of the model to make the default.")] = "",
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make, move or delete an alias, name the default model; without arguments list the aliases.

    **Examples**

    - `nearlight models alias clip clip-v1`
    - `nearlight models alias clip --delete`
    - `nearlight models alias --default clip-v1`
    """
    if alias is not None and (model is None) is not delete:
        raise typer.BadParameter("give ALIAS and MODEL, or ALIAS and --delete")
    if alias is None and delete:
        raise typer.BadParameter("--delete needs ALIAS")
    changes = {alias: model} if alias is not None and model is not None else {}
    deleted = [alias] if alias is not None and delete else []
    with server.connected() as client:
        left = client.update_model_aliases(aliases=changes, deleted=deleted, default_model=default)
    if as_json:
        print_json(left)
        return
    print_table(["alias", "model"], sorted(left.items()))


def show(found: Sequence[ModelInfo]) -> None:
    """Prints models as a table."""
    headers = ["model", "aliases", ">dim", "towers", ">image px", ">tokens", "precision", "runs on"]
    rows = [
        (
            model.name + (" (default)" if model.is_default else ""),
            " ".join(model.aliases) or "-",
            model.dim,
            "+".join(model.towers),
            model.image_px,
            model.context_length or "-",
            model.precision,
            runs_on(model) if model.state == "ready" else model.state,
        )
        for model in found
    ]
    print_table(headers, rows)


def runs_on(model: ModelInfo) -> str:
    """Returns what runs a model, such as "OpenVINO bf16"."""
    return f"{model.provider.removesuffix('ExecutionProvider')} {model.runtime_precision}".rstrip()
