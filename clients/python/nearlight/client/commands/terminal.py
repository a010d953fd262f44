"""What the subcommands share: the options that name a server, errors as people see them, JSON on stdout."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from nearlight.client import Client, NearlightError

PIPE_COLUMNS = 160

ServerOption = Annotated[
    str,
    typer.Option(
        "--server", envvar="NEARLIGHT_SERVER", help="host:port of the server; https://host:port for TLS."
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="NEARLIGHT_TOKEN", show_default=False, help="Bearer token."),
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", envvar="NEARLIGHT_TLS_CA", help="PEM file of the authority to trust; means TLS."
    ),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        envvar="NEARLIGHT_TLS_CERT",
        help="PEM file of your own certificate, for a server that asks for one; means TLS.",
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option("--tls-key", envvar="NEARLIGHT_TLS_KEY", help="PEM file of the key of --tls-cert."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout; all else goes to stderr.")
]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Name or alias of the collection.")]


@contextmanager
def connected(
    server: str,
    token: str | None,
    tls_ca: Path | None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    max_attempts: int = 6,
) -> Iterator[Client]:
    """Gives a client; ends the command with a message where a call fails, and quietly on Ctrl-C."""
    from nearlight.client import Client, Connection, NearlightError, RetryPolicy, Tls

    address = server.removeprefix("https://").removeprefix("http://").rstrip("/")
    wants_tls = tls_ca or tls_cert or tls_key or server.startswith("https://")
    try:
        tls = Tls(ca=tls_ca, certificate=tls_cert, key=tls_key) if wants_tls else None
        retry = RetryPolicy(max_attempts=max_attempts)
        with Client(Connection(address, token=token, tls=tls, retry=retry)) as client:
            yield client
    except NearlightError as error:
        typer.echo(explain(error, address), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def explain(error: NearlightError, address: str) -> str:
    """Returns an error for people: what to do about it, where that is known."""
    from nearlight.client import NotReady, Unauthenticated

    if isinstance(error, NotReady) and "failed to connect" in str(error).lower():
        return (
            f"Nothing listens at {address}. Start a server in another terminal:\n\n"
            "    nearlight serve --data ./nearlight-data\n\n"
            "or name one that runs with --server HOST:PORT (or NEARLIGHT_SERVER)."
        )
    if isinstance(error, Unauthenticated):
        return f"error: {error}\nGive a token with --token (or NEARLIGHT_TOKEN)."
    return f"error: {error}"


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
