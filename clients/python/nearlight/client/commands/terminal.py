"""What subcommands print: JSON on stdout, tables, values as one line."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


PIPE_COLUMNS = 160

JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout; all else goes to stderr.")
]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Name or alias of the collection.")]


def print_json(document: Any) -> None:
    """Prints one JSON document on stdout; in ASCII where stdout (or a file name in it) needs that."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    sys.stdout.write(text + "\n")


def console(*, stderr: bool = False) -> Console:
    """Returns a rich console of stdout, or of stderr."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    # In a pipe rich assumes 80 columns and would fold ids that something else is to read.
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_COLUMNS)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Prints a table on stdout; headers that begin with ">" are of right-aligned columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for header in headers:
        name = header.removeprefix(">")
        table.add_column(name, justify="right" if header.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: brackets in a file name are no markup
    out = console()
    if title:
        out.print(Text(f"\n{title}"))
    out.print(table)


def printable(cell: object) -> str:
    """Returns a value as one line that any terminal can show, and none obeys."""
    text = f"{cell:.3f}" if isinstance(cell, float) else str(cell)
    line = " ".join(text.split())
    # A file may be named like a command of the terminal, and need not be named in UTF-8.
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line
    )
