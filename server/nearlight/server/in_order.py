"""Work on several messages of a stream at once, answer in their order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from nearlight.server.errors import NotReady

Request = TypeVar("Request")
Result = TypeVar("Result")


async def in_order(
    requests: AsyncIterator[Request],
    work: Callable[[Request], Awaitable[Result]],
    *,
    in_flight: int,
    stop: asyncio.Event,
) -> AsyncGenerator[Result]:
    """Results in the order of the requests.

    A request is read only when there is room for it, so that flow control holds a fast sender, and a slow
    reader of the results holds the sender too. Close it (`aclosing`) to cancel what is in flight.

    Args:
        requests: the stream.
        work: must not raise but for what should end the stream.
        in_flight: most requests worked on, or waiting to be taken, at once.
        stop: once set, no further request is read; those read are finished first.

    Raises:
        NotReady: stopped before the stream's end.
    """
    tasks: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
    room = asyncio.Semaphore(in_flight)

    async def read() -> None:
        try:
            async for request in _until(stop, requests, room):
                tasks.put_nowait(asyncio.ensure_future(work(request)))
        finally:
            tasks.put_nowait(None)

    reader = asyncio.create_task(read())
    task: asyncio.Task[Result] | None = None
    try:
        while (task := await tasks.get()) is not None:
            yield await task
            room.release()
        await reader
        if stop.is_set():
            raise NotReady("the server is draining; send the rest of the stream again")
    finally:
        left = [reader, *([task] if task else []), *_drained(tasks)]
        for job in left:
            job.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _until(
    stop: asyncio.Event, requests: AsyncIterator[Request], room: asyncio.Semaphore
) -> AsyncIterator[Request]:
    """The requests, each read only when there is room, until the end or until stopped."""
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            await room.acquire()
            following: asyncio.Task[Request | None] = asyncio.create_task(_next(requests))
            try:
                await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
            request = await following if following.done() else None
            if request is None:
                return
            yield request
    finally:
        stopped.cancel()


async def _next(requests: AsyncIterator[Request]) -> Request | None:
    return await anext(requests, None)


def _drained(tasks: "asyncio.Queue[asyncio.Task[Result] | None]") -> list["asyncio.Task[Result]"]:
    """What is left in the queue."""
    left = []
    while not tasks.empty():
        task = tasks.get_nowait()
        if task is not None:
            left.append(task)
    return left
