"""`nearlight token`."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make the bearer tokens that a server lets in.",
)


@app.callback()
def token() -> None:
    """Make the bearer tokens that a server lets in."""


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="Whose it is: 1 to 64 of A-Z a-z 0-9 . _ -", show_default=False)
    ],
    scope: Annotated[
        str,
        typer.Option(help="read (embed, classify, search), write (also change) or admin (also models)."),
    ] = "read",
    file: Annotated[
        Path | None, typer.Option(help="Add its hash to this file, the server's --tokens-file.")
    ] = None,
) -> None:
    """Make a token: it is printed once, and only its hash is kept.

    The token goes to standard output, alone; without --file the line for the server's file goes to standard
    error. A server reads its file again within a second of a change; to revoke a token, delete its line.

    **Examples**

    - `nearlight token new alice --file tokens`
    - `nearlight token new indexer --scope write --file tokens > indexer.token`
    """
    from nearlight.server.errors import ConfigError
    from nearlight.server.security.scopes import Scope
    from nearlight.server.security.tokens import new_token

    try:
        secret, known = new_token(name, Scope.of(scope))
        if file:
            add_line(file, known.line(), name)
    except (ConfigError, ValueError) as error:
        typer.echo(f"nearlight token: {error}", err=True)
        raise typer.Exit(2) from None
    if not file:
        typer.echo(known.line(), err=True)
    typer.echo(secret)


def add_line(file: Path, line: str, name: str) -> None:
    """Add a token's line to a file, made if missing; a server never sees half of it.

    Raises:
        ConfigError: the file cannot be read or written, is wrong already, or has the name.
    """
    from nearlight.server.errors import ConfigError
    from nearlight.server.security.tokens import read_tokens

    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        before = ""
        if file.exists():
            if any(token.name == name for token in read_tokens(file)):
                raise ConfigError(f"{file} has a token named {name!r} already")
            before = file.read_text(encoding="utf-8")
        if before and not before.endswith("\n"):
            before += "\n"
        partial.touch(mode=0o600)
        partial.write_text(f"{before}{line}\n", encoding="utf-8")
        if file.exists():
            partial.chmod(file.stat().st_mode & 0o777)
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
