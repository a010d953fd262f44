"""What a stream sends and what it makes of the answers, without sending; so both clients share it.

A stream keeps its batches in order, answers nothing out of order, knows which batches are not yet answered
(to send them again on a new connection), and puts items that cannot be sent (an unreadable file, a bad id)
among the answers at their place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
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
from nearlight.client.methods import EMBED_STREAM, UPSERT_STREAM, Method
from nearlight.client.plan import checked_size_bytes
from nearlight.client.retry import Attempts, RetryPolicy
from nearlight.client.terms import ANY, UpsertTerms
from nearlight.client.values import EmbeddedInput, Input, ItemError, Limits, Point, PointId, UpsertAck
from nearlight.v1 import embedding_pb2, input_pb2, point_pb2

ItemT = TypeVar("ItemT")
OutT = TypeVar("OutT")
OutT_co = TypeVar("OutT_co", covariant=True)
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)


@dataclass(slots=True)
class Slot:
    """One item of a batch: what is sent of it, or why nothing is."""

    index: int
    id: PointId | None
    message: Message | None
    error: ItemError | None


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

    def sent(self) -> list[Slot]:
        """Returns the items that were sent; the server's indexes count these."""
        return [slot for slot in self.slots if slot.message is not None]

    def errors(self) -> list[ItemError]:
        """Returns the errors of its items, with indexes that count from the start of the stream."""
        found = [slot.error for slot in self.slots if slot.error is not None]
        sent = self.sent()
        if self.failure is not None:
            found += [ItemError(slot.index, *self.failure) for slot in sent]
        elif self.result is not None:
            found += [convert.item_error_from_wire(e, sent[e.index].index) for e in self.result.errors]
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

    def slot(self, index: int, item: ItemT_contra) -> Slot:
        """Returns an item ready to be sent; never raises InvalidInput."""
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
        batch_size: most items of a batch.
        in_flight: most batches not yet answered.
        policy: how often a batch the server refuses is sent again.
        timeout: seconds for one batch, all its tries included.
    """

    kind: StreamKind[ItemT, OutT]
    limits: Limits
    batch_size: int
    in_flight: int
    policy: RetryPolicy
    timeout: float
    _pending: deque[tuple[int, Batch]] = field(default_factory=deque)
    _items: int = 0
    _sequence: int = 0
    _batcher: Batcher[Slot] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("batch_size", "in_flight"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        most = min(self.batch_size, self.limits.max_batch_inputs)
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

    def add(self, item: ItemT) -> Message | None:
        """Takes the next item; returns a request to send, where it completed a batch."""
        slot = self.kind.slot(self._items, item)
        self._items += 1
        size_bytes = 0
        if slot.message is not None:
            try:
                size_bytes = checked_size_bytes(slot.message, self.limits)
            except InvalidInput as error:
                slot = Slot(slot.index, slot.id, None, convert.local_item_error(slot.index, error))
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


@dataclass(frozen=True, slots=True)
class UpsertKind:
    """Points in, one UpsertAck a batch out."""

    collection: str
    terms: UpsertTerms = ANY
    method: Method[Any, Any] = UPSERT_STREAM

    def __post_init__(self) -> None:
        convert.text_for_wire(self.collection)

    def slot(self, index: int, item: Point) -> Slot:
        """Returns a point ready to be sent."""
        try:
            return Slot(index, item.id, convert.point_for_wire(item), None)
        except InvalidInput as error:
            return Slot(index, item.id, None, convert.local_item_error(index, error))

    def request(self, sequence: int, slots: list[Slot]) -> Message:
        """Returns the request of a batch."""
        points = [slot.message for slot in slots if isinstance(slot.message, point_pb2.PointInput)]
        batch = self.terms.on(self.collection)
        batch.points.extend(points)
        return point_pb2.UpsertStreamRequest(sequence=sequence, batch=batch)

    def outputs(self, batch: Batch) -> Iterator[UpsertAck]:
        """Yields the one acknowledgement."""
        ids = tuple(slot.id for slot in batch.slots if slot.id is not None)
        seq, upserted = (batch.result.seq, batch.result.upserted) if batch.result is not None else (0, 0)
        yield UpsertAck(batch.slots[0].index, ids, seq, upserted, tuple(batch.errors()))


@dataclass(frozen=True, slots=True)
class EmbedKind:
    """Inputs in, one EmbeddedInput each out."""

    model: str
    method: Method[Any, Any] = EMBED_STREAM

    def __post_init__(self) -> None:
        convert.text_for_wire(self.model)

    def slot(self, index: int, item: Input) -> Slot:
        """Returns an input ready to be sent."""
        try:
            return Slot(index, None, convert.input_for_wire(item), None)
        except InvalidInput as error:
            return Slot(index, None, None, convert.local_item_error(index, error))

    def request(self, sequence: int, slots: list[Slot]) -> Message:
        """Returns the request of a batch."""
        inputs = [slot.message for slot in slots if isinstance(slot.message, input_pb2.Input)]
        batch = embedding_pb2.EmbedRequest(model=self.model, inputs=inputs)
        return embedding_pb2.EmbedStreamRequest(sequence=sequence, batch=batch)

    def outputs(self, batch: Batch) -> Iterator[EmbeddedInput]:
        """Yields the vector or the error of each input."""
        errors = {error.index: error for error in batch.errors()}
        rows = iter(() if batch.result is None else convert.block_from_wire(batch.result.vectors))
        for slot in batch.slots:
            row = next(rows, None) if slot.message is not None else None
            error = errors.get(slot.index)
            yield EmbeddedInput(slot.index, None if error else row, error)
