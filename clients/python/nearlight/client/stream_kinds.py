"""What differs between streams: how items become requests, and what the caller gets for an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nearlight.client import convert
from nearlight.client.errors import InvalidInput
from nearlight.client.methods import EMBED_STREAM, UPSERT_STREAM, Method
from nearlight.client.streams import Batch, Slot
from nearlight.client.terms import ANY, UpsertTerms
from nearlight.client.values import EmbeddedInput, Input, Limits, Point, UpsertAck
from nearlight.v1 import embedding_pb2, input_pb2, point_pb2


def check_batch_size(batch_size: int) -> None:
    """Raises InvalidInput where no batch could hold an item."""
    if batch_size < 1:
        raise InvalidInput(f"batch_size is {batch_size}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class UpsertKind:
    """Points in, one UpsertAck a batch out."""

    collection: str
    terms: UpsertTerms = ANY
    batch_size: int = 32
    method: Method[Any, Any] = UPSERT_STREAM

    def __post_init__(self) -> None:
        convert.text_for_wire(self.collection)
        check_batch_size(self.batch_size)

    def batch_items(self, limits: Limits) -> int:
        """Returns the most points of a request."""
        return min(self.batch_size, limits.max_batch_inputs)

    def pieces(self, item: Point, limits: Limits) -> Iterable[Point]:
        """Returns the point."""
        return (item,)

    def slot(self, index: int, item: Point) -> Slot:
        """Returns a point ready to be sent."""
        try:
            return Slot(index, (item.id,), convert.point_for_wire(item), (index,))
        except InvalidInput as error:
            return Slot(index, (item.id,), None, (), (convert.local_item_error(index, error),))

    def request(self, sequence: int, slots: list[Slot]) -> point_pb2.UpsertStreamRequest:
        """Returns the request of a batch."""
        points = [slot.message for slot in slots if isinstance(slot.message, point_pb2.PointInput)]
        batch = self.terms.on(self.collection)
        batch.points.extend(points)
        return point_pb2.UpsertStreamRequest(sequence=sequence, batch=batch)

    def outputs(self, batch: Batch) -> Iterator[UpsertAck]:
        """Yields the one acknowledgement."""
        ids = tuple(point_id for slot in batch.slots for point_id in slot.ids)
        seq, upserted = (batch.result.seq, batch.result.upserted) if batch.result is not None else (0, 0)
        yield UpsertAck(batch.slots[0].index, ids, seq, upserted, tuple(batch.errors()))


@dataclass(frozen=True, slots=True)
class EmbedKind:
    """Inputs in, one EmbeddedInput each out."""

    model: str
    batch_size: int = 32
    method: Method[Any, Any] = EMBED_STREAM

    def __post_init__(self) -> None:
        convert.text_for_wire(self.model)
        check_batch_size(self.batch_size)

    def batch_items(self, limits: Limits) -> int:
        """Returns the most inputs of a request."""
        return min(self.batch_size, limits.max_batch_inputs)

    def pieces(self, item: Input, limits: Limits) -> Iterable[Input]:
        """Returns the input."""
        return (item,)

    def slot(self, index: int, item: Input) -> Slot:
        """Returns an input ready to be sent."""
        try:
            return Slot(index, (), convert.input_for_wire(item), (index,))
        except InvalidInput as error:
            return Slot(index, (), None, (), (convert.local_item_error(index, error),))

    def request(self, sequence: int, slots: list[Slot]) -> embedding_pb2.EmbedStreamRequest:
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
