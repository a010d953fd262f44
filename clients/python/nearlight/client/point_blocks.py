"""Points that come as columns, for bulk writes: a matrix of vectors is sent as one block, not row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.client import convert
from nearlight.client.batching import room_bytes
from nearlight.client.errors import InvalidInput
from nearlight.client.methods import UPSERT_STREAM, Method
from nearlight.client.stream_kinds import UpsertKind
from nearlight.client.streams import Batch, Slot
from nearlight.client.terms import ANY, UpsertTerms
from nearlight.client.values import ItemError, Limits, Point, PointId, UpsertAck, describe
from nearlight.v1 import point_pb2, vector_pb2

# What a row takes beside its vector and payload, at least; an id of text takes more.
_ROW_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class PointBlock:
    """Points to write, as columns.

    Attributes:
        ids: N, see PointId; a numpy array of integers will do.
        vectors: (N, D) numbers; each row finite and not all zero, stored at unit length. float16 is sent
            as it is, anything else as float32.
        payloads: N, each a mapping or JSON text; None: all are {}.
    """

    ids: Sequence[PointId] | npt.NDArray[Any]
    vectors: npt.ArrayLike
    payloads: Sequence[Mapping[str, Any] | str] | None = None

    def __post_init__(self) -> None:
        try:
            matrix = np.asarray(self.vectors)
            numbers = matrix.astype("<f2" if matrix.dtype == np.float16 else "<f4", copy=False)  # (N, D)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"vectors of {describe(self.vectors)} are not numbers: {error}") from None
        if numbers.ndim != 2 or not numbers.shape[1]:
            raise InvalidInput(f"vectors have shape {numbers.shape}; it must be (rows, dim)")
        object.__setattr__(self, "vectors", numbers)
        if isinstance(self.ids, np.ndarray):
            object.__setattr__(self, "ids", self.ids.tolist())
        for name, column in (("ids", self.ids), ("payloads", self.payloads)):
            if column is not None and len(column) != len(numbers):
                raise InvalidInput(f"{name} holds {len(column)} items, vectors has {len(numbers)} rows")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def matrix(self) -> npt.NDArray[Any]:
        """The vectors (N, D) as they are sent."""
        return np.asarray(self.vectors)

    def rows(self, start: int, stop: int) -> PointBlock:
        """Returns some of the points; nothing is copied."""
        payloads = None if self.payloads is None else self.payloads[start:stop]
        return PointBlock(self.ids[start:stop], self.matrix[start:stop], payloads)

    def points(self) -> Iterator[Point]:
        """Yields the points one by one."""
        for i, row in enumerate(self.matrix):
            payload = {} if self.payloads is None else self.payloads[i]
            plain = convert.json_from_wire(payload.encode()) if isinstance(payload, str) else payload
            yield Point(self.ids[i], plain, vector=row)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a block, ready to be sent.

    Attributes:
        ids: of all rows.
        message: of those that can be sent.
        kept: which these are.
        errors: why the others cannot; indexes count the rows.
    """

    ids: tuple[PointId, ...]
    message: point_pb2.PointBlock
    kept: Sequence[int]
    errors: tuple[ItemError, ...]


def piece_of(block: PointBlock) -> Piece:
    """Returns a block ready to be sent."""
    ids, payloads, kept, errors = [], [], list[int](), list[ItemError]()
    for i, point_id in enumerate(block.ids):
        try:
            wire_id = convert.id_for_wire(point_id)
            if block.payloads is not None:
                payloads.append(_payload_for_wire(block.payloads[i]))
        except InvalidInput as error:
            errors.append(convert.local_item_error(i, error))
        else:
            ids.append(wire_id)
            kept.append(i)
    matrix = block.matrix[kept] if errors else block.matrix  # (N, D)
    vectors = vector_pb2.VectorBlock(
        data=matrix.tobytes(),
        dtype=vector_pb2.DTYPE_F16 if matrix.dtype == np.float16 else vector_pb2.DTYPE_F32,
        dim=matrix.shape[1],
        count=len(matrix),
    )
    message = point_pb2.PointBlock(ids=ids, vectors=vectors, payloads_json=payloads)
    return Piece(tuple(block.ids), message, kept, tuple(errors))


def _payload_for_wire(payload: Mapping[str, Any] | str) -> bytes:
    if isinstance(payload, str):
        return convert.text_for_wire(payload).encode()
    return convert.json_for_wire(payload)


@dataclass(frozen=True, slots=True)
class BlockKind:
    """Blocks in, one UpsertAck a request out; single points where the server takes no blocks."""

    collection: str
    terms: UpsertTerms = ANY
    block_points: int = 1024
    method: Method[Any, Any] = UPSERT_STREAM

    def __post_init__(self) -> None:
        convert.text_for_wire(self.collection)
        if self.block_points < 1:
            raise InvalidInput(f"block_points is {self.block_points}; it must be at least 1")

    def batch_items(self, limits: Limits) -> int:
        """Returns how many pieces a request holds."""
        return 1 if limits.max_block_points else min(self.block_points, limits.max_batch_inputs)

    def pieces(self, item: PointBlock, limits: Limits) -> Iterable[Piece | Point]:
        """Yields the parts of a block that are sent by themselves."""
        if not limits.max_block_points:
            yield from item.points()
            return
        room = room_bytes(limits.max_message_bytes)
        fit = max(1, room // (item.matrix.itemsize * item.matrix.shape[1] + _ROW_BYTES))
        most = min(self.block_points, limits.max_block_points, fit)
        for at in range(0, len(item), most):
            yield from _fitting(item.rows(at, at + most), room)

    def slot(self, index: int, item: Piece | Point) -> Slot:
        """Returns a piece ready to be sent."""
        if isinstance(item, Point):
            return self._points().slot(index, item)
        errors = tuple(ItemError(index + one.index, one.code, one.message) for one in item.errors)
        sent = [index + i for i in item.kept] if errors else range(index, index + len(item.ids))
        return Slot(index, item.ids, item.message if item.kept else None, sent, errors)

    def request(self, sequence: int, slots: list[Slot]) -> point_pb2.UpsertStreamRequest:
        """Returns the request of a batch."""
        message = slots[0].message
        if not isinstance(message, point_pb2.PointBlock):
            return self._points().request(sequence, slots)
        batch = self.terms.on(self.collection)
        batch.block.CopyFrom(message)
        return point_pb2.UpsertStreamRequest(sequence=sequence, batch=batch)

    def outputs(self, batch: Batch) -> Iterator[UpsertAck]:
        """Yields the one acknowledgement."""
        return self._points().outputs(batch)

    def _points(self) -> UpsertKind:
        return UpsertKind(self.collection, self.terms, self.block_points)


def _fitting(block: PointBlock, room: int) -> Iterator[Piece]:
    """Yields a block in as many parts as it takes for each to fit a message."""
    piece = piece_of(block)
    if len(block) == 1 or piece.message.ByteSize() <= room:
        yield piece
        return
    middle = len(block) // 2
    yield from _fitting(block.rows(0, middle), room)
    yield from _fitting(block.rows(middle, len(block)), room)
