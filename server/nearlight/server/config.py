"""What can be set about a server: defaults < TOML file < environment < flags.

In the environment a key is NEARLIGHT_SERVE_<KEY>, and NEARLIGHT_SERVE_<SECTION>__<KEY> inside a section:
`NEARLIGHT_SERVE_LISTEN=127.0.0.1:0`, `NEARLIGHT_SERVE_BATCHING__MAX_IMAGES=8`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nearlight.server.threads import cpu_budget

ENV_PREFIX = "NEARLIGHT_SERVE_"
ENV_NESTING = "__"
MIB = 1024 * 1024

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitsConfig(_Section):
    """What a request may ask for. Beyond it: INVALID_ARGUMENT with field, value and limit.

    Args:
        max_message_bytes: one gRPC message; a larger one is RESOURCE_EXHAUSTED from gRPC itself.
        max_batch_inputs: inputs of one Embed, images of one Classify, points of one Upsert, ids of one Get.
        max_image_bytes: one encoded image.
        max_image_pixels: width x height, read from the header before decoding.
        max_text_bytes: one text in UTF-8; tokens past the model's context are cut.
        max_payload_bytes: one point's payload.
        max_query_limit: `limit` + `offset` of a Query.
        max_batch_queries: queries of one QueryBatch.
        max_labels: labels of one Classify.
        max_templates: templates of one Classify.
        max_stream_in_flight: batches of one stream worked on at once.
        max_concurrent_calls: calls of all callers together.
        queue_inputs: inputs of calls inside one tower's pipeline, waiting ones included; more are Overloaded.
            As many again may be of streams, which wait for room instead.
    """

    max_message_bytes: Count = 64 * MIB
    max_batch_inputs: Count = 256
    max_image_bytes: Count = 32 * MIB
    max_image_pixels: Count = 64_000_000
    max_text_bytes: Count = 32 * 1024
    max_payload_bytes: Count = 64 * 1024
    max_query_limit: Count = 10_000
    max_batch_queries: Count = 64
    max_labels: Count = 10_000
    max_templates: Count = 256
    max_stream_in_flight: Count = 8
    max_concurrent_calls: Count = 1024
    queue_inputs: Count = 1024

    @model_validator(mode="after")
    def _a_full_call_fits_the_queue(self) -> "LimitsConfig":
        if self.queue_inputs < self.max_batch_inputs:
            raise ValueError(
                f"queue_inputs is {self.queue_inputs}, less than max_batch_inputs {self.max_batch_inputs}: "
                "a full call could never be let in"
            )
        return self


class BatchingConfig(_Section):
    """How inputs share a run of the engine. There is no waiting time: an idle engine starts at once.

    Args:
        max_images: images of one batch.
        max_texts: texts of one batch.
        text_lengths: token lengths a text is padded to, where the model allows trimming; the model's context
            length always joins them.
    """

    max_images: Count = 16
    max_texts: Count = 32
    text_lengths: tuple[Count, ...] = (8, 16, 24, 32, 48, 77)


class EngineConfig(_Section):
    """What runs the models.

    Args:
        provider: "auto" takes CUDA where it works, else the CPU; "cuda" refuses to start without it.
        threads: per ONNX Runtime session; 0: all cores of this process's cgroup and affinity.
        decode_threads: for decoding images and tokenising texts; 0: as many as cores.
        prototype_cache_entries: label lists whose vectors are kept for Classify.
    """

    provider: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    decode_threads: Annotated[int, Field(ge=0)] = 0
    prototype_cache_entries: Count = 64

    @property
    def session_threads(self) -> int:
        """Threads of one session."""
        return self.threads or cpu_budget()

    @property
    def preparing_threads(self) -> int:
        """Threads that decode and tokenise."""
        return self.decode_threads or cpu_budget()


class SecurityConfig(_Section):
    """Who may call, and how the wire is protected.

    Args:
        tls_cert_file: PEM chain of the server; switches TLS on, with tls_key_file.
        tls_key_file: PEM key of the server.
        tls_client_ca_file: PEM of the authorities that sign client certificates; switches mutual TLS on.
        tokens: a call must carry `authorization: Bearer <one of these>`; none: every caller is let in.
        reflection: whether callers may list services and messages.
    """

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    reflection: bool = True

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: Any) -> Any:
        return _split_commas(value)

    @field_validator("tokens")
    @classmethod
    def _no_empty_token(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(token.get_secret_value()) < 16 for token in value):
            raise ValueError("a token is shorter than 16 characters")
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


class LogConfig(_Section):
    """What is logged to stderr. At `debug` every call has a line with its timings."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class ServerConfig(BaseSettings):
    """Everything that can be set about a server.

    Args:
        listen: host:port; port 0 picks a free one. An absolute path after "unix:" is a socket file.
        data_folder: where collections live; made if missing.
        bundles: folders or names of models to serve, the first is the default; none: the bundle shipped with
            Nearlight.
        drain_seconds: how long work in flight may go on after SIGTERM.
        store_threads: threads that read and write collections.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_NESTING
    )

    listen: str = "127.0.0.1:50051"
    data_folder: Path = Path("nearlight-data")
    bundles: Annotated[tuple[str, ...], NoDecode] = ()
    drain_seconds: Seconds = 30.0
    store_threads: Count = 4
    limits: LimitsConfig = LimitsConfig()
    batching: BatchingConfig = BatchingConfig()
    engine: EngineConfig = EngineConfig()
    security: SecurityConfig = SecurityConfig()
    log: LogConfig = LogConfig()

    @field_validator("bundles", mode="before")
    @classmethod
    def _split_bundles(cls, value: Any) -> Any:
        return _split_commas(value)

    @field_validator("listen")
    @classmethod
    def _has_host_and_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value.startswith("unix:/"):
            return value
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{value!r} is not HOST:PORT with a port of 0 to 65535")
        return value

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        host = self.listen.rpartition(":")[0].strip("[]")
        return self.listen.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def _split_commas(value: Any) -> Any:
    """The environment has no lists: "a,b" means two."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )
