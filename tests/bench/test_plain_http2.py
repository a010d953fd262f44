"""The plain caller against grpcio's own server: what it gets must be what grpcio's caller gets."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tests.bench.plain_http2 import UNAVAILABLE, PlainChannel

PATH = "/some.Service/Digest"


class _Digests(grpc.GenericRpcHandler):
    """Answers with a request's digest many times over; refuses those that begin with "no"."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        assert details.method == PATH
        return grpc.unary_unary_rpc_method_handler(self._digest)

    async def _digest(self, message: bytes, context: Any) -> bytes:
        if message.startswith(b"no"):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", (("more-bin", b"\0\1"),))
        if message == b"deadline":
            return b"%.1f" % context.time_remaining()
        return hashlib.sha256(message).digest() * 10_000


@asynccontextmanager
async def _channel() -> AsyncIterator[tuple[PlainChannel, grpc.aio.Server]]:
    server = grpc.aio.server(handlers=[_Digests()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = await PlainChannel.connect(f"127.0.0.1:{port}", PATH)
    try:
        yield channel, server
    finally:
        channel.close()
        await server.stop(None)


async def test_many_calls_at_once_beyond_every_window_get_their_own_answers() -> None:
    requests = [bytes([i]) * n for i, n in enumerate([0, 1, 16_384, 65_535, 65_536, 1_000_000, 3, 200_000])]
    async with _channel() as (channel, _):
        for _ in range(2):
            replies = await asyncio.gather(*(channel.call(request) for request in requests))
            assert [reply.status for reply in replies] == [0] * len(requests)
            assert [reply.message for reply in replies] == [
                hashlib.sha256(request).digest() * 10_000 for request in requests
            ]


async def test_a_refusal_has_its_status_and_the_server_knows_the_deadline() -> None:
    async with _channel() as (channel, _):
        refused = await channel.call(b"no" * 100_000, 5.0)
        assert (refused.status, refused.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], b"")
        assert 8.5 < float((await channel.call(b"deadline", 9.0)).message) <= 9.0


async def test_calls_under_way_end_with_the_connection() -> None:
    async with _channel() as (channel, _):
        calling = asyncio.create_task(channel.call(b"x" * 1_000_000))
        await asyncio.sleep(0)
        channel.close()
        assert (await calling).status == UNAVAILABLE
