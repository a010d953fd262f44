"""The address that a server listens on: who may see and call it, and the gRPC server behind it."""

import grpc

from nearlight.server.call_guard import Guards
from nearlight.server.config import ServerConfig
from nearlight.server.errors import AddressUnusable, ConfigError
from nearlight.server.health import Health
from nearlight.server.interceptor import CallInterceptor
from nearlight.server.log import get_logger
from nearlight.server.security.access import Access
from nearlight.server.security.callers import CallerLimits
from nearlight.server.security.tls import ServerTls
from nearlight.server.security.tokens import Tokens
from nearlight.server.tracing import Tracing

log = get_logger(__name__)


def refuse_if_open(config: ServerConfig) -> None:
    """Strangers may read the wire, or call, only where that was asked for in so many words.

    Raises:
        ConfigError: the server would listen beyond this machine without TLS, or let everyone call.
    """
    if config.is_loopback:
        return
    security, missing = config.security, []
    if not security.has_tls and not security.allow_plaintext:
        missing.append(
            "without TLS everyone on the way can read it: give --tls-cert and --tls-key, "
            "or say --allow-plaintext"
        )
    if not security.knows_callers and not security.allow_anonymous:
        missing.append(
            "without tokens everyone may call: give --tokens-file (see `nearlight token new`) "
            "or --tls-client-ca, or say --allow-anonymous"
        )
    if missing:
        raise ConfigError(f"{config.listen} is open to other machines; " + "; ".join(missing))
    if not security.has_tls:
        log.warning("listening beyond this machine WITHOUT TLS", listen=config.listen)
    if not security.knows_callers:
        log.warning("listening beyond this machine WITHOUT tokens: everyone may call", listen=config.listen)


def grpc_server(config: ServerConfig, health: Health, tracing: Tracing) -> grpc.aio.Server:
    """A gRPC server without services yet.

    Raises:
        ConfigError: the file of tokens is wrong.
    """
    security = config.security
    tokens = Tokens([token.get_secret_value() for token in security.tokens], security.tokens_file)
    access = Access(tokens, has_certificates=security.has_tls)
    return grpc.aio.server(
        interceptors=[CallInterceptor(Guards(health, access, CallerLimits(config.callers), tracing))],
        options=[
            ("grpc.max_receive_message_length", config.limits.max_message_bytes),
            ("grpc.max_send_message_length", config.limits.max_message_bytes),
            # Two servers on one port would share its calls without a word.
            ("grpc.so_reuseport", 0),
        ],
    )


def bind(server: grpc.aio.Server, config: ServerConfig) -> str:
    """Bind the address; returns it with the port that was picked."""
    tls = ServerTls(config.security) if config.security.has_tls else None
    try:
        if tls:
            port = server.add_secure_port(config.listen, tls.credentials())
        else:
            port = server.add_insecure_port(config.listen)
    except RuntimeError:
        port = 0
    if config.listen.startswith("unix:"):
        return config.listen
    if not port:
        raise AddressUnusable(
            f"cannot listen on {config.listen}: the port is in use, or the address is not this machine's; "
            "choose another with --listen (port 0 picks a free one)"
        )
    return f"{config.listen.rpartition(':')[0]}:{port}"
