"""What sections of the configuration share: frozen, no unknown keys, and how lists are read."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def split_commas(value: Any) -> Any:
    """The environment has no lists: "a,b" means two."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def is_loopback(listen: str) -> bool:
    """Whether only this machine can connect to a listen address."""
    host = listen.rpartition(":")[0].strip("[]")
    return listen.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def check_host_and_port(value: str) -> str:
    """The value, where it is HOST:PORT; raises ValueError where it is not."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{value!r} is not HOST:PORT with a port of 0 to 65535")
    return value
