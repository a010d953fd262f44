"""Points that bring their vectors, checked many at once instead of one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearlight.server.call import F32
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.values import check_count, dtype_of
from nearlight.server.errors import InvalidInput, ServerError
from nearlight.store import InvalidPoint, PointBlock, checked_block
from nearlight.v1 import point_id_pb2, point_pb2, vector_pb2

_PATHS = {"id": "ids", "vector": "vectors", "payload": "payloads_json"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The points of a request: the good ones, their places in it, and the failed ones with theirs."""

    points: PointBlock
    indexes: list[int]
    failed: list[tuple[int, ServerError]]


def columns_of(request: point_pb2.UpsertRequest, dim: int, limits: LimitsConfig) -> Columns | None:
    """The points of a request that brings a block, or nothing but sound vectors; None for any other request.

    Args:
        request: of 1 to so many points as the limits say.
        dim: of the collection.
        limits: of the server.

    Raises:
        InvalidInput: the columns of a block do not fit each other, or the collection.
    """
    if request.HasField("block"):
        return _of_block(request.block, dim, limits)
    return _of_points(request.points, dim, limits)


def _of_block(block: point_pb2.PointBlock, dim: int, limits: LimitsConfig) -> Columns:
    n = len(block.ids)
    check_count(n, limits.max_block_points, "block.ids")
    payloads = block.payloads_json
    if payloads and len(payloads) != n:
        field = "block.payloads_json"
        raise InvalidInput(f"{field} holds {len(payloads)} items; it must be none, or {n}", field=field)
    vectors = _rows(block.vectors, n, dim)
    points, kept, faults = checked_block(
        _ids(block.ids), vectors, payloads, max_payload_bytes=limits.max_payload_bytes
    )
    return Columns(points, kept, [(fault.index or 0, _told(fault)) for fault in faults])


def _of_points(messages: Sequence[point_pb2.PointInput], dim: int, limits: LimitsConfig) -> Columns | None:
    """None also where a point is at fault, for whoever looks at them one by one says more."""
    vectors = [message.vector for message in messages if message.WhichOneof("source") == "vector"]
    dtypes, dims = {one.dtype for one in vectors}, {one.dim for one in vectors}
    if len(vectors) < len(messages) or len(dtypes) > 1 or not dims <= {0, dim}:
        return None
    dtype = dtype_of(dtypes.pop(), "points[0].vector.dtype")
    parts = [one.data for one in vectors]
    if {len(part) for part in parts} != {dim * dtype.itemsize}:
        return None
    rows: F32 = np.frombuffer(b"".join(parts), dtype).reshape(-1, dim).astype(np.float32, copy=False)
    ids = _ids([message.id for message in messages])
    payloads = [message.payload_json for message in messages]
    points, kept, faults = checked_block(ids, rows, payloads, max_payload_bytes=limits.max_payload_bytes)
    return None if faults else Columns(points, kept, [])


def _ids(messages: Sequence[point_id_pb2.PointId]) -> list[str | int]:
    """Ids; "" for one that is not set, which nobody takes."""
    return [one.num if one.WhichOneof("id") == "num" else one.str for one in messages]


def _rows(block: vector_pb2.VectorBlock, n: int, dim: int) -> F32:
    """Vectors (N, D), as they came.

    Raises:
        InvalidInput: not N rows of the collection's dim.
    """
    field = "block.vectors"
    dtype = dtype_of(block.dtype, f"{field}.dtype")
    if block.count != n:
        raise InvalidInput(f"{field}.count is {block.count}, but there are {n} ids", field=f"{field}.count")
    if block.dim != dim:
        raise InvalidInput(f"{field}.dim is {block.dim}; the collection's is {dim}", field=f"{field}.dim")
    wanted = n * dim * dtype.itemsize
    if len(block.data) != wanted:
        reason = f"{field}.data has {len(block.data)} bytes; {n} rows of dim {dim} have {wanted}"
        raise InvalidInput(reason, field=f"{field}.data")
    rows: F32 = np.frombuffer(block.data, dtype).reshape(n, dim).astype(np.float32, copy=False)
    return rows


def _told(fault: InvalidPoint) -> InvalidInput:
    """A fault of the store in the words of the wire: `points[3].vector` is row 3 of a column here."""
    name, _, rest = fault.field.partition(".")[2].partition(".")
    field = f"block.{_PATHS[name]}[{fault.index}]{rest and '.'}{rest}"
    return InvalidInput(f"{field} is {fault.value}; {fault.limit}", field=field)
