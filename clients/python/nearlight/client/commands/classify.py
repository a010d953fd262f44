"""`nearlight classify`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
    printable,
)

if TYPE_CHECKING:
    from nearlight.client import Classification
    from nearlight.client.classification import ClassifyOptions


@with_server
def classify(
    files: Annotated[list[Path], typer.Argument(help="Images.", show_default=False)],
    labels: Annotated[str | None, typer.Option(help='Labels, such as "cat,dog".')] = None,
    labels_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with one label a line.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the label; may be repeated.")
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="Labels stored with `nearlight labels put`.")] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Abstain below it. Default: the label set's, else 0.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=0, help="Labels per image; 0: all.")] = 5,
    model: Annotated[str, typer.Option(help="Model. Default: the label set's, else the server's.")] = "",
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Label images with any words.

    An image abstains where no label reaches --min-probability; its labels are shown all the same. The exit
    code is 1 where a file could not be labelled; the others are.

    **Examples**

    - `nearlight classify pets/*.jpg --labels "cat,dog,hamster"`
    - `nearlight classify cat.jpg --labels-file names.txt -k 3 --json`
    - `nearlight classify cat.jpg --labels cat,dog --template "a photo of a {}." --template "a {} drawn."`
    - `nearlight classify pets/*.jpg --label-set pets --min-probability 0.6`
    """
    options: ClassifyOptions = {"top_k": top_k, "model": model}
    if label_set is None:
        options["labels"] = read_labels(labels, labels_file)
    elif labels is not None or labels_file is not None or template:
        raise typer.BadParameter("--label-set brings its own labels and templates")
    else:
        options["label_set"] = label_set
    if min_probability is not None:
        options["min_probability"] = min_probability
    if template:
        options["templates"] = template
    with server.connected() as client:
        results = client.classify(files, **options)
    if as_json:
        print_json([as_document(file, result) for file, result in zip(files, results, strict=True)])
    elif any(result.labels for result in results):
        print_results(files, results)
    failed = [(file, one.error) for file, one in zip(files, results, strict=True) if one.error]
    for file, error in failed:
        typer.echo(f"{printable(file)}: {printable(error.message)}", err=True)
    if failed:
        raise typer.Exit(1)


def read_labels(labels: str | None, labels_file: Path | None) -> list[str]:
    """Returns the labels of the one option that was given, without blanks and repetitions."""
    if (labels is None) == (labels_file is None):
        raise typer.BadParameter("give exactly one source of labels, such as --labels or --labels-file")
    if labels_file is not None:
        try:
            found = labels_file.read_text(encoding="utf-8-sig").splitlines()  # some editors put a mark first
        except UnicodeDecodeError as error:
            raise typer.BadParameter(f"{labels_file} is not UTF-8 text: {error}") from None
    else:
        found = (labels or "").split(",")
    names = list(dict.fromkeys(name.strip() for name in found if name.strip()))
    if not names:
        raise typer.BadParameter("there is no label")
    return names


def as_document(file: Path, result: Classification) -> dict[str, Any]:
    """Returns one image's labels as JSON."""
    labels = [dataclasses.asdict(x) for x in result.labels]
    document: dict[str, Any] = {"file": str(file), "abstained": result.abstained}
    document |= {"calibrated": result.calibrated, "labels": labels}
    if result.error is not None:
        document["error"] = result.error.message
    return document


def print_results(files: list[Path], results: list[Classification], title: str | None = None) -> None:
    """Prints the labels of each image as a table."""
    rows = [
        (named(file, result) if rank == 0 else "", one.label, f"{one.probability:.1%}", one.score)
        for file, result in zip(files, results, strict=True)
        for rank, one in enumerate(result.labels)
    ]
    print_table(["file", "label", ">probability", ">score"], rows, title)


def named(file: Path, result: Classification) -> str:
    """Returns the name of a file, and whether it abstained."""
    return f"{file} (abstained)" if result.abstained else str(file)
