"""A plan says which RPCs a call is made of, without making them; so the sync and the async client share it.

A plan is a generator. It yields lists of calls, which may be made at the same time; it is sent the list of
their replies, in the same order, or thrown the NearlightError that one of them met; it returns the result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias, TypeVar, cast

from google.protobuf.message import Message

from nearlight.client import convert
from nearlight.client.batching import room_bytes
from nearlight.client.errors import Forbidden, InvalidInput, Unsupported
from nearlight.client.methods import LIST_MODELS, Call, Reply
from nearlight.client.values import ItemError, Limits
from nearlight.v1.model_pb2 import ListModelsRequest

T = TypeVar("T")
S = TypeVar("S")
M = TypeVar("M", bound=bytes | Message)

Plan: TypeAlias = Generator[list[Call[Any]], list[Any], T]

# For calls that cannot be split, so that nobody asks the server for its limits only to learn nothing.
_UNBOUNDED = Limits(max_message_bytes=2**31 - 1, max_batch_inputs=2**31 - 1)


def ask(call: Call[Reply]) -> Plan[Reply]:
    """Makes one call and returns its reply."""
    (reply,) = yield [call]
    return cast(Reply, reply)


@dataclass(slots=True)
class Server:
    """What a client knows of its server.

    Attributes:
        in_flight: calls of one list that may be made at the same time, >= 1.
        limits: as the server advertises them; None until they were needed.
    """

    in_flight: int
    limits: Limits | None = None

    def limits_for(self, items: int) -> Plan[Limits]:
        """Returns the limits that a list of so many items must respect, asking the server the first time."""
        if self.limits is None:
            if items <= 1:
                return _UNBOUNDED
            try:
                reply = yield from ask(LIST_MODELS(ListModelsRequest(page_size=1)))
                self.limits = convert.limits_from_wire(reply.limits)
            except (Forbidden, Unsupported):
                self.limits = Limits()
        return self.limits


def sendable(
    items: Iterable[S], to_wire: Callable[[S], M], limits: Limits, failed: list[ItemError]
) -> Iterator[tuple[tuple[int, M], int]]:
    """Yields ((index, message), size in bytes) of the items that can be sent; the others go to ``failed``."""
    for index, item in enumerate(items):
        try:
            message = to_wire(item)
            size_bytes = checked_size_bytes(message, limits)
        except InvalidInput as error:
            failed.append(convert.local_item_error(index, error))
        else:
            yield (index, message), size_bytes


def checked_size_bytes(message: bytes | Message, limits: Limits) -> int:
    """Returns a message's size; raises InvalidInput where no batch could hold it."""
    size_bytes = len(message) if isinstance(message, bytes) else message.ByteSize()
    room = room_bytes(limits.max_message_bytes)
    if size_bytes > room:
        raise InvalidInput(f"the item takes {size_bytes} bytes; the server's message limit leaves {room}")
    return size_bytes


def waves(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yields lists of up to ``size`` items, so that only so many are in memory and under way."""
    while wave := list(islice(items, size)):
        yield wave
