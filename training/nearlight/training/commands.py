"""`nearlight train` and `nearlight evaluate`. Imports torch only when a command runs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nearlight.training.catalogue import list_methods, method_files, method_line
from nearlight.training.option_help import help_of_method, print_keys

train_app = typer.Typer(
    help="Train an encoder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)

_SOURCES = """

A source is a parquet file or glob with `image` (encoded bytes) and, where the method needs them,
`captions` or `label_name`; or a folder of images with a captions.csv or captions.jsonl, or with one folder
for each class; methods without labels take any folder of images. `@2` behind it gives it twice the weight.
Every key of the configuration is an option too: `--epochs 200 --temperature 0.2 --optimiser.lr 0.1`;
`nearlight train --keys` lists them.
"""
_EXAMPLES = """
**Examples**

- `nearlight train {id} --data 'photos-*.parquet' --val val.parquet --out runs/mine`
- `nearlight train {id} --data photos --out runs/mine --batch-size 256 --plan`
- `nearlight train {id} --resume --out runs/mine`
"""


def _print_keys(wanted: bool) -> None:
    if wanted:
        print_keys()
        raise typer.Exit


def _print_list(wanted: bool) -> None:
    if wanted:
        list_methods()
        raise typer.Exit


@train_app.callback()
def train(
    listed: Annotated[
        bool,
        typer.Option(
            "--list", help="All methods with paper and recipe.", callback=_print_list, is_eager=True
        ),
    ] = False,
    keys: Annotated[
        bool,
        typer.Option(
            "--keys",
            help="All keys of the configuration; each is an option.",
            callback=_print_keys,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Train an encoder; each method is a subcommand."""


def _command_of(method: str) -> Callable[..., None]:
    def command(
        context: typer.Context,
        out: Annotated[Path | None, typer.Option(help="The run folder to write.", show_default=False)] = None,
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
        plan: Annotated[
            bool, typer.Option("--plan", help="Say what the run would do and need; write nothing.")
        ] = False,
    ) -> None:
        """Trains in a run folder."""
        from nearlight.training.errors import ConfigError, TrainingError

        try:
            settings = [*read_settings(method, context.args), *(assignments or [])]
            if out is None and not plan:
                raise ConfigError("give --out FOLDER: the run folder to write")
            finished = _train(method, out or Path("run"), data, val, config, settings, resume, plan)
        except TrainingError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            reason = error.strerror or error
            typer.echo(f"error: {out}: {reason}; its last checkpoint, if any, is kept", err=True)
            raise typer.Exit(2) from None
        if not finished:
            raise typer.Exit(130)

    return command


def read_settings(method: str, extra: Sequence[str]) -> list[str]:
    """Returns `key=value` of options like `--batch-size 64` or `--temperature=0.2`."""
    from nearlight.training.config import RunConfig
    from nearlight.training.errors import ConfigError

    found, rest = [], list(extra)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{flag!r} is not an option; options start with --")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} needs a value")
            value = rest.pop(0)
        key = name.replace("-", "_")
        own = "." in key or key in RunConfig.model_fields
        found.append(f"{key if own else 'options.' + key}={value}")
    return found


def _train(
    method: str,
    out: Path,
    data: list[str] | None,
    val: list[str] | None,
    config: Path | None,
    assignments: list[str],
    resume: bool,
    plan: bool,
) -> bool:
    from nearlight.training.config import load_config, resumed_config
    from nearlight.training.errors import CheckpointError
    from nearlight.training.plan import print_plan
    from nearlight.training.trainer import Trainer

    if resume:
        again = resumed_config(out, (data, val, config), assignments)
        if again.method != method:
            raise CheckpointError(f"{out} was trained with {again.method}, not {method}")
        return Trainer(again, out, resume=True).train()
    overrides = {"data.train": data or None, "data.val": val or None}
    made = load_config(config, overrides, assignments, method)
    if plan:
        print_plan(made)
        return True
    return Trainer(made, out).train()


for _id, _file in method_files().items():
    _line = method_line(_file)
    train_app.command(
        _id,
        help=_line + _SOURCES + help_of_method(_id) + _EXAMPLES.replace("{id}", _id),
        short_help=_line,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_command_of(_id))


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A run folder, or a bundle by path or name.", show_default=False)
    ],
    task: Annotated[
        str,
        typer.Option(
            help="zeroshot | retrieval | knn | linear | finetune | transfer | corruption | calibration | "
            "alignment | head-information",
            show_default=False,
        ),
    ],
    data: Annotated[
        list[str], typer.Option(help="A source to measure on; may be repeated.", show_default=False)
    ],
    bank: Annotated[
        list[str] | None,
        typer.Option(
            "--train",
            help="Labelled images that a probe learns from; may be repeated. Default: the run's own. "
            "For transfer one for each --data, in their order.",
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=2,
            show_default=False,
            help="finetune, transfer, corruption and head-information measure on so many images of a source.",
        ),
    ] = None,
    fractions: Annotated[
        list[float] | None,
        typer.Option(
            "--fraction",
            min=0.0001,
            max=1,
            show_default=False,
            help="Share of the labels that finetune learns from; may be repeated. Default: 0.01 and 0.1.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what a probe draws.")] = 0,
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
    """Measure a run or a bundle: what its vectors know.

    **Examples**

    - `nearlight evaluate runs/mine --task retrieval --data flickr8k-val.parquet`
    - `nearlight evaluate nearlight-tiny --task zeroshot --data cifar10-test.parquet --json`
    - `nearlight evaluate runs/mine --task knn --train cifar10-train.parquet --data cifar10-test.parquet`
    - `nearlight evaluate runs/mine --task corruption --data cifar10-test.parquet --images 1000`
    - `nearlight evaluate runs/mine --task transfer --train pets --data pets-test --train dtd --data dtd-test`

    Figures join `report.md` in the run folder, with plots and the protocol each holds under.
    """
    from nearlight.bundle.errors import BundleError
    from nearlight.training.errors import TrainingError
    from nearlight.training.measure import measure
    from nearlight.training.probes.probed import Limits

    limits = Limits(images, tuple(fractions or Limits().fractions), seed)
    try:
        found = measure(model, task, data, templates, out, bank or (), limits)
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

    from nearlight.training.units import cell

    console = Console()
    console.print(f"{found['task']} of {found['model']}", style="bold", highlight=False, markup=False)
    table = Table()
    table.add_column("metric")
    for source in found["results"]:
        table.add_column(source, justify="right")
    for name in next(iter(found["results"].values())):
        values = [source[name] for source in found["results"].values()]
        table.add_row(name, *(cell(name, v) for v in values))
    console.print(table)
    if found.get("protocol"):
        console.print(f"Protocol: {found['protocol']}.", highlight=False, markup=False)
