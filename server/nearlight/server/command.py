"""`nearlight serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def serve(
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder or name of a model; repeatable, the first is the default. Default: nearlight-tiny."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the collections; made if missing. Default: nearlight-data.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT; port 0 picks a free one. Default: 127.0.0.1:50051.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file, in the form that --print-config prints.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the configuration and exit.")
    ] = False,
    provider: Annotated[str | None, typer.Option(help="auto, cpu, cuda or tensorrt. Default: auto.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, or GPUs, such as cuda:0,cuda:1. Default: by --provider."),
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(help="Engines per model tower and device. Default: 1.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each engine. Default: all cores, shared between sessions.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="tuned, auto, onnxruntime or openvino. Default: tuned (see `nearlight tune`)."),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or int8. Default: auto.")] = None,
    model_folder: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose bundles `nearlight models load` may load; repeatable."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Keeps collections: embedded, milvus or qdrant. Default: embedded.")
    ] = None,
    milvus_uri: Annotated[
        str | None, typer.Option(help="http://HOST:19530, or a file .db for Milvus Lite.")
    ] = None,
    milvus_token: Annotated[str | None, typer.Option(help="USER:PASSWORD or API key of Milvus.")] = None,
    qdrant_url: Annotated[
        str | None, typer.Option(help="http://HOST:6333, or a folder for the local mode.")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="Time for calls in flight to finish. Default: 30.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain: switches TLS on.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of --tls-cert.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM authorities that sign client certificates.")
    ] = None,
    tokens_file: Annotated[
        Path | None, typer.Option(help="Tokens that are let in, as `nearlight token new` writes them.")
    ] = None,
    allow_plaintext: Annotated[
        bool | None, typer.Option("--allow-plaintext", help="Listen beyond this machine without TLS.")
    ] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Listen beyond this machine without tokens.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="HOST:PORT of Prometheus metrics, or off. Default: 127.0.0.1:9464.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. Default: info.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json. Default: console.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as section.key=value; repeatable.")
    ] = None,
) -> None:
    """Serve models and collections over gRPC, until SIGTERM or Ctrl-C.

    Every setting can stand in a TOML file (--config) or in the environment, as NEARLIGHT_SERVE_LISTEN or
    NEARLIGHT_SERVE_LIMITS__MAX_IMAGE_BYTES. Flags win over the environment, that over the file.

    Beyond this machine a server listens only with TLS and with tokens or client certificates, unless told
    otherwise. Tokens: --tokens-file, or NEARLIGHT_SERVE_SECURITY__TOKENS with commas between them, each of at
    least 16 characters (no flag: other users of the machine could read it).

    Exit codes: 0 stopped, 2 configuration, 3 bundle, 4 data folder, 5 address, 6 engine.

    **Examples**

    - `nearlight serve`
    - `nearlight serve --bundle ./my-bundle --data ./data --listen 127.0.0.1:50051`
    - `nearlight serve --listen 0.0.0.0:50051 --tls-cert cert.pem --tls-key key.pem --tokens-file tokens`
    - `nearlight serve --store milvus --milvus-uri http://milvus:19530`
    - `nearlight serve --set batching.max_images=8 --set limits.max_image_bytes=8000000 --print-config`
    """
    given: dict[str, Any] = {
        "bundles": tuple(bundle) if bundle else None,
        "data_folder": data,
        "listen": listen,
        "model_folders": tuple(model_folder) if model_folder else None,
        "store.engine": store,
        "store.milvus_uri": milvus_uri,
        "store.milvus_token": milvus_token,
        "store.qdrant_url": qdrant_url,
        "drain_seconds": drain_seconds,
        "engine.provider": provider,
        "engine.devices": device,
        "engine.sessions": sessions,
        "engine.threads": threads,
        "engine.runtime": runtime,
        "engine.precision": precision,
        "security.tls_cert_file": tls_cert,
        "security.tls_key_file": tls_key,
        "security.tls_client_ca_file": tls_client_ca,
        "security.tokens_file": tokens_file,
        "security.allow_plaintext": allow_plaintext or None,
        "security.allow_anonymous": allow_anonymous or None,
        "metrics.listen": metrics,
        "log.level": log_level,
        "log.format": log_format,
    }
    _start(config, given, setting or [], print_config)


def _start(file: Path | None, given: dict[str, Any], settings: list[str], print_config: bool) -> None:
    """Read the configuration and serve; a StartError is one line on stderr and an exit code."""
    from nearlight.server.config_layers import as_toml, flag_layer, load_config
    from nearlight.server.errors import StartError

    try:
        configuration = load_config(file, flag_layer(given, settings))
        if print_config:
            typer.echo(as_toml(configuration), nl=False)
            return
        from nearlight.server.run import run

        run(configuration)
    except StartError as error:
        typer.echo(f"nearlight serve: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
