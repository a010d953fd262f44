"""`nearlight calibrate`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
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
    from collections.abc import Callable

    from nearlight.client import Client, LabelSet, ModelInfo
    from nearlight.client.calibration import F64, Fitted, Ints
    from nearlight.client.labelled import LabelledImages

# Images of one call, so that the bar moves.
AT_ONCE = 64
# Bad images named on the terminal; --json names all.
SHOWN_FAILURES = 20


@with_server
def calibrate(
    source: Annotated[
        str, typer.Argument(help="Folder of a folder per class, parquet file, or glob.", show_default=False)
    ],
    label_set: Annotated[str, typer.Option(help="Label set to calibrate; its names are the classes.")],
    model: Annotated[str, typer.Option(help="Model. Default: the label set's, else the server's.")] = "",
    image_column: Annotated[str, typer.Option(help="Parquet: column of the images.")] = "image",
    label_column: Annotated[str, typer.Option(help="Parquet: column of the class names.")] = "label_name",
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of images measured on, not fitted on.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of the images held out.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, store nothing.")] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fit a label set's probabilities to labelled images, so that 80 % is right 8 times in 10.

    A temperature (and, for sigmoid models, a bias) is fitted by maximum likelihood on one part of the images.
    The errors before and after are of the other part: expected calibration error of the best label's
    probability, in 15 bins. The result is stored with the label set and used by `nearlight classify
    --label-set` with models of the same space. The exit code is 1 where an image could not be read.

    **Examples**

    - `nearlight calibrate pets/ --label-set pets`
    - `nearlight calibrate cifar10-test.parquet --label-set cifar10 --json`
    - `nearlight calibrate 'val-*.parquet' --label-set birds --label-column species --dry-run`
    """
    from nearlight.client.calibration import NotFittable
    from nearlight.client.calibration import calibrate as fit
    from nearlight.client.labelled import open_labelled
    from nearlight.client.sources import SourceError

    try:
        images = open_labelled(source, image_column, label_column)
    except SourceError as error:
        raise typer.BadParameter(str(error)) from None
    started = time.monotonic()
    with server.connected() as client:
        wanted = client.label_set(label_set)
        one = client.model(model or wanted.model)
        check_classes(images, wanted)
        with progress_bar(len(images)) as advance:
            logits, truth, failed = logits_of(client, images, wanted, one, advance)
        try:
            fitted = fit(logits, truth, one.scoring, held_out, seed)
        except NotFittable as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        if not dry_run:
            client.put_label_set(with_calibration(wanted, fitted, one, model))
    for identity, reason in failed[:SHOWN_FAILURES]:
        typer.echo(f"failed: {printable(identity)}: {printable(reason)}", err=True)
    if as_json:
        document = as_document(fitted, wanted, one, is_stored=not dry_run)
        failures = [{"id": identity, "reason": reason} for identity, reason in failed]
        print_json({**document, "seed": seed, "failed": failures, "seconds": time.monotonic() - started})
    else:
        report(fitted, wanted, one)
    if failed:
        raise typer.Exit(1)


def check_classes(images: LabelledImages, label_set: LabelSet) -> None:
    """Ends the command where images are of a class that the set has not."""
    unknown = sorted(set(images.classes) - set(label_set.labels))
    if unknown:
        shown = ", ".join(map(repr, unknown[:10])) + (" ..." if len(unknown) > 10 else "")
        known = ", ".join(map(repr, list(label_set.labels)[:10]))
        raise typer.BadParameter(
            f"label set {label_set.name!r} has no {shown}; it has {known}"
            f"{' ...' if len(label_set.labels) > 10 else ''}"
        )


def logits_of(
    client: Client,
    images: LabelledImages,
    label_set: LabelSet,
    model: ModelInfo,
    advance: Callable[[int], None],
) -> tuple[F64, Ints, list[tuple[str, str]]]:
    """Asks the server for the score of every label and image.

    Returns:
        Logits (N, L) as the model was trained, the index of each image's label (N,), and the (id, reason) of
        the images that failed, which are not among the N.
    """
    import numpy as np

    places = {name: place for place, name in enumerate(label_set.labels)}
    rows: list[F64] = []
    truth: list[int] = []
    failed: list[tuple[str, str]] = []
    rest = iter(images)
    while part := list(islice(rest, AT_ONCE)):
        good: list[tuple[str, bytes, str]] = []
        for candidate, name in part:
            try:
                good.append((str(candidate.id), candidate.read()[0], name))
            except OSError as error:
                failed.append((str(candidate.id), str(error.strerror or error)))
        contents = [image for _, image, _ in good]
        results = client.classify(contents, label_set=label_set.name, model=model.name)
        for (identity, _, name), result in zip(good, results, strict=True):
            if result.error is not None:
                failed.append((identity, result.error.message))
                continue
            row = np.zeros(len(places))
            row[[places[label.label] for label in result.labels]] = [label.score for label in result.labels]
            rows.append(model.logit_scale * row + model.logit_bias)
            truth.append(places[name])
        advance(len(part))
    return np.array(rows, np.float64).reshape(len(rows), len(places)), np.array(truth, np.int64), failed


def with_calibration(label_set: LabelSet, fitted: Fitted, model: ModelInfo, named: str) -> LabelSet:
    """Returns the set to store: bound to the model's space, and to the model where one was named."""
    from nearlight.client import Calibration

    calibration = Calibration(
        fitted.temperature,
        fitted.bias,
        fitted.before.ece,
        fitted.after.ece,
        fitted.images,
        fitted.held_out_images,
    )
    return dataclasses.replace(
        label_set,
        calibration=calibration,
        space_id=model.space_id,
        model=named or label_set.model,
    )


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on stderr with the time left; gives the function that moves it on by so many images."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nearlight.client.commands.terminal import console

    columns = (TextColumn("labelling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("labelling", total=total)
        yield lambda count: progress.update(task, advance=count)


def as_document(fitted: Fitted, label_set: LabelSet, model: ModelInfo, *, is_stored: bool) -> dict[str, Any]:
    """Returns the result as JSON."""
    return {
        "label_set": label_set.name,
        "model": model.name,
        "space_id": model.space_id,
        "scoring": model.scoring,
        "stored": is_stored,
        **dataclasses.asdict(fitted),
    }


def report(fitted: Fitted, label_set: LabelSet, model: ModelInfo) -> None:
    """Prints the result for people."""
    before, after = fitted.before, fitted.after
    rows = [
        ("expected calibration error", f"{before.ece:.4f}", f"{after.ece:.4f}"),
        ("negative log likelihood", f"{before.nll:.4f}", f"{after.nll:.4f}"),
        ("accuracy", f"{before.accuracy:.4f}", f"{after.accuracy:.4f}"),
        ("temperature", "1", f"{fitted.temperature:.4f}"),
    ]
    if model.scoring == "sigmoid":
        rows.append(("bias", "0", f"{fitted.bias:.4f}"))
    title = (
        f"{label_set.name} with {model.name}: fitted on {fitted.images} images, "
        f"measured on {fitted.held_out_images} others"
    )
    print_table(["", ">before", ">after"], rows, title)
