"""Addresses, TLS, tokens, and the channels made of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from nearlight.client.address import DEFAULT_ADDRESS
from nearlight.client.errors import InvalidInput
from nearlight.client.retry import RetryPolicy

DEFAULT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards the server.

    Attributes:
        ca: PEM file of the authorities to trust; None: those gRPC ships.
        certificate: PEM file of the client's own certificate chain, for mTLS; together with ``key``.
        key: PEM file of its private key.
        server_name: name the server's certificate must hold, where it is not the address.
    """

    ca: os.PathLike[str] | str | None = None
    certificate: os.PathLike[str] | str | None = None
    key: os.PathLike[str] | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("TLS needs certificate and key together, or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the channel credentials; raises InvalidInput where a file cannot be read."""
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.certificate))


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a server, and how long to try.

    Attributes:
        address: "host:port", or any gRPC target.
        token: bearer token, sent with every call; it is a secret and never shown.
        tls: None: plaintext.
        timeout: seconds for each RPC, its retries included; in a stream, for each batch. > 0.
        retry: when to try again.
        in_flight: RPCs of one list that may be under way at the same time, >= 1.
    """

    address: str = DEFAULT_ADDRESS
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    in_flight: int = 4

    def __post_init__(self) -> None:
        if not self.address:
            raise InvalidInput("address is empty; it must be host:port")
        if not self.timeout > 0:
            raise InvalidInput(f"timeout is {self.timeout} s; it must be above 0")
        if self.in_flight < 1:
            raise InvalidInput(f"in_flight is {self.in_flight}; it must be at least 1")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def options(self) -> list[tuple[str, str | int]]:
        """Returns the channel's options."""
        options: list[tuple[str, str | int]] = [
            # The server's limit is the one that counts; gRPC's own 4 MiB would cut replies.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # A server that restarts is found again within two seconds, not within gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def channel(self) -> grpc.Channel:
        """Opens a channel; it connects with the first call."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=self.options())
        return grpc.secure_channel(self.address, self.tls.credentials(), options=self.options())

    def async_channel(self) -> grpc.aio.Channel:
        """Opens a channel for asyncio, in the running loop; it connects with the first call."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=self.options())
        return grpc.aio.secure_channel(self.address, self.tls.credentials(), options=self.options())


def _pem(path: os.PathLike[str] | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {os.fspath(path)!r}: {error.strerror or error}") from None
