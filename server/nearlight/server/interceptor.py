"""Every call passes here: messages are read, and a guard is put around the handler."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from nearlight.server.call_guard import CallGuard, Guards
from nearlight.server.errors import InvalidInput, NotBuilt
from nearlight.server.metrics import observe
from nearlight.server.security.access import Identity

_OPEN_TO_ALL = "/grpc.health.v1.Health/"

Context = grpc.aio.ServicerContext[Any, Any]
Parse = Callable[[bytes], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler, once.

    Args:
        guards: what the guards of all calls share.
    """

    def __init__(self, guards: Guards) -> None:
        self._guards = guards
        self._wrapped: dict[str, tuple[Any, Any]] = {}

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
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(handler, method))
        return known[1]

    def _wrap(self, handler: Any, method: str) -> Any:
        write = observe.timed_reply(handler.response_serializer)
        # Messages come as bytes and are read inside, so that a broken one gets a proper status too.
        if handler.response_streaming:
            serve = self._streaming(handler.stream_stream, handler.request_deserializer, method)
            return grpc.stream_stream_rpc_method_handler(serve, None, write)
        serve = self._unary(handler.unary_unary, handler.request_deserializer, method)
        return grpc.unary_unary_rpc_method_handler(serve, None, write)

    def _unary(self, serve: Any, parse: Parse, method: str) -> Any:
        is_built = iscoroutinefunction(serve)

        async def unary(content: bytes, context: Context) -> Any:
            observe.request(method, len(content))
            async with CallGuard(self._guards, method, context, len(content)):
                if not is_built:
                    raise NotBuilt(f"{method} is not built in this server")
                return await serve(_parsed(content, parse, method), context)

        return unary

    def _streaming(self, serve: Any, parse: Parse, method: str) -> Any:
        is_built = isasyncgenfunction(serve)
        callers = self._guards.callers

        async def parsed(contents: AsyncIterator[bytes], identity: Identity) -> AsyncIterator[Any]:
            async for content in contents:
                observe.request(method, len(content))
                await callers.message(identity.name, len(content))
                yield _parsed(content, parse, method)

        async def streaming(contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with CallGuard(self._guards, method, context, None) as identity:
                if not is_built:
                    raise NotBuilt(f"{method} is not built in this server")
                async with aclosing(serve(parsed(contents, identity), context)) as replies:
                    async for reply in replies:
                        yield reply

        return streaming


def _parsed(content: bytes, parse: Parse, method: str) -> Any:
    """The request.

    Raises:
        InvalidInput: the bytes are no such message, or a string in it is not UTF-8 (a lone surrogate).
    """
    try:
        return parse(content)
    except DecodeError as error:
        raise InvalidInput(f"the request of {method} cannot be read: {error}") from error
