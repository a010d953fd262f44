"""The server that a subcommand talks to: the options that name it, a client of it, its errors for people."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from nearlight.client.address import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from nearlight.client import Client, NearlightError

_Server = Annotated[
    str,
    typer.Option(
        "--server", envvar="NEARLIGHT_SERVER", help="host:port of the server; https://host:port for TLS."
    ),
]
_Token = Annotated[
    str | None,
    typer.Option("--token", envvar="NEARLIGHT_TOKEN", show_default=False, help="Bearer token."),
]
_TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", envvar="NEARLIGHT_TLS_CA", help="PEM file of the authority to trust; means TLS."
    ),
]
_TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        envvar="NEARLIGHT_TLS_CERT",
        help="PEM file of your own certificate, for a server that asks for one; means TLS.",
    ),
]
_TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", envvar="NEARLIGHT_TLS_KEY", help="PEM file of the key of --tls-cert."),
]


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as the options of a command name it. Each field is an option."""

    server: _Server = DEFAULT_ADDRESS
    token: _Token = None
    tls_ca: _TlsCa = None
    tls_cert: _TlsCert = None
    tls_key: _TlsKey = None

    @contextmanager
    def connected(self, max_attempts: int = 6) -> Iterator[Client]:
        """Gives a client; ends the command with a message where a call fails, and quietly on Ctrl-C."""
        from nearlight.client import Client, Connection, NearlightError, RetryPolicy, Tls

        address = self.server.removeprefix("https://").removeprefix("http://").rstrip("/")
        wants_tls = self.tls_ca or self.tls_cert or self.tls_key or self.server.startswith("https://")
        try:
            tls = Tls(ca=self.tls_ca, certificate=self.tls_cert, key=self.tls_key) if wants_tls else None
            retry = RetryPolicy(max_attempts=max_attempts)
            with Client(Connection(address, token=self.token, tls=tls, retry=retry)) as client:
                yield client
        except NearlightError as error:
            typer.echo(explain(error, address), err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


DEFAULT_SERVER = Server()


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a `Server` in the place of its parameter `server`."""
    hints = get_type_hints(command, include_extras=True)
    server_hints = get_type_hints(Server, include_extras=True)
    options = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=one.default,
            annotation=server_hints[one.name],
        )
        for one in fields(Server)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        own = parameter.replace(annotation=hints[parameter.name])
        parameters += options if parameter.name == "server" else [own]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        server = Server(**{option.name: given.pop(option.name) for option in options})
        command(server=server, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def explain(error: NearlightError, address: str) -> str:
    """Returns an error for people: what to do about it, where that is known."""
    from nearlight.client import NotReady, Unauthenticated

    reason = str(error).lower()
    if isinstance(error, NotReady) and "failed to connect" in reason:
        if not ("refused" in reason or "no such file" in reason):
            return (
                f"{address} is there, but takes no connection like this one: {error}\n"
                "Where the server has TLS, give --tls-ca FILE (or NEARLIGHT_TLS_CA), where it asks for "
                "certificates, --tls-cert and --tls-key too; where it has none, leave them out."
            )
        return (
            f"Nothing listens at {address}. Start a server in another terminal:\n\n"
            "    nearlight serve --data ./nearlight-data\n\n"
            "or name one that runs with --server HOST:PORT (or NEARLIGHT_SERVER)."
        )
    if isinstance(error, Unauthenticated):
        return f"error: {error}\nGive a token with --token (or NEARLIGHT_TOKEN)."
    return f"error: {error}"
