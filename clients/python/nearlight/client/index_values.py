"""What users set and see of indexes, and their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearlight.client.errors import InvalidInput
from nearlight.v1 import collection_pb2, query_pb2

IndexKind = Literal["auto", "exact", "hnsw", "ivf"]
_PREFIX = "INDEX_KIND_"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """How a collection is indexed; see IndexConfig in collection.proto. The zeros: the server chooses."""

    kind: IndexKind = "auto"
    exact_up_to: int = 0
    hnsw_m: int = 0
    hnsw_ef_construction: int = 0
    recall_target: float = 0.0


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall measured now, 0 to 1; by image and by text, None where there were no such queries."""

    recall: float
    queries: int
    image_recall: float | None
    text_recall: float | None


@dataclass(frozen=True, slots=True)
class IndexState:
    """A collection's index as it is; see IndexState and CollectionState in collection.proto."""

    kind: str = "exact"
    state: str = "ready"
    generation: int = 0
    indexed_seq: int = 0
    head_points: int = 0
    tombstones: int = 0
    estimated_recall: float = 0.0


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """How a search went: see SearchInfo in query.proto. ``filtered_count``: points that passed the filter."""

    exact: bool
    estimated_recall: float | None
    space_id: str
    index_kind: str
    visible_seq: int
    filtered_count: int | None = None
    generation: int = 0
    head_points: int = 0
    hnsw_ef: int = 0
    ivf_nprobe: int = 0


def config_for_wire(config: IndexConfig) -> collection_pb2.IndexConfig:
    """Returns the message of a configuration."""
    if config.kind not in ("auto", "exact", "hnsw", "ivf"):
        raise InvalidInput(f"kind is {config.kind!r:.60}; it must be auto, exact, hnsw or ivf")
    for name in ("exact_up_to", "hnsw_m", "hnsw_ef_construction"):
        if not 0 <= getattr(config, name) < 2**32:
            raise InvalidInput(f"{name} is {getattr(config, name)}; it must be 0 to 2**32 - 1")
    kind = "UNSPECIFIED" if config.kind == "auto" else config.kind.upper()
    return collection_pb2.IndexConfig(
        kind=_PREFIX + kind,
        exact_up_to=config.exact_up_to,
        hnsw_m=config.hnsw_m,
        hnsw_ef_construction=config.hnsw_ef_construction,
        recall_target=config.recall_target,
    )


def index_state_from_wire(message: collection_pb2.CollectionInfo) -> IndexState:
    """Returns the index of a collection as it is."""
    index = message.index
    return IndexState(
        kind=collection_pb2.IndexKind.Name(index.kind or collection_pb2.INDEX_KIND_EXACT)
        .removeprefix(_PREFIX)
        .lower(),
        state=collection_pb2.CollectionState.Name(message.state or collection_pb2.COLLECTION_STATE_READY)
        .removeprefix("COLLECTION_STATE_")
        .lower(),
        generation=index.generation,
        indexed_seq=index.indexed_seq,
        head_points=index.head_points,
        tombstones=index.tombstones,
        estimated_recall=index.estimated_recall,
    )


def search_info_from_wire(message: query_pb2.SearchInfo) -> SearchInfo:
    """Returns how a search went."""
    return SearchInfo(
        message.exact,
        message.estimated_recall if message.HasField("estimated_recall") else None,
        message.space_id,
        message.index_kind,
        message.visible_seq,
        message.filtered_count if message.HasField("filtered_count") else None,
        message.generation,
        message.head_points,
        message.hnsw_ef,
        message.ivf_nprobe,
    )
