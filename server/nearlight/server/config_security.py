"""Who may call, how the wire is protected, and how much one caller may ask for."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from nearlight.server.config_section import CountOrNone, Rate, Section, split_commas

MIN_TOKEN_CHARACTERS = 16


class SecurityConfig(Section):
    """Who may call, and how the wire is protected. The files are read again when they change.

    Args:
        tls_cert_file: PEM chain of the server; switches TLS on, with tls_key_file.
        tls_key_file: PEM key of the server.
        tls_client_ca_file: PEM of the authorities that sign client certificates; switches mutual TLS on.
        tokens: a call must carry `authorization: Bearer <one of these>`; each has every right.
        tokens_file: one line `NAME SCOPE SHA256` for each token, as `nearlight token new` writes it.
        allow_plaintext: listen beyond this machine without TLS.
        allow_anonymous: listen beyond this machine without tokens and without client certificates.
        reflection: whether callers may list services and messages.
    """

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    tokens_file: Path | None = None
    allow_plaintext: bool = False
    allow_anonymous: bool = False
    reflection: bool = True

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("tokens")
    @classmethod
    def _no_short_token(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(token.get_secret_value()) < MIN_TOKEN_CHARACTERS for token in value):
            raise ValueError(f"a token is shorter than {MIN_TOKEN_CHARACTERS} characters")
        return value

    @model_validator(mode="after")
    def _key_and_certificate_together(self) -> "SecurityConfig":
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together; one of them is missing")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether the wire is encrypted."""
        return self.tls_cert_file is not None

    @property
    def has_tokens(self) -> bool:
        """Whether a call must carry a token."""
        return bool(self.tokens) or self.tokens_file is not None

    @property
    def knows_callers(self) -> bool:
        """Whether strangers are kept out, by tokens or by client certificates."""
        return self.has_tokens or self.tls_client_ca_file is not None


class CallersConfig(Section):
    """What one caller may ask for; 0: no bound. Beyond it: RESOURCE_EXHAUSTED with the delay to wait.

    A caller is a token; without tokens a client certificate's common name, else a host. Messages of a stream
    that come faster than the rates are not refused but read later.

    Args:
        max_in_flight: calls at once; a stream is one call.
        max_requests_per_second: calls and messages of streams, averaged over a second.
        max_bytes_per_second: of requests, averaged over a second; one larger than that passes alone.
    """

    max_in_flight: CountOrNone = 0
    max_requests_per_second: Rate = 0.0
    max_bytes_per_second: CountOrNone = 0
