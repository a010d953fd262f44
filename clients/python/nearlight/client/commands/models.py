"""`nearlight models`."""

from __future__ import annotations

import dataclasses

from nearlight.client.address import DEFAULT_ADDRESS
from nearlight.client.commands.terminal import (
    JsonOption,
    ServerOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TokenOption,
    connected,
    print_json,
    print_table,
)


def models(
    server: ServerOption = DEFAULT_ADDRESS,
    token: TokenOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the models a server has loaded.

    **Examples**

    - `nearlight models`
    - `nearlight models --server 10.0.0.5:50051 --json`
    """
    with connected(server, token, tls_ca, tls_cert, tls_key) as client:
        found = client.models()
    if as_json:
        print_json([dataclasses.asdict(model) for model in found])
        return
    headers = ["model", ">dim", "towers", ">image px", ">tokens", "precision", "runs on"]
    rows = [
        (
            model.name + (" (default)" if model.is_default else ""),
            model.dim,
            "+".join(model.towers),
            model.image_px,
            model.context_length or "-",
            model.precision,
            model.provider.removesuffix("ExecutionProvider") if model.state == "ready" else model.state,
        )
        for model in found
    ]
    print_table(headers, rows)
