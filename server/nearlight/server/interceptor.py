"""Around every call: readiness, tokens, limits, the mapping of errors to status, figures, one log line."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from nearlight.server.errors import InvalidInput, NotBuilt
from nearlight.server.health import Health
from nearlight.server.log import bind_request, get_logger
from nearlight.server.metrics import observe
from nearlight.server.security.access import Access, Identity
from nearlight.server.security.callers import CallerLimits
from nearlight.server.status import code_of, status_of
from nearlight.server.tracing import Tracing

log = get_logger(__name__)

_OPEN_TO_ALL = "/grpc.health.v1.Health/"
_WITHOUT_PHASE = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_REQUEST_ID = "x-request-id"

Context = grpc.aio.ServicerContext[Any, Any]
Parse = Callable[[bytes], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler.

    Args:
        health: knows whether calls are taken, and counts them.
        access: knows who may call.
        callers: knows how much each may ask for.
        tracing: makes the calls' traces.
    """

    def __init__(self, health: Health, access: Access, callers: CallerLimits, tracing: Tracing) -> None:
        self._health = health
        self._access = access
        self._callers = callers
        self._tracing = tracing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler with everything around it; None stays None, and gRPC answers UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_OPEN_TO_ALL):
            return handler
        write = observe.timed_reply(handler.response_serializer)
        # Messages come as bytes and are read inside, so that a broken one gets a proper status too.
        if handler.response_streaming:
            serve = self._streaming(handler.stream_stream, handler.request_deserializer, method)
            return grpc.stream_stream_rpc_method_handler(serve, None, write)
        serve = self._unary(handler.unary_unary, handler.request_deserializer, method)
        return grpc.unary_unary_rpc_method_handler(serve, None, write)

    def _unary(self, serve: Any, parse: Parse, method: str) -> Any:
        async def unary(content: bytes, context: Context) -> Any:
            observe.request(method, len(content))
            async with self._around(method, context, len(content)):
                if not iscoroutinefunction(serve):
                    raise NotBuilt(f"{method} is not built in this server")
                return await serve(_parsed(content, parse, method), context)

        return unary

    def _streaming(self, serve: Any, parse: Parse, method: str) -> Any:
        async def parsed(contents: AsyncIterator[bytes], identity: Identity) -> AsyncIterator[Any]:
            async for content in contents:
                observe.request(method, len(content))
                await self._callers.message(identity.name, len(content))
                yield _parsed(content, parse, method)

        async def streaming(contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with self._around(method, context, None) as identity:
                if not isasyncgenfunction(serve):
                    raise NotBuilt(f"{method} is not built in this server")
                async with aclosing(serve(parsed(contents, identity), context)) as replies:
                    async for reply in replies:
                        yield reply

        return streaming

    @asynccontextmanager
    async def _around(self, method: str, context: Context, n_bytes: int | None) -> AsyncIterator[Identity]:
        """Count, time and log the call; turn what it raises into a status.

        Args:
            method: full name.
            context: of the call.
            n_bytes: of the request, None for a stream.
        """
        started = time.monotonic()
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        request_id = _request_id(metadata)
        call = log.bind(method=method, request_id=request_id, peer=context.peer())
        bind_request(request_id)
        trace, caller = self._tracing.begin(method, metadata, request_id), ""
        counts = not method.startswith(_WITHOUT_PHASE)
        # Neither answered nor failed: the caller went away and the call was cancelled.
        begun, status = False, "CANCELLED"
        try:
            identity = self._access.admit(method, metadata, context)
            caller = identity.name
            call = call.bind(caller=caller)
            if counts:
                self._health.begin_call()
                begun = True
            with self._callers.call(identity.name, n_bytes), observe.call_in_flight():
                yield identity
            status = "OK"
            call.debug("call", status=status, ms=_ms_since(started))
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            status = code_of(error).name
            observe.rejected(error)
            if status == "INTERNAL":
                call.error("call failed", status=status, ms=_ms_since(started), exc_info=True)
            else:
                call.info("call refused", status=status, ms=_ms_since(started), reason=str(error))
            answer = rpc_status.to_status(status_of(error))
            named = (*answer.trailing_metadata, (_REQUEST_ID, request_id))
            await context.abort_with_status(answer._replace(trailing_metadata=named))
        finally:
            observe.call_ended(method, status, time.monotonic() - started)
            trace.end(status, caller)
            if begun:
                self._health.end_call()


def _parsed(content: bytes, parse: Parse, method: str) -> Any:
    """The request.

    Raises:
        InvalidInput: the bytes are no such message, or a string in it is not UTF-8 (a lone surrogate).
    """
    try:
        return parse(content)
    except DecodeError as error:
        raise InvalidInput(f"the request of {method} cannot be read: {error}") from error


def _request_id(metadata: dict[str, Any]) -> str:
    """The caller's own id for the request, for the log, or a new one."""
    given = str(metadata.get(_REQUEST_ID, ""))[:64]
    return given if given and given.isascii() and given.isprintable() else uuid.uuid4().hex[:12]


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1e3, 3)
