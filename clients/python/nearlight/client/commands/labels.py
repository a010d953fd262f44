"""`nearlight labels put|get|list|delete`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.classify import read_labels
from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from nearlight.client import LabelSet

app = typer.Typer(
    help="Keep labels on the server under a name, for `nearlight classify --label-set`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

NameArgument = Annotated[str, typer.Argument(help="Name of the label set.", show_default=False)]


@app.command()
@with_server
def put(
    name: NameArgument,
    labels: Annotated[str | None, typer.Option(help='Labels, such as "cat,dog".')] = None,
    labels_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with one label a line.")
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option("--from", exists=True, dir_okay=False, help="A set as `labels get --json` prints it."),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the label; may be repeated.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model it is meant for. Default: the server's.")] = "",
    min_probability: Annotated[
        float, typer.Option(min=0, max=1, help="An image whose best label is less likely abstains.")
    ] = 0.0,
    only_if_absent: Annotated[
        bool, typer.Option("--only-if-absent", help="Refuse to replace a set.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Store labels under a name, in place of the set of that name and its calibration.

    **Examples**

    - `nearlight labels put pets --labels "cat,dog,hamster" --min-probability 0.5`
    - `nearlight labels put birds --labels-file names.txt --template "a photo of a {}, a bird."`
    - `nearlight labels put pets --from pets.json`
    """
    from nearlight.client import LabelSet

    if document is None:
        wanted = LabelSet(
            name, read_labels(labels, labels_file), tuple(template or ()), model, min_probability
        )
    elif labels is not None or labels_file is not None or template or model or min_probability:
        raise typer.BadParameter("--from brings labels, templates, model and probability with it")
    else:
        wanted = dataclasses.replace(read_document(document), name=name)
    with server.connected() as client:
        show(client.put_label_set(wanted, only_if_absent=only_if_absent), as_json)


@app.command()
@with_server
def get(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show one label set.

    **Examples**

    - `nearlight labels get pets`
    - `nearlight labels get pets --json > pets.json`
    """
    with server.connected() as client:
        show(client.label_set(name), as_json)


@app.command("list")
@with_server
def list_all(
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the label sets.

    **Examples**

    - `nearlight labels list`
    - `nearlight labels list --json | jq -r .[].name`
    """
    with server.connected() as client:
        found = client.label_sets()
    if as_json:
        print_json([as_document(one) for one in found])
        return
    rows = [(one.name, len(one.labels), one.model or "-", calibrated(one), updated(one)) for one in found]
    print_table(["label set", ">labels", "model", "calibration", "updated"], rows)


@app.command()
@with_server
def delete(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Delete a label set and its calibration.

    **Examples**

    - `nearlight labels delete pets`
    """
    with server.connected() as client:
        client.delete_label_set(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        typer.echo(f"deleted label set {name}")


def read_document(file: Path) -> LabelSet:
    """Returns the set that a file holds as `labels get --json` prints it."""
    from nearlight.client import Calibration, LabelSet

    try:
        fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
        calibration = fields.pop("calibration", None)
        return LabelSet(**fields, calibration=Calibration(**calibration) if calibration else None)
    except (ValueError, TypeError, AttributeError) as error:
        raise typer.BadParameter(f"{file} holds no label set: {error}") from None


def show(one: LabelSet, as_json: bool) -> None:
    """Prints one set."""
    if as_json:
        print_json(as_document(one))
        return
    words = one.labels if isinstance(one.labels, Mapping) else {}
    rows = [
        ("name", one.name),
        ("labels", ", ".join(f"{x} ({', '.join(words[x])})" if words.get(x) else x for x in one.labels)),
        ("templates", ", ".join(one.templates) or "the model's own"),
        ("model", one.model or "-"),
        ("min probability", one.min_probability),
        ("calibration", calibrated(one)),
        ("space", one.space_id or "-"),
        ("updated", updated(one)),
    ]
    print_table(["field", "value"], rows)


def as_document(one: LabelSet) -> dict[str, Any]:
    """Returns a set as JSON."""
    return dataclasses.asdict(one)


def calibrated(one: LabelSet) -> str:
    """Returns the calibration in a few words."""
    if one.calibration is None:
        return "-"
    fitted = one.calibration
    bias = f", bias {fitted.bias:.3g}" if fitted.bias else ""
    return (
        f"temperature {fitted.temperature:.3g}{bias}, ECE {fitted.ece_before:.3f} -> {fitted.ece_after:.3f}"
    )


def updated(one: LabelSet) -> str:
    """Returns when it was put, for people."""
    return f"{datetime.fromtimestamp(one.updated_unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
