"""Where the figures of a server are read."""

from pydantic import field_validator

from nearlight.server.config_section import Section, check_host_and_port

DEFAULT_LISTEN = "127.0.0.1:9464"


class MetricsConfig(Section):
    """Where the figures of a server are read.

    Args:
        listen: HOST:PORT of `GET /metrics`; "off"; or "auto": 127.0.0.1:9464, and no metrics where that is
            taken; any free port where the server itself picks one. Whoever can connect can read them: they
            hold names of models and collections, and no content.
    """

    listen: str = "auto"

    @field_validator("listen")
    @classmethod
    def _is_an_address_or_a_word(cls, value: str) -> str:
        return value if value in ("auto", "off") else check_host_and_port(value)

    def address(self, *, picks_port: bool) -> str | None:
        """HOST:PORT to listen on, or None.

        Args:
            picks_port: the server itself listens on a port of the system's choice.
        """
        if self.listen == "off":
            return None
        if self.listen != "auto":
            return self.listen
        return "127.0.0.1:0" if picks_port else DEFAULT_LISTEN
