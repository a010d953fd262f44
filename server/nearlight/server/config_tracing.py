"""Where traces of calls are sent."""

from typing import Annotated

from pydantic import Field, field_validator

from nearlight.server.config_section import Section


class TracingConfig(Section):
    """Where traces of calls are sent; needs the extra `otel`.

    Args:
        endpoint: of an OpenTelemetry collector that speaks OTLP over gRPC, "http://HOST:4317" without TLS or
            "https://HOST:4317"; "": no traces.
        sample_share: of calls that are traced, 0 to 1, where the caller has not decided it (`traceparent`).
    """

    endpoint: str = ""
    sample_share: Annotated[float, Field(ge=0, le=1)] = 1.0

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is not http://HOST:PORT or https://HOST:PORT")
        return value
