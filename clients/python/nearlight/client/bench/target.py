"""The server that is measured: requests made beforehand, answers counted."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from nearlight.client.bench.load import Ask
from nearlight.client.bench.results import Answer, Raw
from nearlight.client.transport import Connection
from nearlight.v1 import embedding_pb2, input_pb2

METHOD = "/nearlight.v1.EmbeddingService/Embed"
_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def requests_of(inputs: Sequence[Raw], batch: int, model: str, *, use_cache: bool) -> list[bytes]:
    """Returns requests of `batch` inputs each, as bytes: making them is not the server's work.

    Args:
        inputs: taken round and round until every one has been in a request.
        batch: inputs of a request, >= 1.
        model: name, "" for the default.
        use_cache: let the server answer from its cache; else each input is computed.
    """
    endless = itertools.cycle(inputs)
    cache = input_pb2.CacheOptions(skip_read=not use_cache, skip_write=not use_cache)
    requests = []
    for _ in range(-(-len(inputs) // batch)):
        messages = [
            input_pb2.Input(text=item) if isinstance(item, str) else input_pb2.Input(image=item)
            for item in itertools.islice(endless, batch)
        ]
        request = embedding_pb2.EmbedRequest(model=model, inputs=messages, cache=cache)
        requests.append(request.SerializeToString())
    return requests


@asynccontextmanager
async def asking(connection: Connection, requests: Sequence[bytes]) -> AsyncIterator[Ask]:
    """Gives a function that sends the next request, over one channel, with the connection's timeout."""
    endless = itertools.cycle(requests)
    async with connection.async_channel() as channel:
        embed: Any = channel.unary_unary(METHOD, response_deserializer=embedding_pb2.EmbedResponse.FromString)

        async def ask() -> Answer:
            try:
                reply = await embed(next(endless), timeout=connection.timeout, metadata=connection.metadata())
            except grpc.aio.AioRpcError as error:
                return Answer(0, (error.code().name,))
            failures = tuple(_NAMES.get(error.code, "UNKNOWN") for error in reply.errors)
            return Answer(reply.vectors.count - len(failures), failures)

        yield ask
