"""The `nearlight` command: finds its subcommands in the installed packages, imports the one that is used."""

from __future__ import annotations

import errno
import importlib.metadata
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

GROUP = "nearlight.commands"

# What `nearlight --help` shows, in this order, so that it need not import a subcommand to describe it; a test
# compares it with the subcommands' own words. Those not listed here are imported and come after these.
SUMMARIES = {
    "demo": "Show it all in half a minute: index photographs, search them, label them.",
    "serve": "Serve models and collections over gRPC, until SIGTERM or Ctrl-C.",
    "index": "Put a folder or a parquet file of images into a collection.",
    "search": "Find images by words, by an image, or by a point.",
    "classify": "Label images with any words.",
    "labels": "Keep labels on the server under a name, for `nearlight classify --label-set`.",
    "calibrate": "Fit a label set's probabilities to labelled images, so that 80 % is right 8 times in 10.",
    "embed": "Turn images and texts into vectors, saved as .npy.",
    "collections": "List, show, create and delete collections.",
    "models": "List the models a server has loaded; load, unload and alias them.",
    "doctor": "Check a data folder: the database's pages, every point, vector and index of every collection.",
    "bench": "Measure a server under load, next to what the machine does without it.",
    "stats": "Watch a server at work: rates, latencies, batches, queues, memory.",
    "token": "Make the bearer tokens that a server lets in.",
    "train": "Train an encoder.",
    "evaluate": "Measure a run or a bundle: what its vectors know.",
    "sweep": "Train a method many times to see what it is sensitive to.",
    "reproduce": "Train and measure methods on CIFAR-10, and print them beside published figures.",
    "tune": "Find the fastest way to run a model on this machine; `nearlight serve` then uses it.",
    "export": "Turn a trained or public model into a bundle, after proving that both give the same vectors.",
    "bundle": "Look at, verify, list, pull, push and remove models on disk.",
}

# The extra whose packages a subcommand needs.
EXTRAS = {
    "bundle": "bundle",
    "calibrate": "parquet",
    "demo": "demo",
    "doctor": "server",
    "evaluate": "train",
    "export": "export",
    "index": "parquet",
    "reproduce": "train",
    "serve": "server",
    "sweep": "train",
    "token": "server",
    "train": "train",
    "tune": "server",
}


# What writing to standard output may fail with, when it is redirected into a file.
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LazyGroup(TyperGroup):
    """A group whose subcommands are entry points, loaded when one is run."""

    is_running = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names in the order of SUMMARIES, then the others by name."""
        names = sorted(entry_points())
        known = [name for name in SUMMARIES if name in names]
        return known + [name for name in names if name not in SUMMARIES]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the subcommand that is to run; from here on subcommands are loaded for real."""
        self.is_running = True
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns a subcommand: itself where it is to run, else one line of help."""
        entry = entry_points().get(cmd_name)
        if entry is None:
            return None
        if not self.is_running and cmd_name in SUMMARIES:
            return as_command(lambda: None, cmd_name, SUMMARIES[cmd_name])
        try:
            return as_command(entry.load(), cmd_name)
        except ImportError as error:
            message = missing_extra(cmd_name, error)
            return as_command(lambda: fail(message), cmd_name, message, takes_anything=True)


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """Returns the subcommands of all installed packages, by name."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def as_command(target: Any, name: str, summary: str | None = None, *, takes_anything: bool = False) -> Any:
    """Returns a function or a Typer app as one subcommand of this name."""
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        settings = {"ignore_unknown_options": True, "allow_extra_args": True} if takes_anything else {}
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name, help=summary, context_settings=settings)(target)
        command = typer.main.get_command(app)
    command.name = name
    return command


def missing_extra(command: str, error: ImportError) -> str:
    """Returns what to install so that the subcommand can run."""
    lacking = f" ({error.name} is missing)" if error.name else ""
    extra = EXTRAS.get(command, "all")
    return f"`nearlight {command}` needs more packages{lacking}: pip install 'nearlight[{extra}]'"


def fail(message: str) -> None:
    """Ends with a message on stderr and exit code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Prints the version and ends, where it is wanted."""
    if wanted:
        typer.echo(f"nearlight {importlib.metadata.version('nearlight')}")
        raise typer.Exit


@app.callback()
def nearlight(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Contrastive image and text encoders: train, export, serve, search, label."""


def main() -> None:
    """Runs the `nearlight` command."""
    try:
        app()
    except OSError as error:
        if error.errno not in _NO_OUTPUT:
            raise
        sys.exit(f"error: cannot write the result: {error.strerror}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("nearlight."):
            raise  # not a package one could install, but a fault of ours
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        sys.exit(missing_extra(command, error))


if __name__ == "__main__":
    main()
