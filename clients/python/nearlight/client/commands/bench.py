"""`nearlight bench`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nearlight.client.commands.server_options import DEFAULT_SERVER, Server, with_server
from nearlight.client.commands.terminal import (
    JsonOption,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from nearlight.client.bench.measure import Outcome, Plan, Rate
    from nearlight.client.bench.results import Limit, Point
    from nearlight.client.values import ModelInfo

LIMIT_GROUP = "nearlight.in_process_limit"
Kind = Literal["images", "texts", "mix"]


@with_server
def bench(
    kind: Annotated[Kind, typer.Argument(help="What to send.")] = "images",
    images: Annotated[
        Path | None, typer.Option(help="Folder or parquet file of images.", show_default="made-up JPEG files")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="File with a text in each line.", show_default="24 captions")
    ] = None,
    text_share: Annotated[float, typer.Option(min=0, max=1, help="Share of texts in a mix.")] = 0.5,
    in_flight: Annotated[
        str, typer.Option(help="Closed loop: numbers of calls at once, with commas; empty: none.")
    ] = "1,8,32",
    rates: Annotated[
        str,
        typer.Option(help="Open loop: calls per second that arrive; 0.5x is half the peak. Empty: none."),
    ] = "0.5x,0.8x,1.5x",
    batch: Annotated[int, typer.Option(min=1, help="Inputs of a call.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.2, help="Of each point.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.01, help="Deadline of a call, seconds.")] = 10.0,
    model: Annotated[str, typer.Option(help="Model. Default: the server's.")] = "",
    bundle: Annotated[
        str | None,
        typer.Option(
            help="The model's bundle, for the limit of this machine.", show_default="the model's name"
        ),
    ] = None,
    limit: Annotated[
        bool, typer.Option(help="Also measure what this machine does with the bundle and no server.")
    ] = True,
    cache: Annotated[bool, typer.Option("--cache", help="Let the server answer from its cache.")] = False,
    png: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Save a picture of latency against load here.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Measure a server under load, next to what the machine does without it.

    Inputs per second count decoding; latencies of an open loop count from when a call was due. The limit is
    the same bundle in this process, decoded ahead and run in full batches with as many threads as the server
    has; it says something where the server runs on this machine, and nothing else does.

    **Examples**

    - `nearlight bench`
    - `nearlight bench texts --in-flight 1,16,64 --rates "" --json`
    - `nearlight bench mix --images ~/Pictures --rates 20,40,80 --png load.png`
    """
    from nearlight.client.bench.inputs import images_of, mixed, texts_of
    from nearlight.client.bench.measure import measure
    from nearlight.client.bench.picture import check_drawing, draw
    from nearlight.client.bench.target import requests_of

    plan = plan_of(in_flight, rates, seconds, batch)
    share = {"images": 0.0, "texts": 1.0, "mix": text_share}[kind]
    with server.connected() as client:
        if png:
            check_drawing()
        chosen_images = images_of(images) if share < 1 else []
        inputs = mixed(chosen_images, texts_of(texts) if share > 0 else [], share)
        info = client.model(model)
        machine = open_limit(bundle or info.name, info) if limit else None
        requests = requests_of(inputs, batch, model, use_cache=cache)
        connection = dataclasses.replace(client.connection, timeout=timeout)
        try:
            outcome = measure(connection, requests, inputs, plan, machine, note)
        finally:
            if machine:
                machine.close()
        if png:
            draw(outcome, png, f"{info.name}, {kind}, {batch} a call")
    setting = {
        "server": server.server,
        "model": info.name,
        "provider": info.provider,
        "threads": info.threads,
        "inputs": kind,
        "distinct_inputs": len(inputs),
        "mean_image_bytes": sum(map(len, chosen_images)) // max(1, len(chosen_images)),
        "batch": batch,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "version": importlib.metadata.version("nearlight"),
    }
    print_json({**setting, **outcome.document()}) if as_json else show(outcome, setting)


def plan_of(in_flight: str, rates: str, seconds: float, batch: int) -> Plan:
    """Returns the plan of the options; ends the command where one is wrong."""
    from nearlight.client.bench.measure import Plan

    try:
        callers = tuple(int(word) for word in in_flight.replace(" ", "").split(",") if word)
        arriving = tuple(rate_of(word) for word in rates.replace(" ", "").split(",") if word)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if any(number < 1 for number in callers):
        raise typer.BadParameter(f"--in-flight is {in_flight}; each must be at least 1")
    if any(rate.of_peak for rate in arriving) and not callers:
        raise typer.BadParameter(f"--rates {rates} is of the peak: give --in-flight too, or calls per second")
    return Plan(callers, arriving, seconds, batch)


def rate_of(word: str) -> Rate:
    """Returns a rate: "40" calls per second, or "0.5x" the peak; raises ValueError where it is none."""
    from nearlight.client.bench.measure import Rate

    rate = Rate(float(word.removesuffix("x")), word.endswith("x"))
    if not 0 < rate.value < 1e6:
        raise ValueError(f"--rates has {word}; it must be above 0")
    return rate


def open_limit(bundle: str, info: ModelInfo) -> Limit | None:
    """Returns the limit of this machine for a model; None with a note where it cannot be measured."""
    entry = next(iter(importlib.metadata.entry_points(group=LIMIT_GROUP)), None)
    if entry is None:
        note("without the limit of this machine: the server's packages are not installed here")
        return None
    try:
        machine: Limit = entry.load()(
            bundle, threads=info.threads, provider=info.provider, precision=info.runtime_precision
        )
    except Exception as error:
        note(f"without the limit of this machine: {error}")
        return None
    if machine.describe()["space_id"] != info.space_id:
        machine.close()
        note(f"without the limit of this machine: bundle {bundle!r} is not what the server serves; name it "
             "with --bundle")  # fmt: skip
        return None
    return machine


def note(text: str) -> None:
    """Says on stderr what is going on."""
    typer.echo(text, err=True)


def show(outcome: Outcome, setting: dict[str, Any]) -> None:
    """Prints tables for people."""
    headers = [
        "load",
        ">calls",
        ">inputs/s",
        ">of limit",
        ">p50 ms",
        ">p95 ms",
        ">p99 ms",
        ">max ms",
        "errors",
    ]
    rows: list[list[object]] = []
    limit = outcome.limit
    if limit:
        rates = " and ".join(f"{rate:.1f}" for rate in limit.inputs_per_s)
        rows.append(["in process, full batches", "-", rates, "1.000", *["-"] * 4, ""])
        rows.append(["in process, one by one", "-", "-", "-", f"{limit.single_ms:.1f}", *["-"] * 3, ""])
    for point in outcome.points:
        share = f"{point.inputs_per_s / limit.mean_per_s:.3f}" if limit else "-"
        times = [f"{time:.1f}" for time in (point.p50_ms, point.p95_ms, point.p99_ms, point.max_ms)]
        errors = ", ".join(f"{count} {name}" for name, count in sorted(point.errors.items()))
        rows.append([load(point), point.calls, f"{point.inputs_per_s:.1f}", share, *times, errors])
    threads = f", {setting['threads']} threads" if setting["threads"] else ""
    size = f" of {setting['mean_image_bytes'] / 1000:.0f} kB" if setting["mean_image_bytes"] else ""
    print_table(
        headers,
        rows,
        f"{setting['model']} at {setting['server']} ({setting['provider']}{threads}): "
        f"{setting['inputs']}{size}, {setting['batch']} a call",
    )
    singles = [point for point in outcome.points if point.mode == "closed" and point.load == 1]
    if limit and singles and setting["batch"] == 1:
        note(f"single call, median: {singles[0].p50_ms / limit.single_ms:.2f} times the one in process")
    late = max((point.lag_ms for point in outcome.points), default=0.0)
    if late > 100:
        note(f"this program began calls up to {late:.0f} ms late: it, not the server, may be the bottleneck")


def load(point: Point) -> str:
    """Returns a load in words."""
    return f"{point.load:.0f} in flight" if point.mode == "closed" else f"{point.load:.1f}/s arriving"
