"""`nearlight collections verify|calibrate`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.snapshots import LONG_SECONDS, NameArgument
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)


@with_server
def verify(
    name: NameArgument,
    sample: Annotated[int, typer.Option(min=0, help="Points that must find themselves; 0: 1000.")] = 0,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Prove that what searches read is what is stored. The exit code is 1 where it is not.

    **Examples**

    - `nearlight collections verify photos`
    """
    with server.connected() as client:
        report = client.verify(name, sample=sample, timeout=LONG_SECONDS)
    if as_json:
        print_json({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        if report.problems:
            print_table(["problem", "message"], [(one.kind, one.message) for one in report.problems])
        typer.echo(f"{name}: {report.points_checked} points, {len(report.problems)} problems")
    if not report.ok:
        raise typer.Exit(1)


@with_server
def calibrate(
    name: NameArgument,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Give hits a relevance from 0 to 1, fitted to the collection's own vectors and a bank of prompts.

    It needs 50 points and no labels. `nearlight search --min-relevance` then leaves out what is not meant,
    where a flat cosine cannot. Do it again when the collection has become another.

    **Examples**

    - `nearlight collections calibrate photos`
    - `nearlight search "a dog on the beach" -c photos --min-relevance 0.5`
    """
    with server.connected() as client:
        fitted = client.calibrate_collection(name)
    if as_json:
        print_json({"name": name, **dataclasses.asdict(fitted)})
        return
    text = "none" if fitted.text_midpoint is None else f"{fitted.text_midpoint:.3f}"
    typer.echo(
        f"calibrated {name} on {fitted.points} points: relevance 0.5 is at a cosine of about {text} "
        f"for texts, {fitted.image_midpoint:.3f} for images"
    )
