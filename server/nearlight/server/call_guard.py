"""Around one call: readiness, tokens, limits, the mapping of errors to status, figures, one log line."""

import logging
import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from nearlight.server.errors import Overloaded
from nearlight.server.health import Health
from nearlight.server.log import bind_request, get_logger
from nearlight.server.metrics import observe
from nearlight.server.security.access import Access, Identity
from nearlight.server.security.callers import CallerLimits
from nearlight.server.status import code_of, status_of
from nearlight.server.tracing import Tracing

log = get_logger(__name__)
_levels = logging.getLogger(__name__)  # asked of every call, and quicker to answer

_WITHOUT_PHASE = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_REQUEST_ID = "x-request-id"
# Where gRPC carries a google.rpc.Status.
_DETAILS = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Guards:
    """What the guards of all calls share.

    Args:
        health: knows whether calls are taken, and counts them.
        access: knows who may call.
        callers: knows how much each may ask for.
        tracing: makes the calls' traces.
    """

    health: Health
    access: Access
    callers: CallerLimits
    tracing: Tracing


class CallGuard:
    """Counts, times and logs a call, and turns what it raises into a status.

    Used as `async with`; gives the caller's identity. A class, and not a generator with a `try`: every call
    passes here, and under overload refusals are most of what the event loop does.

    Args:
        guards: shared.
        method: full name.
        context: of the call.
        n_bytes: of the request, None for a stream.
    """

    __slots__ = (
        "_caller", "_context", "_entered", "_guards", "_has_begun", "_method", "_n_bytes", "_request_id",
        "_started", "_trace",
    )  # fmt: skip

    def __init__(self, guards: Guards, method: str, context: Context, n_bytes: int | None) -> None:
        self._guards = guards
        self._method = method
        self._context = context
        self._n_bytes = n_bytes
        self._started = time.monotonic()
        self._caller = ""
        self._has_begun = False
        self._entered: AbstractContextManager[None] | None = None

    async def __aenter__(self) -> Identity:
        metadata = dict(self._context.invocation_metadata() or ())
        self._request_id = _request_id(metadata)
        bind_request(self._request_id)
        self._trace = self._guards.tracing.begin(self._method, metadata, self._request_id)
        try:
            return self._admitted(metadata)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise

    def _admitted(self, metadata: dict[str, Any]) -> Identity:
        guards = self._guards
        identity = guards.access.admit(self._method, metadata, self._context)
        self._caller = identity.name
        if not self._method.startswith(_WITHOUT_PHASE):
            guards.health.begin_call()
            self._has_begun = True
        entered = guards.callers.call(identity.name, self._n_bytes)
        entered.__enter__()
        self._entered = entered
        observe.call_began()
        return identity

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            self._entered.__exit__(None, None, None)
            observe.call_left()
        # Neither answered nor failed: the caller went away and the call was cancelled.
        status = "CANCELLED"
        try:
            if error is None:
                status = "OK"
                self._log(logging.DEBUG, "call", status)
            elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
                status = code_of(error).name
                await self._refuse(error, status)
        finally:
            observe.call_ended(self._method, status, time.monotonic() - self._started)
            self._trace.end(status, self._caller)
            if self._has_begun:
                self._guards.health.end_call()

    async def _refuse(self, error: Exception, status: str) -> None:
        """Answer with an error.

        Raises:
            AbortError: always; gRPC ends the call with it.
        """
        observe.rejected(error)
        if status == "INTERNAL":
            self._log(logging.ERROR, "call failed", status, exc_info=error)
        else:
            # Of overload the figures tell; a line for each refusal would add to it.
            level = logging.DEBUG if isinstance(error, Overloaded) else logging.INFO
            self._log(level, "call refused", status, reason=str(error))
        rich = status_of(error)
        trailing = ((_DETAILS, rich.SerializeToString()), (_REQUEST_ID, self._request_id))
        await self._context.abort(code_of(error), rich.message, trailing)

    def _log(self, level: int, event: str, status: str, **more: object) -> None:
        if not _levels.isEnabledFor(level):
            return
        log.log(
            level,
            event,
            method=self._method,
            request_id=self._request_id,
            peer=self._context.peer(),
            caller=self._caller,
            status=status,
            ms=round((time.monotonic() - self._started) * 1e3, 3),
            **more,
        )


def _request_id(metadata: dict[str, Any]) -> str:
    """The caller's own id for the request, for the log, or a new one."""
    given = str(metadata.get(_REQUEST_ID, ""))[:64]
    return given if given and given.isascii() and given.isprintable() else os.urandom(6).hex()
