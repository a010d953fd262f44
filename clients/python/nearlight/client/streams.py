"""What a stream sends and what it makes of the answers, without sending; so both clients share it.

A stream keeps its batches in order, answers nothing out of order, knows which batches are not yet answered
(to send them again on a new connection), and puts items that cannot be sent (an unreadable file, a bad id)
among the answers at their place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from nearlight.client import convert
from nearlight.client.batching import Batcher, room_bytes
from nearlight.client.errors import (
    InvalidInput,
    NearlightError,
    Overloaded,
    ServerFailure,
    TooLate,
    from_code,
)
from nearlight.client.methods import Method
from nearlight.client.plan import checked_size_bytes
from nearlight.client.retry import Attempts, RetryPolicy
from nearlight.client.values import ItemError, Limits, PointId

ItemT = TypeVar("ItemT")
OutT = TypeVar("OutT")
OutT_co = TypeVar("OutT_co", covariant=True)
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)


@dataclass(slots=True)
class Slot:
    """What is sent in one piece: an item, or the rows of a block.

    Attributes:
        index: position of its first item in the stream.
        ids: of its items, where they have some.
        message: what is sent of it; None: nothing.
        sent: positions in the stream of the items in the message.
        errors: why its other items are not sent.
    """

    index: int
    ids: tuple[PointId, ...]
    message: Message | None
    sent: Sequence[int]
    errors: tuple[ItemError, ...] = ()

    @property
    def items(self) -> int:
        """How many items of the stream it stands for."""
        return len(self.sent) + len(self.errors)

    def refused(self, error: InvalidInput) -> Slot:
        """Returns the slot with nothing to send."""
        refused = tuple(convert.local_item_error(index, error) for index in self.sent)
        return Slot(self.index, self.ids, None, (), self.errors + refused)


@dataclass(slots=True)
class Batch:
    """Items sent together.

    Attributes:
        slots: all items, those that are not sent included.
        request: None where no item can be sent.
        attempts: tries of this batch, for the server may refuse one and take the next.
        result: the server's answer; None until it came.
        failure: why the whole batch failed, for each of its items.
    """

    slots: list[Slot]
    request: Message | None
    attempts: Attempts
    result: Any = None
    failure: tuple[str, str] | None = None

    def is_answered(self) -> bool:
        """Returns whether nothing more is awaited of it."""
        return self.request is None or self.result is not None or self.failure is not None

    def sent(self) -> list[int]:
        """Returns the positions of the items that were sent; the server's indexes count these."""
        return [index for slot in self.slots if slot.message is not None for index in slot.sent]

    def errors(self) -> list[ItemError]:
        """Returns the errors of its items, with indexes that count from the start of the stream."""
        found = [error for slot in self.slots for error in slot.errors]
        if self.failure is not None:
            found += [ItemError(index, *self.failure) for index in self.sent()]
        elif self.result is not None and self.result.errors:
            sent = self.sent()
            found += [convert.item_error_from_wire(e, sent[e.index]) for e in self.result.errors]
        return sorted(found, key=lambda error: error.index)


class StreamBroken(Exception):
    """A stream's connection ended before everything was answered; never leaves the client."""

    def __init__(self, error: NearlightError) -> None:
        super().__init__(str(error))
        self.error = error


class StreamKind(Protocol[ItemT_contra, OutT_co]):
    """What differs between the streams."""

    @property
    def method(self) -> Method[Any, Any]:
        """The RPC."""
        ...

    def batch_items(self, limits: Limits) -> int:
        """Returns the most slots of a request."""
        ...

    def pieces(self, item: ItemT_contra, limits: Limits) -> Iterable[Any]:
        """Yields what an item becomes a slot each of."""
        ...

    def slot(self, index: int, item: Any) -> Slot:
        """Returns a piece ready to be sent; never raises InvalidInput."""
        ...

    def request(self, sequence: int, slots: list[Slot]) -> Message:
        """Returns the request of a batch."""
        ...

    def outputs(self, batch: Batch) -> Iterable[OutT_co]:
        """Returns what the caller gets for an answered batch."""
        ...


@dataclass(slots=True)
class Stream(Generic[ItemT, OutT]):
    """A window of batches over an endless row of items.

    Attributes:
        kind: upsert or embed.
        limits: of the server.
        in_flight: most batches not yet answered.
        policy: how often a batch the server refuses is sent again.
        timeout: seconds for one batch, all its tries included.
    """

    kind: StreamKind[ItemT, OutT]
    limits: Limits
    in_flight: int
    policy: RetryPolicy
    timeout: float
    _pending: deque[tuple[int, Batch]] = field(default_factory=deque)
    _items: int = 0
    _sequence: int = 0
    _batcher: Batcher[Slot] = field(init=False)

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise InvalidInput(f"in_flight is {self.in_flight}; it must be at least 1")
        most = self.kind.batch_items(self.limits)
        self._batcher = Batcher(most, room_bytes(self.limits.max_message_bytes))

    def has_room(self) -> bool:
        """Returns whether another batch may be sent."""
        return sum(not batch.is_answered() for _, batch in self._pending) < self.in_flight and (
            len(self._pending) < 2 * self.in_flight
        )

    def is_idle(self) -> bool:
        """Returns whether everything sent was answered."""
        return not self.unanswered()

    def unanswered(self) -> list[Message]:
        """Returns the requests that were sent and not answered, in order."""
        return [b.request for _, b in self._pending if not b.is_answered() and b.request is not None]

    def add(self, piece: Any) -> Message | None:
        """Takes the next piece of an item; returns a request to send, where it completed a batch."""
        slot = self.kind.slot(self._items, piece)
        self._items += slot.items
        size_bytes = 0
        if slot.message is not None:
            try:
                size_bytes = checked_size_bytes(slot.message, self.limits)
            except InvalidInput as error:
                slot = slot.refused(error)
        return self._send(self._batcher.add(slot, size_bytes))

    def finish(self) -> Message | None:
        """Ends the row of items; returns the last request, where there is one."""
        return self._send(self._batcher.flush())

    def answer(self, response: Any) -> tuple[float, Message] | None:
        """Takes an answer; returns (seconds to wait, request to send again) where the server was too full.

        Raises:
            NearlightError: the batch failed in a way that the next ones will, too.
        """
        batch = next((b for n, b in self._pending if n == response.sequence), None)
        if batch is None or batch.is_answered():
            raise ServerFailure(f"the server answered batch {response.sequence}, which was not asked for")
        if response.HasField("result"):
            batch.result = response.result
            return None
        error, wait_ms = response.error, response.error.retry_after_ms
        failure = from_code(error.code, error.message, wait_ms / 1000 if wait_ms else None)
        if isinstance(failure, Overloaded) and wait_ms and batch.request is not None:
            return batch.attempts.delay_seconds(failure), batch.request
        if not isinstance(failure, InvalidInput | ServerFailure | TooLate):
            raise failure
        batch.failure = (convert.code_name(error.code), error.message)
        return None

    def outputs(self) -> Iterator[OutT]:
        """Yields what can be given to the caller now: the answered batches at the head of the row."""
        while self._pending and self._pending[0][1].is_answered():
            _, batch = self._pending.popleft()
            yield from self.kind.outputs(batch)

    def _send(self, slots: list[Slot] | None) -> Message | None:
        if slots is None:
            return None
        self._sequence += 1
        sendable = any(slot.message is not None for slot in slots)
        request = self.kind.request(self._sequence, slots) if sendable else None
        self._pending.append((self._sequence, Batch(slots, request, Attempts(self.policy, self.timeout))))
        return request
