"""What goes into the client and what comes out of it: plain frozen values, no protobuf."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nearlight.client.errors import InvalidInput, ItemsFailed
from nearlight.client.index_values import IndexState, SearchInfo
from nearlight.v1.filter_pb2 import Filter

PointId: TypeAlias = str | int
"""A string of 1 to 512 UTF-8 bytes, or an integer from 0 to 2**64 - 1."""

Image: TypeAlias = bytes | os.PathLike[str]
"""An encoded image, or the path of one on this machine."""

ImageProfile: TypeAlias = Literal["", "exact", "fast"]
"""How images are decoded, see ImageProfile in input.proto; "" means as the server does."""

Input: TypeAlias = str | Image
"""A ``str`` is a text, always; ``bytes`` and ``Path`` are images."""

F32: TypeAlias = npt.NDArray[np.float32]


PayloadKind: TypeAlias = Literal["keyword", "integer", "number", "bool", "datetime", "geo"]
"""What an index on a payload key holds."""

FilterLike: TypeAlias = Filter | Mapping[str, Any]
"""Conditions on id and payload: a message of filter.proto, or the same as JSON:
``{"must": [{"field": {"key": "camera.model", "match": {"keyword": "X100"}}}]}``."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a list failed while its neighbours went on.

    Attributes:
        index: position of the item in the list, from 0.
        code: name of the gRPC status, such as "INVALID_ARGUMENT".
        message: what was wrong, the value and the limit.
        field: path of the field at fault, or "".
    """

    index: int
    code: str
    message: str
    field: str = ""

    def __str__(self) -> str:
        return f"[{self.index}] {self.message} ({self.code})"


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors of a list of inputs.

    Attributes:
        vectors: (N, D) float32, row i belongs to input i; the row of a failed input is NaN.
        errors: the inputs that failed.
        model: name of the model that answered.
        space_id: vectors are comparable only where this is equal.
    """

    vectors: F32
    errors: tuple[ItemError, ...]
    model: str
    space_id: str

    def require(self) -> F32:
        """Returns the vectors, or raises ItemsFailed where any input failed."""
        if self.errors:
            raise ItemsFailed(self.errors, len(self.vectors))
        return self.vectors


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedInput:
    """One input of a stream: exactly one of vector (D,) and error is set. ``index`` counts from 0."""

    index: int
    vector: F32 | None
    error: ItemError | None


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A point to write: an id, exactly one of vector, image and text, and a JSON payload.

    Attributes:
        id: see PointId.
        payload: what ``json.dumps`` takes, without NaN and infinities.
        vector: (D,) numbers, finite and not all zero; stored at unit length.
        image: encoded bytes or a path, embedded by the server.
        text: embedded by the server.
    """

    id: PointId
    payload: Mapping[str, Any] = field(default_factory=dict)
    vector: npt.ArrayLike | None = None
    image: Image | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("vector", "image", "text") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidInput(
                f"point {self.id!r} has {given or 'no source'}; exactly one of vector, image, text"
            )


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What a write did: ``seq`` to read it back by, points written, points that failed."""

    seq: int
    upserted: int
    errors: tuple[ItemError, ...]


@dataclass(frozen=True, slots=True)
class UpsertAck:
    """One batch of a stream, acknowledged: its points are durable, but for those in ``errors``.

    Attributes:
        first_index: position in the stream of the batch's first point, from 0.
        ids: of all points of the batch, failed ones included.
        seq: number of the write; 0 where every point failed.
        upserted: points written.
        errors: points that failed; their index counts from the start of the stream.
    """

    first_index: int
    ids: tuple[PointId, ...]
    seq: int
    upserted: int
    errors: tuple[ItemError, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A stored point. ``vector`` is (D,) of unit length where it was asked for."""

    id: PointId
    payload: dict[str, Any]
    vector: F32 | None
    seq: int


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A point found: ``score`` is the cosine, -1 to 1; ``relevance`` 0 to 1 in a calibrated collection."""

    id: PointId
    score: float
    payload: dict[str, Any]
    relevance: float | None = None
    vector: F32 | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class QueryResult(Sequence[Hit]):
    """The hits of a query, best first; it is their sequence."""

    hits: tuple[Hit, ...]
    info: SearchInfo

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]


@dataclass(frozen=True, slots=True, eq=False)
class HitGroup:
    """Hits that share a value of a payload key (a string, a number or a bool), best first."""

    value: str | int | float | bool
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection. ``model`` is "" where none of its space is loaded; times are ms since 1970, UTC.

    ``payload_indexes``: key → kind. ``store_images``: it keeps what its points were embedded from.
    """

    name: str
    count: int
    dim: int
    space_id: str
    model: str
    last_seq: int
    created_unix_ms: int
    metadata: dict[str, Any]
    aliases: tuple[str, ...]
    payload_indexes: dict[str, str] = field(default_factory=dict)
    index: IndexState = IndexState()
    store_images: bool = False
    durability: str = "full"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was, in the server's data folder; times are ms since 1970, UTC."""

    name: str
    collection: str
    count: int
    last_seq: int
    space_id: str
    created_unix_ms: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be: a short stable kind, and a message for people."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a collection found; ``problems`` holds the first 1,000."""

    points_checked: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Nothing was wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server accepts; see Limits in model.proto. The defaults serve where the server does not say."""

    max_message_bytes: int = 4 * 1024 * 1024
    max_batch_inputs: int = 64
    max_batch_queries: int = 64
    max_image_bytes: int = 0
    max_image_pixels: int = 0
    max_text_bytes: int = 0
    max_block_points: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model; see ModelInfo in model.proto. ``threads`` are those of all its sessions."""

    name: str
    space_id: str
    dim: int
    towers: tuple[Literal["image", "text"], ...]
    image_px: int
    context_length: int
    precision: str
    provider: str
    scoring: Literal["softmax", "sigmoid"]
    logit_scale: float
    logit_bias: float
    state: str
    is_default: bool
    licence: str
    description: str
    metrics: dict[str, Any]
    limits: Limits
    threads: int = 0
    runtime_precision: str = ""
    aliases: tuple[str, ...] = ()


def describe(source: object) -> str:
    """Returns a short name of an input for an error message: a path, or its kind and size."""
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if isinstance(source, os.PathLike):
        return str(Path(source))
    return f"{source!r:.60}"
