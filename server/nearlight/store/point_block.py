"""Points that come as columns: ids, one matrix of vectors, payloads as JSON text.

To check and prepare a thousand points one by one takes longer than to write them. A block is checked column
by column, once, and is from then on ready to be written.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from nearlight.store.checksums import content_checksum
from nearlight.store.errors import InvalidPoint
from nearlight.store.ids import Key, key_of
from nearlight.store.points import F32, Point, PointId
from nearlight.store.validation import (
    ALREADY_UNIT,
    MAX_PAYLOAD_BYTES,
    Batch,
    as_unit_vectors,
    payload_text_from_json,
    prepare,
    unit_rows,
    vector_checksums,
)


@dataclass(frozen=True, slots=True, eq=False)
class PointBlock(Sequence[Point]):
    """Points that were checked: what `checked_block` makes. As a sequence it gives them one by one.

    Attributes:
        ids: N.
        keys: of the ids, N.
        payloads: N JSON texts, as they are stored.
        vectors: (N, D) unit length.
    """

    ids: list[PointId]
    keys: list[Key]
    payloads: list[str]
    vectors: F32

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        """One point, or some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Point(self.ids[index], self.vectors[index], json.loads(self.payloads[index]))

    def batch(self) -> Batch:
        """As it is written: of points with the same id the last one."""
        rows = sorted({key: i for i, key in enumerate(self.keys)}.values())
        keys, payloads, vectors = self.keys, self.payloads, self.vectors
        if len(rows) < len(keys):
            keys, payloads = [keys[i] for i in rows], [payloads[i] for i in rows]
            vectors = vectors[rows]  # (kept, D)
        contents = [content_checksum(key, text, None) for key, text in zip(keys, payloads, strict=True)]
        return Batch(
            keys, payloads, contents, vectors, vector_checksums(vectors), (), [None] * len(rows), rows
        )


def ids_of(points: Sequence[Point]) -> Sequence[PointId]:
    """The ids of points."""
    return points.ids if isinstance(points, PointBlock) else [point.id for point in points]


def batch_of(points: Sequence[Point], dim: int) -> Batch:
    """Points of a call, checked and ready to be written.

    Raises:
        InvalidPoint: the first fault found; `index` says where.
    """
    if not isinstance(points, PointBlock):
        return prepare(points, dim)
    if points.vectors.shape[1] != dim:
        found = f"of shape {points.vectors.shape[1:]}"
        raise InvalidPoint("vector", found, f"the collection's dim is {dim}", index=0)
    return points.batch()


def checked_block(
    ids: Sequence[PointId],
    vectors: F32,
    payloads: Sequence[bytes | str],
    *,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
) -> tuple[PointBlock, list[int], list[InvalidPoint]]:
    """Check points, each for itself.

    Args:
        ids: N.
        vectors: (N, D), any lengths.
        payloads: N UTF-8 JSON objects, empty: {}; or none, which means N empty ones.
        max_payload_bytes: of each of them.

    Returns:
        The good points, their N places among those given, and what is wrong with the others, by `index`.
    """
    keys: list[Key] = []
    texts: list[str] = []
    kept: list[int] = []
    faults: list[InvalidPoint] = []
    # Of float32, neither over- nor underflow.
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)  # (N,)
    is_sound = (np.isfinite(squares) & (squares > 0)).tolist()
    for i, (point_id, payload) in enumerate(zip(ids, payloads or [b""] * len(ids), strict=True)):
        try:
            key = key_of(point_id, i)
            if not is_sound[i]:
                as_unit_vectors([vectors[i]], i)
            texts.append(_text(payload, i, max_payload_bytes))
        except InvalidPoint as fault:
            faults.append(fault)
            continue
        keys.append(key)
        kept.append(i)
    if faults:
        ids, vectors, squares = [ids[i] for i in kept], vectors[kept], squares[kept]
    return PointBlock(list(ids), keys, texts, _unit(vectors, squares)), kept, faults


def _text(payload: bytes | str, i: int, max_bytes: int) -> str:
    if len(payload) > max_bytes:
        raise InvalidPoint("payload", f"{len(payload)} bytes of JSON", f"the limit is {max_bytes}", index=i)
    return payload_text_from_json(payload, i)


def _unit(vectors: F32, squares: np.ndarray[tuple[int], np.dtype[np.float64]]) -> F32:
    """Rows (N, D) of unit length; what has it, as `unit_rows` sees it, is not computed again."""
    made = np.array(vectors, np.float32, order="C")
    others = np.abs(np.sqrt(squares) - 1) > ALREADY_UNIT / 2  # (N,): `unit_rows` decides about the close ones
    if others.any():
        made[others] = unit_rows(made[others])
    return made
