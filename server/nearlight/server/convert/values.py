"""Small things that many messages share: ids, vectors, payloads, failures, times, pages."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from google.protobuf.message import Message

from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, StageTimes
from nearlight.server.errors import InvalidInput, ServerError
from nearlight.server.status import message_of, number_of, retry_after_ms
from nearlight.store import PointId
from nearlight.v1 import input_pb2, point_id_pb2, vector_pb2

_DTYPES: dict[int, np.dtype[Any]] = {
    vector_pb2.DTYPE_UNSPECIFIED: np.dtype("<f4"),
    vector_pb2.DTYPE_F32: np.dtype("<f4"),
    vector_pb2.DTYPE_F16: np.dtype("<f2"),
}

AnyMessage = TypeVar("AnyMessage", bound=Message)


class Sized(Protocol):
    """A reply's part that knows how many bytes it takes."""

    def ByteSize(self) -> int:
        """Bytes on the wire."""
        ...


class Enumeration(Protocol):
    """A generated enum."""

    def Name(self, number: Any) -> str:
        """Its name; ValueError for a number that has none."""
        ...


def enum_name(enumeration: Enumeration, number: int, field: str) -> str:
    """The name of an enum's value: on the wire it may be any number.

    Raises:
        InvalidInput: no such value.
    """
    try:
        return enumeration.Name(number)
    except ValueError:
        raise InvalidInput(f"{field} is {number}, which has no meaning", field=field) from None


def dtype_of(dtype: int, field: str) -> np.dtype[Any]:
    """The numpy type of a wire dtype.

    Raises:
        InvalidInput: unknown value.
    """
    if dtype not in _DTYPES:
        raise InvalidInput(f"{field} is {dtype}; it must be 1 (F32) or 2 (F16)", field=field)
    return _DTYPES[dtype]


def vector_of(message: vector_pb2.Vector, field: str, dim: int | None = None) -> F32:
    """A vector (D,) float32, checked.

    Args:
        message: as it came.
        field: its path, for messages.
        dim: what it must be; None: whatever it is.

    Raises:
        InvalidInput: bytes that do not fit the dtype or dim, a NaN or infinity, or all zeros.
    """
    dtype = dtype_of(message.dtype, f"{field}.dtype")
    n_bytes = len(message.data)
    if not n_bytes or n_bytes % dtype.itemsize:
        reason = f"{field}.data has {n_bytes} bytes; it must be a positive multiple of {dtype.itemsize}"
        raise InvalidInput(reason, field=field)
    vector: F32 = np.frombuffer(message.data, dtype).astype(np.float32)  # (D,)
    if message.dim and message.dim != len(vector):
        raise InvalidInput(f"{field}.dim is {message.dim}, but data holds {len(vector)} numbers", field=field)
    if dim is not None and len(vector) != dim:
        raise InvalidInput(f"{field} has dim {len(vector)}; the collection's is {dim}", field=field)
    if 0 < np.dot(vector, vector) < np.inf:
        return vector
    if not np.isfinite(vector).all():
        at = int((~np.isfinite(vector)).argmax())
        raise InvalidInput(f"{field}[{at}] is {vector[at]}; every number must be finite", field=field)
    if not vector.any():
        raise InvalidInput(f"{field} is all zeros; its length must not be zero", field=field)
    return vector


def vector_message(vector: F32, dtype: int) -> vector_pb2.Vector:
    """A vector on the wire."""
    kind = vector_pb2.DTYPE_F16 if dtype == vector_pb2.DTYPE_F16 else vector_pb2.DTYPE_F32
    data = vector.astype(_DTYPES[dtype]).tobytes()
    return vector_pb2.Vector(data=data, dtype=kind, dim=len(vector))


def block_message(rows: F32, dtype: int) -> vector_pb2.VectorBlock:
    """Rows (N, D) on the wire."""
    kind = vector_pb2.DTYPE_F16 if dtype == vector_pb2.DTYPE_F16 else vector_pb2.DTYPE_F32
    data = rows.astype(_DTYPES[dtype]).tobytes()
    return vector_pb2.VectorBlock(data=data, dtype=kind, dim=rows.shape[1], count=rows.shape[0])


def point_id_of(message: point_id_pb2.PointId, field: str) -> PointId:
    """A point's id, checked.

    Raises:
        InvalidInput: none set, empty, or longer than 512 bytes.
    """
    which = message.WhichOneof("id")
    if which == "num":
        return message.num
    if which is None:
        raise InvalidInput(f"{field} is not set; it must hold str or num", field=field)
    n_bytes = len(message.str.encode())
    if not 1 <= n_bytes <= 512:
        raise InvalidInput(f"{field}.str has {n_bytes} bytes; the limit is 1 to 512", field=field)
    return message.str


def point_id_message(point_id: PointId) -> point_id_pb2.PointId:
    """A point's id on the wire."""
    if isinstance(point_id, str):
        return point_id_pb2.PointId(str=point_id)
    return point_id_pb2.PointId(num=point_id)


def json_bytes(value: Any) -> bytes:
    """A JSON value on the wire."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def item_error(index: int, error: ServerError) -> input_pb2.ItemError:
    """Why one item failed."""
    return input_pb2.ItemError(
        index=index, code=number_of(error), message=message_of(error), field=error.field
    )


def batch_error(error: Exception) -> input_pb2.BatchError:
    """Why one batch of a stream failed."""
    return input_pb2.BatchError(
        code=number_of(error), message=message_of(error), retry_after_ms=retry_after_ms(error)
    )


def timings(
    total_ms: float, times: StageTimes | None = None, *, search_ms: float = 0.0, write_ms: float = 0.0
) -> input_pb2.Timings:
    """Where the time went."""
    times = times or StageTimes()
    return input_pb2.Timings(
        total_ms=total_ms,
        decode_ms=times.decode_ms,
        queue_ms=times.queue_ms,
        infer_ms=times.infer_ms,
        search_ms=search_ms,
        write_ms=write_ms,
    )


def cache_use(options: input_pb2.CacheOptions) -> CacheUse:
    """How a call uses the cache of vectors."""
    return CacheUse(read=not options.skip_read, write=not options.skip_write)


def check_count(n: int, limit: int, field: str) -> None:
    """Check the length of a list.

    Raises:
        InvalidInput: not 1 to `limit`.
    """
    if not 1 <= n <= limit:
        raise InvalidInput(f"{field} holds {n} items; the limit is 1 to {limit}", field=field)


def page_size_of(given: int, *, default: int, largest: int, field: str) -> int:
    """How many items a page may hold; 0 means `default`.

    Raises:
        InvalidInput: more than `largest`.
    """
    if given > largest:
        raise InvalidInput(f"{field} is {given}; the limit is 1 to {largest}, 0 means {default}", field=field)
    return given or default


def page_after(names: Sequence[str], token: str, size: int) -> tuple[list[str], str]:
    """One page of sorted names, and the token of the next page ("" for none): the last name seen."""
    rest = [name for name in names if name > token]
    page = rest[:size]
    return page, page[-1] if len(rest) > size else ""


def fitting(parts: Iterable[Sized], max_bytes: int) -> int:
    """How many parts fit one message, at least 1 where there are any.

    Args:
        parts: messages that would become one reply.
        max_bytes: of the reply; a little is kept for what surrounds the parts.
    """
    room = max_bytes - 4096
    n = 0
    for part in parts:
        room -= part.ByteSize() + 8
        if room < 0 and n:
            break
        n += 1
    return n


def cut(parts: Any, n_bytes: int, max_bytes: int) -> int | None:
    """Drop the last parts of a reply that is too large, but never the first one.

    Args:
        parts: its repeated field.
        n_bytes: of the reply.
        max_bytes: see `fitting`.

    Returns:
        How many are left; None where all are.
    """
    if n_bytes + 8 * len(parts) <= max_bytes - 4096:
        return None
    n = fitting(parts, max_bytes)
    if n == len(parts):
        return None
    del parts[n:]
    return n
