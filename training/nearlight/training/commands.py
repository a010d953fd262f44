"""`nearlight train` and `nearlight evaluate`. Imports torch only when a command runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

train_app = typer.Typer(
    help="Train an encoder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

_EXAMPLES = """

**Examples**

- `nearlight train clip --data 'photos-*.parquet' --val val.parquet --out runs/mine`
- `nearlight train clip --data captions.parquet@2 --data classes.parquet --out runs/mix --config mix.toml`
- `nearlight train clip --resume --out runs/mix`
"""


@train_app.callback()
def train() -> None:
    """Train an encoder; each method is a subcommand."""


@train_app.command(
    help="Train an image and a text tower on pairs: symmetric InfoNCE over in-batch negatives.\n\n"
    "A source is a parquet file or glob with `image` and `captions` (or `label_name`), or a folder of images "
    "with a captions.csv or captions.jsonl; `@2` behind it gives it twice the weight." + _EXAMPLES
)
def clip(
    out: Annotated[Path, typer.Option(help="The run folder to write.", show_default=False)],
    data: Annotated[
        list[str] | None, typer.Option(help="A training source, PATH[@weight]; may be repeated.")
    ] = None,
    val: Annotated[list[str] | None, typer.Option(help="A validation source; may be repeated.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML or JSON file, or a recipe: nearlight-tiny.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One key of the configuration: optimiser.lr=0.001.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")
    ] = False,
) -> None:
    """Trains in a run folder."""
    from nearlight.training.errors import TrainingError

    try:
        finished = _train(out, data, val, config, assignments or [], resume)
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if not finished:
        raise typer.Exit(130)


def _train(
    out: Path,
    data: list[str] | None,
    val: list[str] | None,
    config: Path | None,
    assignments: list[str],
    resume: bool,
) -> bool:
    from nearlight.training.config import load_config, resumed_config
    from nearlight.training.trainer import Trainer

    if resume:
        return Trainer(resumed_config(out, (data, val, config), assignments), out, resume=True).train()
    overrides = {"data.train": data or None, "data.val": val or None}
    return Trainer(load_config(config, overrides, assignments), out).train()


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A run folder, or a bundle by path or name.", show_default=False)
    ],
    task: Annotated[str, typer.Option(help="zeroshot | retrieval", show_default=False)],
    data: Annotated[
        list[str], typer.Option(help="A source to measure on; may be repeated.", show_default=False)
    ],
    templates: Annotated[
        str | None,
        typer.Option(help="Prompt templates for class names: FILE[#NAME], JSON. Default: a built-in list."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to save the figures. Default: in the run, or evaluation-NAME-TASK.json here."
        ),
    ] = None,
) -> None:
    """Measure a run or a bundle: zero-shot accuracy, or retrieval both ways.

    **Examples**

    - `nearlight evaluate runs/mine --task retrieval --data flickr8k-val.parquet`
    - `nearlight evaluate nearlight-tiny --task zeroshot --data cifar10-test.parquet --json`
    """
    from nearlight.bundle.errors import BundleError
    from nearlight.training.errors import TrainingError
    from nearlight.training.measure import measure

    try:
        found = measure(model, task, data, templates, out)
    except (TrainingError, BundleError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print_table(found)
        typer.echo(f"saved to {found['saved_to']}", err=True)


def _print_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from nearlight.training.evaluation import COUNTS

    table = Table(title=f"{found['task']} of {found['model']}")
    table.add_column("metric")
    for source in found["results"]:
        table.add_column(source, justify="right")
    for name in next(iter(found["results"].values())):
        values = [source[name] for source in found["results"].values()]
        table.add_row(name, *(f"{v:.0f}" if name in COUNTS else f"{v:.2f} %" for v in values))
    Console().print(table)
