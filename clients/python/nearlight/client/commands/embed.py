"""`nearlight embed`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    printable,
)
from nearlight.client.sources import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from nearlight.client.values import Input


@with_server
def embed(
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE|TEXT...", help="Image files and texts.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="Where to save the vectors.")],
    model: Annotated[str, typer.Option(help="Model. Default: the server's.")] = "",
    dim: Annotated[
        int, typer.Option(min=0, help="Numbers to keep of each vector, for models that allow it; 0: all.")
    ] = 0,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Decode large JPEGs smaller: quicker, and vectors change a little."),
    ] = False,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Turn images and texts into vectors, saved as .npy.

    A word that names a file is that image, any other is a text. Row i of the float32 array is input i; the
    row of an input that failed is NaN, and the exit code then is 1.

    **Examples**

    - `nearlight embed dog.jpg "a dog" --out vectors.npy`
    - `nearlight embed photos/*.jpg --out vectors.npy --json`
    """
    sources = [image_or_text(word) for word in inputs]
    if not out.parent.is_dir():  # said before the work, not after it
        raise typer.BadParameter(f"cannot write {out}: there is no folder {out.parent}")
    with server.connected() as client:
        result = client.embed(sources, model=model, dim=dim, image_profile="fast" if fast else "")
    save(out, result.vectors)
    count, dim = result.vectors.shape
    errors = [{"input": inputs[error.index], "reason": error.message} for error in result.errors]
    if as_json:
        document = {"out": str(out), "count": count, "dim": dim, "model": result.model}
        print_json({**document, "space_id": result.space_id, "errors": errors})
    else:
        typer.echo(f"{out}: {count} x {dim} float32 by {result.model or 'no model'}", err=True)
    for failure in errors:
        typer.echo(f"{printable(failure['input']) or 'empty text'}: {printable(failure['reason'])}", err=True)
    if errors:
        raise typer.Exit(1)


def image_or_text(word: str) -> Input:
    """Returns an image's path where the word names a file, else the word as a text."""
    path = Path(word)
    if os.path.isfile(word):  # unlike Path.is_file, never raises, whatever the text
        return path
    if path.suffix.lower() in IMAGE_SUFFIXES and " " not in word:
        raise typer.BadParameter(f"{word!r} looks like an image, but there is no such file")
    return word


def save(out: Path, vectors: object) -> None:
    """Writes the array whole or not at all."""
    import numpy as np

    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.save(file, np.asarray(vectors))
        partial.replace(out)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {out}: {error.strerror}") from None
