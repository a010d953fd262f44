"""Rows on their way: what an export writes and an import reads, and how parquet holds them.

A row has `id` (string) or `id_number` (uint64), `vector` (dim float32) and `payload` (JSON). The key
"nearlight" of the schema's metadata holds JSON that says of which collection and space the rows are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nearlight.client import convert
from nearlight.client.errors import TransferFailed
from nearlight.client.methods import SCROLL
from nearlight.client.plan import Plan, ask
from nearlight.client.values import F32, PointId
from nearlight.v1 import point_pb2

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
KEY = b"nearlight"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from.

    Attributes:
        collection: its name.
        created_unix_ms: when it was made: another collection of this name is another.
        space_id: of the vectors.
        dim: of the vectors.
        metadata: of the collection.
        cursor: of an unfinished export: the place behind the rows; "": the end.
        format: of the files.
    """

    collection: str
    created_unix_ms: int
    space_id: str
    dim: int
    metadata: dict[str, Any] = field(default_factory=dict)
    cursor: str = ""
    format: int = FORMAT

    def to_json(self) -> bytes:
        """As it is kept in a file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes, file: object) -> Origin:
        """Reads it; raises TransferFailed where it is not ours, or of a newer version."""
        try:
            found = cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise TransferFailed(f"{file} does not say what it holds: {error}") from None
        if found.format != FORMAT:
            raise TransferFailed(f"{file} has format {found.format}; this Nearlight reads {FORMAT}")
        return found

    def is_of(self, other: Origin) -> bool:
        """Returns whether both are of one collection and space."""
        same = ("collection", "created_unix_ms", "space_id", "dim")
        return all(getattr(self, name) == getattr(other, name) for name in same)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows: N ids, N payloads as JSON, and vectors (N, D)."""

    ids: Sequence[PointId]
    payloads: Sequence[str]
    vectors: F32

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_bytes(self) -> int:
        """About how much memory they take."""
        return self.vectors.nbytes + sum(map(len, self.payloads)) + 64 * len(self.ids)


def page(collection: str, cursor: str, limit: int) -> Plan[tuple[Rows, str]]:
    """Reads one page of a collection, in the order of ids, and where the next one begins ("": nowhere)."""
    import numpy as np

    request = point_pb2.ScrollRequest(collection=collection, cursor=cursor, limit=limit, with_vectors=True)
    reply = yield from ask(SCROLL(request))
    records = reply.records
    data = b"".join(record.vector.data for record in records)
    vectors = np.frombuffer(data, "<f4").reshape(len(records), -1) if records else np.empty((0, 0), "<f4")
    ids = [convert.id_from_wire(record.id) for record in records]
    return Rows(ids, [record.payload_json.decode() for record in records], vectors), reply.next_cursor


def schema_of(origin: Origin) -> pa.Schema:
    """Returns the columns of a file."""
    import pyarrow as pa

    columns: list[Any] = [
        pa.field("id", pa.string()),
        pa.field("id_number", pa.uint64()),
        pa.field("vector", pa.list_(pa.float32(), origin.dim), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
    ]
    return pa.schema(columns, metadata={KEY: origin.to_json()})


def table_of(rows: Rows, origin: Origin) -> pa.Table:
    """Returns rows as columns."""
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(rows.vectors, np.float32).reshape(-1))
    columns: list[Any] = [
        pa.array([one if isinstance(one, str) else None for one in rows.ids], pa.string()),
        pa.array([None if isinstance(one, str) else one for one in rows.ids], pa.uint64()),
        pa.FixedSizeListArray.from_arrays(flat, origin.dim),
        pa.array(rows.payloads, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema_of(origin))


def rows_of(table: pa.RecordBatch | pa.Table, file: object) -> Rows:
    """Returns the rows of a file of ours; raises TransferFailed where one has no id."""
    texts, numbers = table.column("id").to_pylist(), table.column("id_number").to_pylist()
    ids: list[Any] = [number if text is None else text for text, number in zip(texts, numbers, strict=True)]
    if None in ids:
        raise TransferFailed(f"{file}: row {ids.index(None)} of a block has no id")
    payloads: list[Any] = table.column("payload").to_pylist()
    return Rows(ids, payloads, vectors_of(table.column("vector"), file))


def vectors_of(column: Any, file: object) -> F32:
    """Returns a column of lists of numbers as (N, D); raises TransferFailed where they differ in length."""
    import numpy as np
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        raise TransferFailed(f"{file}: a row has no vector")
    flat = column.flatten()
    try:
        numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32)
        found: F32 = numbers.reshape(len(column), -1)
    except (ValueError, TypeError, pa.ArrowInvalid) as error:
        raise TransferFailed(f"{file}: its vectors are not all of one length: {error}") from None
    lengths = {len(one) for one in column} if not pa.types.is_fixed_size_list(column.type) else set()
    if len(lengths) > 1:
        raise TransferFailed(f"{file}: its vectors have {min(lengths)} to {max(lengths)} numbers")
    return found
