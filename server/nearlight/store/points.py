"""The records that go into a collection and come out of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nearlight.store.generations.settings import IndexSettings, IndexStatus

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
PointId = str | int
PayloadKind = Literal["keyword", "integer", "number", "bool", "datetime", "geo"]


@dataclass(frozen=True, slots=True, eq=False)
class OtherVector:
    """A point's vector (D2,) in the other space of a collection that changes its model."""

    space_id: str
    vector: npt.ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What an upsert stores.

    Attributes:
        id: any string of 1..512 UTF-8 bytes, or an integer in 0..2^64-1; `"7"` and `7` are two points.
        vector: (D,), finite and not zero, any length; it is stored with unit length.
        payload: a JSON object of at most 1 MiB as UTF-8 text.
        original: the image or text it was embedded from, kept where the collection keeps them.
        other: its vector in the other space, while the collection changes its model.
        perceptual_hash: of the image it was made of, 0 to 2^64-1; None: it has none.
    """

    id: PointId
    vector: npt.ArrayLike
    payload: Mapping[str, Any]
    original: bytes | str | None = None
    other: OtherVector | None = None
    perceptual_hash: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A stored point.

    Attributes:
        id: its id.
        payload: its payload, a fresh dict that the caller owns.
        seq: its version: every write gives a new, higher one.
        vector: (D,) unit length, or None when vectors were not asked for.
    """

    id: PointId
    payload: dict[str, Any]
    seq: int
    vector: F32 | None


@dataclass(
    slots=True, eq=False
)  # not frozen: a batch makes hundreds, and that would cost more than half of each
class Hit:
    """A search result.

    Attributes:
        id: the point's id.
        score: cosine similarity in [-1, 1].
        payload_json: its payload as JSON text, or None when payloads were not asked for.
        vector: (D,) unit length, or None when vectors were not asked for.
        seq: the point's version.
    """

    id: PointId
    score: float
    payload_json: str | None
    vector: F32 | None
    seq: int

    @property
    def payload(self) -> dict[str, Any] | None:
        """Its payload, read anew for whoever looks: a fresh dict that the caller owns."""
        if self.payload_json is None:
            return None
        payload: dict[str, Any] = json.loads(self.payload_json)
        return payload


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change of payloads did.

    Attributes:
        seq: of the write; 0 where nothing was changed.
        n_points: points whose payload became another.
    """

    seq: int
    n_points: int


@dataclass(frozen=True, slots=True)
class PayloadIndex:
    """An index on the values at a payload key.

    Attributes:
        path: the keys that lead to the value.
        kind: which values it holds.
        created_unix_ms: when it was made, milliseconds since 1970 UTC.
    """

    path: tuple[str, ...]
    kind: PayloadKind
    created_unix_ms: int


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """What every query asks of a collection.

    Attributes:
        name: its name.
        space_id: the embedding space of its vectors.
        dim: D.
        last_seq: the seq of the last write or delete, 0 before the first.
    """

    name: str
    space_id: str
    dim: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection at one moment.

    Attributes:
        name: its name.
        space_id: the embedding space of its vectors.
        dim: D.
        count: number of points.
        created_unix_ms: when it was made, milliseconds since 1970 UTC.
        metadata: the JSON object it was made with.
        last_seq: the seq of the last write or delete, 0 before the first.
        payload_indexes: what makes filters fast, by path.
        aliases: its other names, ordered.
        index_settings: what overrides the store's choice of an index.
        keeps_originals: whether it keeps the images and texts that its points were embedded from.
        other_space_id: the space that new points are embedded into as well, while the model changes; else "".
        index: as it is.
        durability: of its writes, where a call does not say.
    """

    name: str
    space_id: str
    dim: int
    count: int
    created_unix_ms: int
    metadata: dict[str, Any]
    last_seq: int
    payload_indexes: tuple[PayloadIndex, ...] = ()
    aliases: tuple[str, ...] = ()
    index_settings: IndexSettings = IndexSettings()
    keeps_originals: bool = False
    other_space_id: str = ""
    index: IndexStatus = IndexStatus()
    durability: Literal["full", "relaxed"] = "full"
