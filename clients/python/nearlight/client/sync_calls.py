"""Makes the calls of plans and streams, blocking: deadlines, retries, order."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import grpc

from nearlight.client.errors import NearlightError, NotReady, TooLate, from_rpc
from nearlight.client.methods import Call
from nearlight.client.plan import Plan, Server
from nearlight.client.retry import Attempts
from nearlight.client.streams import Stream, StreamBroken, StreamKind
from nearlight.client.transport import Connection

T = TypeVar("T")
ItemT = TypeVar("ItemT")
OutT = TypeVar("OutT")

_END: Any = object()


class Caller:
    """A channel, and what is known of the server behind it.

    Attributes:
        connection: how to reach it.
        server: what the client learned about it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = Server(connection.in_flight)
        self._channel = connection.channel()

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self._channel.close()

    def run(self, plan: Plan[T], timeout: float | None) -> T:
        """Makes the calls of a plan; returns its result."""
        timeout = self.connection.timeout if timeout is None else timeout
        try:
            calls = next(plan)
            while True:
                try:
                    replies = self._call_all(calls, timeout)
                except NearlightError as error:
                    calls = plan.throw(error)
                else:
                    calls = plan.send(replies)
        except StopIteration as finished:
            result: T = finished.value
            return result

    def _call_all(self, calls: list[Call[Any]], timeout: float) -> list[Any]:
        if len(calls) == 1:
            return [self._call(calls[0], timeout)]
        with ThreadPoolExecutor(self.connection.in_flight, "nearlight-call") as threads:
            return list(threads.map(lambda call: self._call(call, timeout), calls))

    def _call(self, call: Call[Any], timeout: float) -> Any:
        attempts = Attempts(self.connection.retry, timeout, call.method.repeatable)
        make = self._channel.unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        metadata = self.connection.metadata()
        while True:
            try:
                return make(call.request, timeout=attempts.remaining_seconds(), metadata=metadata)
            except grpc.RpcError as error:
                time.sleep(attempts.delay_seconds(from_rpc(error)))

    def stream(
        self,
        kind: StreamKind[ItemT, OutT],
        items: Iterable[ItemT],
        in_flight: int,
        timeout: float | None,
    ) -> Iterator[OutT]:
        """Yields what a stream answers, over as many connections as it takes."""
        timeout = self.connection.timeout if timeout is None else timeout
        limits = self.run(self.server.limits_for(2), timeout)
        policy = self.connection.retry
        window = Stream(kind, limits, in_flight, policy, timeout)
        source = (piece for item in items for piece in kind.pieces(item, limits))
        attempts = Attempts(policy, math.inf)  # a slow source of items is no reason to give up
        while True:
            try:
                yield from self._one_connection(window, source, attempts, timeout)
                return
            except StreamBroken as broken:
                time.sleep(attempts.delay_seconds(broken.error))

    def _one_connection(
        self, stream: Stream[ItemT, OutT], source: Iterator[Any], attempts: Attempts, timeout: float
    ) -> Iterator[OutT]:
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in stream.unanswered():
            requests.put(request)
        method = stream.kind.method
        call = self._channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.reply.FromString,
        )(iter(requests.get, None), metadata=self.connection.metadata())
        try:
            is_exhausted = False
            while not (is_exhausted and stream.is_idle()):
                while not is_exhausted and stream.has_room():
                    piece = next(source, _END)
                    is_exhausted = piece is _END
                    next_request = stream.finish() if is_exhausted else stream.add(piece)
                    if next_request is not None:
                        requests.put(next_request)
                    yield from stream.outputs()
                if not stream.is_idle():
                    again = stream.answer(_next_response(call, timeout))
                    attempts.succeeded()
                    if again is not None:
                        time.sleep(again[0])
                        requests.put(again[1])
                yield from stream.outputs()
        finally:
            requests.put(None)  # lets gRPC's sending thread go
            call.cancel()


def _next_response(call: Any, timeout: float) -> Any:
    """Returns a stream's next response; raises StreamBroken where there is none, TooLate where it is late."""
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        call.cancel()

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        with suppress(StopIteration):
            return next(call)
    except grpc.RpcError as error:
        if is_late.is_set():
            raise TooLate(f"no answer from the stream within {timeout:g} s") from None
        raise StreamBroken(from_rpc(error)) from None
    finally:
        timer.cancel()
    raise StreamBroken(NotReady("the server ended the stream before it answered everything"))
