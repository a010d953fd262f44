"""`nearlight tune`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from nearlight.server.tuner import Measured, Report

BUSY_LOAD = 0.5


def tune(
    bundle: Annotated[
        str | None, typer.Argument(help="Folder or name of a model. Default: the shipped one.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Data folder of the server that will use the result.")] = Path(
        "nearlight-data"
    ),
    min_cosine: Annotated[
        float, typer.Option(help="Least cosine to float32 vectors that an engine must keep.")
    ] = 0.999,
    batch: Annotated[
        list[int] | None, typer.Option(help="Batch size to measure; repeatable. Default: 1 4 8 16 32.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads to measure; repeatable. Default: all cores and half.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of images to judge fast decoding on. Default: generated."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each measurement, at least.")] = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, but write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Find the fastest way to run a model on this machine; `nearlight serve` then uses it.

    Measures runtimes, precisions, threads, batch sizes and text lengths; an engine counts only where its
    vectors are those of ONNX Runtime in float32. The result is written beside the data folder. Stop other
    work while it runs.

    **Examples**

    - `nearlight tune`
    - `nearlight tune ./my-model --data ./data`
    - `nearlight tune ./my-model --batch 1 --batch 8 --min-cosine 0.9999 --json`
    """
    from nearlight.server.errors import StartError
    from nearlight.server.log import configure
    from nearlight.server.models import open_bundles
    from nearlight.server.profile_cost import files_in
    from nearlight.server.tuner import Plan, tune_bundle
    from nearlight.server.tuning import save_tuning

    configure("warning", "console")
    defaults, files = Plan(), files_in(images) if images else []
    if images and not files:
        _fail(f"--images {images}: there is no image in this folder")
    plan = Plan(
        batches=_counts(batch, "--batch") or defaults.batches,
        threads=_counts(threads, "--threads"),
        seconds=seconds,
        min_cosine=min_cosine,
        images=tuple(files),
    )
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        typer.echo(f"this machine is busy (load {load:.1f}): what is measured now will mislead", err=True)
    try:
        (opened,) = open_bundles([bundle] if bundle else [])
        report = tune_bundle(opened, plan, say=lambda line: typer.echo(line, err=True))
        file = None if dry_run else save_tuning(data, report.tuning)
    except (StartError, OSError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(_document(report, file), indent=2))
        return
    for line in _table(report):
        typer.echo(line)
    typer.echo(f"written to {file}; `nearlight serve --data {data}` uses it" if file else "nothing written")


def _counts(given: list[int] | None, flag: str) -> tuple[int, ...]:
    wrong = [count for count in given or [] if not 1 <= count <= 4096]
    if wrong:
        _fail(f"{flag} is {wrong[0]}; it must be 1 to 4096")
    return tuple(sorted(set(given or [])))


def _fail(message: str) -> NoReturn:
    typer.echo(f"nearlight tune: {message}", err=True)
    raise typer.Exit(1)


def _document(report: "Report", file: Path | None) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "file": str(file) if file else None,
        "chosen": report.tuning.model_dump(mode="json"),
        "engines": [asdict(engine) for engine in report.engines],
        "texts_per_s_by_length": report.lengths,
        "fast_decoding": asdict(report.profile),
    }


def _table(report: "Report") -> list[str]:
    """What people see: rows per second of each engine at each batch size, and what was chosen."""
    tuning = report.tuning
    lines = [f"{tuning.bundle} on {tuning.machine}", ""]
    sizes = sorted({size for engine in report.engines for size in engine.rows_per_s})
    head = "".join(f"{f'batch {size}':>10}" for size in sizes)
    lines.append(f"{'tower':<7}{'engine':<20}{'threads':>7}{head}{'cosine':>10}{'centred':>10}")
    lines += [_row(engine, sizes) for engine in report.engines]
    lines.append("(images or texts a second; cosine to float32, and the same after the mean is taken away)")
    if report.lengths:
        longest = report.lengths[max(report.lengths)]
        shown = ", ".join(
            f"{length}: {speed:.0f}/s ({speed / longest:.1f}x)" for length, speed in report.lengths.items()
        )
        lines += ["", f"texts by length  {shown}"]
    lines += ["", str(report.profile), ""]
    for name, tower in (("images", tuning.image), ("texts", tuning.text)):
        if tower:
            lengths = f", lengths {' '.join(map(str, tower.text_lengths))}" if tower.text_lengths else ""
            lines.append(
                f"{name}: {tower.runtime} {tower.precision}, {tower.threads} threads, batches of "
                f"{tower.max_batch}{lengths}: {tower.speedup:.2f} x ONNX Runtime fp32"
            )
    return lines


def _row(engine: "Measured", sizes: list[int]) -> str:
    start = f"{engine.tower:<7}{str(engine.choice):<20}{engine.choice.threads:>7}"
    if engine.problem or engine.parity is None:
        return f"{start}  not used: {engine.problem}"
    speeds = "".join(f"{engine.rows_per_s[size]:>10.1f}" for size in sizes)
    return f"{start}{speeds}{engine.parity.cosine:>10.6f}{engine.parity.centred_cosine:>10.6f}"
