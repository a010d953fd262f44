"""`nearlight sweep` and `nearlight reproduce`. Imports torch only when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

from nearlight.training.commands import read_settings

_FREE = {"allow_extra_args": True, "ignore_unknown_options": True}

sweep_app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
reproduce_app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@sweep_app.command(context_settings=_FREE)
def sweep(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Its id; `nearlight train --list`.", show_default=False)],
    data: Annotated[list[str], typer.Option(help="A labelled training source; may be repeated.")],
    test: Annotated[str, typer.Option(help="A labelled source to measure on.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder of all runs and tables.", show_default=False)],
    over: Annotated[
        list[str],
        typer.Option(help="KEY=VALUE,VALUE,… ; may be repeated.", show_default=False),
    ],
    grid: Annotated[
        bool, typer.Option("--grid", help="All combinations; else one axis at a time around the recipe.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell, seeds 0, 1, …")] = 1,
    task: Annotated[str, typer.Option(help="linear | knn")] = "linear",
) -> None:
    """Train a method many times to see what it is sensitive to.

    KEY is any key of the configuration (`temperature`, `batch_size`, `lr`, `optimiser`, `augmentation`,
    `positives`, …) or `linear_optimiser`: sgd, lars, rmsprop or adamw for the linear stage. A value that
    needs others beside it has them behind a plus: `optimiser=sgd,lars+optimiser.lr=0.3`. What is done is not
    done again: the same command continues a sweep, with more axes, values or seeds if need be.

    **Examples**

    - `nearlight sweep simclr --data train.parquet --test test.parquet --out sweep --over temperature=0.1,0.5`
    - `nearlight sweep supcon --data train.parquet --test test.parquet --out sweeps/o --epochs 50 --grid
      --over optimiser=sgd,lars,rmsprop --over linear_optimiser=sgd,lars,rmsprop`
    """
    from nearlight.training.errors import TrainingError
    from nearlight.training.sections import RunConfig
    from nearlight.training.sweep import Sweep, run_sweep
    from nearlight.training.sweep_plan import parse_axis

    try:
        axes = tuple(parse_axis(text, list(RunConfig.model_fields)) for text in over)
        settings = tuple(read_settings(method, context.args))
        wanted = Sweep(method, tuple(data), test, axes, settings, tuple(range(seeds)), grid, task)
        finished = run_sweep(wanted, out, lambda line: typer.echo(line, err=True))
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if not finished:
        raise typer.Exit(130)
    typer.echo((out / "sweep.md").read_text(encoding="utf-8"))


@reproduce_app.command(context_settings=_FREE)
def reproduce(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="cifar10", show_default=False)],
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Ids, comma-separated. Default: all with published figures.", show_default=False),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="For all together. Default: as long as the recipes take.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    data: Annotated[
        Path, typer.Option(help="A folder with cifar10-train.parquet and cifar10-test.parquet.")
    ] = Path("data"),
    out: Annotated[Path, typer.Option(help="The folder of all runs and the table.")] = Path("runs/cifar10"),
) -> None:
    """Train and measure methods on CIFAR-10, and print them beside published figures.

    Any key of the configuration is an option, and holds for all methods: `--encoder.name resnet10`.

    **Examples**

    - `nearlight reproduce cifar10 --data data --minutes 25 --device cuda`
    - `nearlight reproduce cifar10 --data data --methods simclr,supcon --minutes 60 --encoder.width 0.5`
    """
    from nearlight.training.errors import ConfigError, TrainingError
    from nearlight.training.reproduce import Reproduction, choose_methods
    from nearlight.training.reproduce import reproduce as run

    try:
        if what != "cifar10":
            raise ConfigError(f"there is nothing to reproduce for {what!r}; there is cifar10")
        chosen = choose_methods(methods or ())
        settings = (*read_settings(chosen[0], context.args), f"device={device}")
        wanted = Reproduction(data, chosen, minutes, settings)
        finished = run(wanted, out, lambda line: typer.echo(line, err=True))
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if not finished:
        raise typer.Exit(130)
    typer.echo((out / "table.md").read_text(encoding="utf-8"))
