"""Structured logs: key=value on a terminal, one JSON object a line for machines.

Loggers go through stdlib `logging`, so a program that embeds the server keeps its own settings: nothing is
configured on import, and until `configure` is called only warnings reach stderr.
"""

import logging
import sys
from contextvars import ContextVar
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "json"]

_request: ContextVar[str] = ContextVar("nearlight_request", default="")


def _with_request(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Every line says whose request it is about."""
    if (request_id := _request.get()) and "request_id" not in event:
        event["request_id"] = request_id
    return event


_SHARED: list[Processor] = [
    structlog.stdlib.filter_by_level,
    _with_request,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger named like the module that speaks."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def bind_request(request_id: str) -> None:
    """Whatever this task logs from now on says whose request it is about."""
    _request.set(request_id)


def current_request() -> str:
    """The request that this task works on, "" where there is none; threads get it along with their work."""
    return _request.get()


def configure(level: str, log_format: LogFormat) -> None:
    """Send this server's logs to stderr. Called by the command, not by programs that embed the server.

    Args:
        level: debug, info, warning or error.
        log_format: "console" for people, "json" for machines.
    """
    render: list[Processor] = (
        [structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
        )
    )
    root = logging.getLogger("nearlight")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
