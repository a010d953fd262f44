"""Makes the calls of plans and streams in asyncio: deadlines, retries, order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio

from nearlight.client.errors import NearlightError, NotReady, TooLate, from_rpc
from nearlight.client.methods import Call
from nearlight.client.plan import Plan, Server
from nearlight.client.retry import Attempts
from nearlight.client.streams import Stream, StreamBroken, StreamKind
from nearlight.client.transport import Connection
from nearlight.client.values import Limits

T = TypeVar("T")
ItemT = TypeVar("ItemT")
OutT = TypeVar("OutT")

_END: Any = object()


class AsyncCaller:
    """A channel, and what is known of the server behind it.

    Attributes:
        connection: how to reach it.
        server: what the client learned about it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = Server(connection.in_flight)
        self._channel = connection.async_channel()

    async def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        await self._channel.close()

    async def run(self, plan: Plan[T], timeout: float | None) -> T:
        """Makes the calls of a plan; returns its result."""
        timeout = self.connection.timeout if timeout is None else timeout
        try:
            calls = next(plan)
            while True:
                try:
                    replies = await self._call_all(calls, timeout)
                except NearlightError as error:
                    calls = plan.throw(error)
                else:
                    calls = plan.send(replies)
        except StopIteration as finished:
            result: T = finished.value
            return result

    async def _call_all(self, calls: list[Call[Any]], timeout: float) -> list[Any]:
        if len(calls) == 1:
            return [await self._call(calls[0], timeout)]
        tasks = [asyncio.ensure_future(self._call(call, timeout)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _call(self, call: Call[Any], timeout: float) -> Any:
        attempts = Attempts(self.connection.retry, timeout, call.method.repeatable)
        make = self._channel.unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        metadata = self.connection.metadata()
        while True:
            try:
                return await make(call.request, timeout=attempts.remaining_seconds(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                await asyncio.sleep(attempts.delay_seconds(from_rpc(error)))

    async def stream(
        self,
        kind: StreamKind[ItemT, OutT],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        in_flight: int,
        timeout: float | None,
    ) -> AsyncIterator[OutT]:
        """Yields what a stream answers, over as many connections as it takes."""
        timeout = self.connection.timeout if timeout is None else timeout
        limits = await self.run(self.server.limits_for(2), timeout)
        policy = self.connection.retry
        window = Stream(kind, limits, in_flight, policy, timeout)
        source = _pieces(kind, items, limits)
        attempts = Attempts(policy, math.inf)  # a slow source of items is no reason to give up
        while True:
            try:
                async with aclosing(self._one_connection(window, source, attempts, timeout)) as answers:
                    async for answer in answers:
                        yield answer
                return
            except StreamBroken as broken:
                await asyncio.sleep(attempts.delay_seconds(broken.error))

    async def _one_connection(
        self, stream: Stream[ItemT, OutT], source: AsyncIterator[Any], attempts: Attempts, timeout: float
    ) -> AsyncGenerator[OutT, None]:
        requests: asyncio.Queue[Any] = asyncio.Queue()
        for request in stream.unanswered():
            requests.put_nowait(request)
        method = stream.kind.method
        call = self._channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.reply.FromString,
        )(_until_none(requests), metadata=self.connection.metadata())
        try:
            is_exhausted = False
            while not (is_exhausted and stream.is_idle()):
                while not is_exhausted and stream.has_room():
                    piece = await anext(source, _END)
                    is_exhausted = piece is _END
                    next_request = stream.finish() if is_exhausted else stream.add(piece)
                    if next_request is not None:
                        requests.put_nowait(next_request)
                    for output in stream.outputs():
                        yield output
                if not stream.is_idle():
                    again = stream.answer(await _next_response(call, timeout))
                    attempts.succeeded()
                    if again is not None:
                        await asyncio.sleep(again[0])
                        requests.put_nowait(again[1])
                for output in stream.outputs():
                    yield output
        finally:
            requests.put_nowait(None)
            call.cancel()


async def _until_none(requests: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (request := await requests.get()) is not None:
        yield request


async def _pieces(
    kind: StreamKind[ItemT, OutT], items: Iterable[ItemT] | AsyncIterable[ItemT], limits: Limits
) -> AsyncIterator[Any]:
    async for item in items if isinstance(items, AsyncIterable) else _as_async(items):
        for piece in kind.pieces(item, limits):
            yield piece


async def _as_async(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    for item in items:
        yield item


async def _next_response(call: Any, timeout: float) -> Any:
    """Returns a stream's next response; raises StreamBroken where there is none, TooLate where it is late."""
    try:
        response = await asyncio.wait_for(call.read(), timeout)
    except grpc.aio.AioRpcError as error:
        raise StreamBroken(from_rpc(error)) from None
    except TimeoutError:
        raise TooLate(f"no answer from the stream within {timeout:g} s") from None
    if response is grpc.aio.EOF:
        raise StreamBroken(NotReady("the server ended the stream before it answered everything"))
    return response
