"""`nearlight stats`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearlight.client.commands.terminal import JsonOption, console, print_json, printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from nearlight.client.figures import Span

DEFAULT_METRICS = "127.0.0.1:9464"
STAGES = ("decode", "queue", "infer", "reply")


def stats(
    metrics: Annotated[
        str,
        typer.Option(
            envvar="NEARLIGHT_METRICS", help="host:port where the server gives its metrics, or a URL."
        ),
    ] = DEFAULT_METRICS,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a server at work: rates, latencies, batches, queues, memory.

    Rates and percentiles are of the time between two looks. Ctrl-C ends it.

    **Examples**

    - `nearlight stats`
    - `nearlight stats --metrics 10.0.0.5:9464 --every 10`
    - `nearlight stats --once --json`
    """
    from nearlight.client.errors import NearlightError
    from nearlight.client.figures import Span, read

    try:
        before = read(metrics)
        if once or as_json:
            time.sleep(every)
            document = summary(Span(before, read(metrics)))
            print_json(document) if as_json else console().print(view(document))
            return
        watch(metrics, every)
    except NearlightError as error:
        typer.echo(
            f"error: {error}\nA server gives metrics where `nearlight serve --metrics` says.", err=True
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def watch(metrics: str, every: float) -> None:
    """Redraws until interrupted; a server that goes away for a while is waited for."""
    from rich.live import Live
    from rich.text import Text

    from nearlight.client.errors import NearlightError
    from nearlight.client.figures import Span, read

    before = read(metrics)
    with Live(Text("looking…"), console=console(), auto_refresh=False, screen=console().is_terminal) as live:
        while True:
            time.sleep(every)
            try:
                after = read(metrics)
            except NearlightError as error:
                live.update(Text(str(error)), refresh=True)
                continue
            live.update(view(summary(Span(before, after))), refresh=True)
            before = after


def summary(span: Span) -> dict[str, Any]:
    """Returns what a span tells, ready for JSON; times in milliseconds, None where nothing happened."""
    from nearlight.client.figures import rates_by

    after = span.after
    tokens, padding = (
        span.increase("nearlight_text_tokens_total"),
        span.increase("nearlight_padding_tokens_total"),
    )
    towers = after.label_values("nearlight_queue_rows", "tower")
    return {
        "seconds": round(span.seconds, 3),
        "serving": bool(after.total("nearlight_serving")),
        "calls_in_flight": int(after.total("nearlight_calls_in_flight")),
        "methods": [method(span, name) for name, _ in rates_by(span, "nearlight_calls_total", "method")],
        "towers": [tower(span, name) for name in towers],
        "stages": {name: stage(span, name) for name in STAGES},
        "padding_share": padding / (tokens + padding) if tokens + padding else None,
        "caches": {
            name: hit_share(span, name)
            for name in after.label_values("nearlight_cache_lookups_total", "cache")
        },
        "rejections_per_s": dict(rates_by(span, "nearlight_rejections_total", "reason")),
        "input_failures_per_s": dict(rates_by(span, "nearlight_input_failures_total", "reason")),
        "points": {
            labels["collection"]: int(value)
            for labels, value in after.matching("nearlight_collection_points")
        },
        "store_bytes": int(after.total("nearlight_store_bytes")),
        "resident_bytes": int(after.total("process_resident_memory_bytes")),
        "cores_used": span.rate("process_cpu_seconds_total"),
    }


def method(span: Span, name: str) -> dict[str, Any]:
    """Returns rate and latency of a method."""
    return {
        "method": name,
        "calls_per_s": span.rate("nearlight_calls_total", method=name),
        "failed_per_s": span.rate("nearlight_calls_total", method=name)
        - span.rate("nearlight_calls_total", method=name, status="OK"),
        **{
            f"p{q}_ms": ms(span.quantile(q / 100, "nearlight_call_seconds", method=name))
            for q in (50, 95, 99)
        },
    }


def tower(span: Span, name: str) -> dict[str, Any]:
    """Returns how an engine is used."""
    # A server of an older version does not say how many engines it has: one.
    engines = span.after.total("nearlight_engine_sessions", tower=name) or 1.0
    lanes = {labels["lane"]: int(n) for labels, n in span.after.matching("nearlight_queue_rows", tower=name)}
    return {
        "tower": name,
        "inputs_per_s": span.rate("nearlight_batch_rows_sum", tower=name),
        "mean_batch": span.mean("nearlight_batch_rows", tower=name),
        "busy_share": span.rate("nearlight_engine_busy_seconds_total", tower=name) / engines,
        "queue_rows": lanes,
    }


def stage(span: Span, name: str) -> dict[str, float | None]:
    """Returns how long calls spend at a stage."""
    quantiles = {f"p{q}_ms": span.quantile(q / 100, "nearlight_stage_seconds", stage=name) for q in (50, 95)}
    return {key: ms(value) for key, value in quantiles.items()}


def hit_share(span: Span, cache: str) -> float | None:
    """Returns the share of looks into a cache that found something."""
    looks = span.increase("nearlight_cache_lookups_total", cache=cache)
    return span.increase("nearlight_cache_lookups_total", cache=cache, hit="yes") / looks if looks else None


def ms(seconds: float | None) -> float | None:
    """Returns milliseconds, rounded to 1 µs."""
    return None if seconds is None else round(seconds * 1e3, 3)


def view(document: dict[str, Any]) -> Group:
    """Returns the same for people."""
    from rich.console import Group
    from rich.text import Text

    state = "serving" if document["serving"] else "NOT SERVING"
    memory, store = (document[key] / 2**20 for key in ("resident_bytes", "store_bytes"))
    points = sum(document["points"].values())
    lines = [
        f"{state}, {document['calls_in_flight']} calls in flight, {document['cores_used']:.2f} cores, "
        f"{memory:.0f} MiB resident, {points} points in {len(document['points'])} collections, "
        f"{store:.1f} MiB on disk"
    ]
    for title, key in (("rejections", "rejections_per_s"), ("failed inputs", "input_failures_per_s")):
        if document[key]:
            lines.append(
                f"{title} per second: " + ", ".join(f"{n} {r:.2f}" for n, r in document[key].items())
            )
    shares = {"padding": document["padding_share"]}
    shares |= {f"{name} cache hits": share for name, share in document["caches"].items()}
    lines.append(", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share is not None))
    return Group(
        *(Text(printable(line)) for line in lines if line),
        grid("method", document["methods"], ("calls_per_s", "failed_per_s", "p50_ms", "p95_ms", "p99_ms")),
        grid("tower", document["towers"], ("inputs_per_s", "mean_batch", "busy_share", "queue_rows")),
        grid(
            "stage",
            [{"stage": name, **row} for name, row in document["stages"].items()],
            ("p50_ms", "p95_ms"),
        ),
    )


def grid(name: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    """Returns a table of some rows: their name, then numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2))
    table.add_column(name)
    for column in columns:
        table.add_column(column.replace("_per_s", "/s").replace("_", " "), justify="right")
    for row in rows:
        table.add_row(Text(printable(row[name])), *(Text(cell(row[column])) for column in columns))
    return table


def cell(value: Any) -> str:
    """Returns a number as it is shown: "-" where nothing happened."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return "-" if value is None else f"{value:.2f}"
