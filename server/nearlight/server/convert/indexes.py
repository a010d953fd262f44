"""Indexes: from the wire and back."""

from nearlight.server.errors import InvalidInput
from nearlight.store import CollectionFacts, How, IndexSettings, IndexStatus, SearchParams
from nearlight.store.generations.settings import IndexKind
from nearlight.v1 import collection_pb2, query_pb2

_KINDS: dict[collection_pb2.IndexKind, IndexKind] = {
    collection_pb2.INDEX_KIND_UNSPECIFIED: "auto",
    collection_pb2.INDEX_KIND_EXACT: "exact",
    collection_pb2.INDEX_KIND_HNSW: "hnsw",
    collection_pb2.INDEX_KIND_IVF: "ivf",
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
_STATES = {
    "ready": collection_pb2.COLLECTION_STATE_READY,
    "building": collection_pb2.COLLECTION_STATE_BUILDING,
    "degraded": collection_pb2.COLLECTION_STATE_DEGRADED,
}
MAX_EFFORT = 65_536
NO_PARAMS = SearchParams()


def index_settings_of(message: collection_pb2.IndexConfig) -> IndexSettings:
    """How a collection is to be indexed; the store checks the numbers.

    Raises:
        InvalidInput: an unknown kind.
    """
    if message.kind not in _KINDS:
        raise InvalidInput(
            f"index_config.kind is {message.kind}; it must be 1 (EXACT), 2 (HNSW) or 3 (IVF), 0 means chosen",
            field="index_config.kind",
        )
    return IndexSettings(
        kind=_KINDS[message.kind],
        exact_up_to=message.exact_up_to,
        hnsw_m=message.hnsw_m,
        hnsw_ef_construction=message.hnsw_ef_construction,
        recall_target=message.recall_target,
    )


def index_config_message(settings: IndexSettings) -> collection_pb2.IndexConfig:
    """The configuration on the wire."""
    return collection_pb2.IndexConfig(
        kind=_NUMBERS[settings.kind],
        exact_up_to=settings.exact_up_to,
        hnsw_m=settings.hnsw_m,
        hnsw_ef_construction=settings.hnsw_ef_construction,
        recall_target=settings.recall_target,
    )


def index_state_message(status: IndexStatus) -> collection_pb2.IndexState:
    """The index as it is, on the wire."""
    return collection_pb2.IndexState(
        kind=_NUMBERS[status.kind],
        generation=status.generation,
        indexed_seq=status.indexed_seq,
        head_points=status.head_points,
        tombstones=status.tombstones,
        estimated_recall=status.estimated_recall,
    )


def state_number(status: IndexStatus) -> collection_pb2.CollectionState:
    """The state of a collection, as far as its index is concerned."""
    return _STATES[status.state]


def search_params_of(message: query_pb2.QueryRequest) -> SearchParams:
    """How hard to search.

    Raises:
        InvalidInput: a number out of range.
    """
    if not message.HasField("params"):
        return NO_PARAMS
    params = message.params
    recall = params.recall_target if params.HasField("recall_target") else 0.0
    if params.HasField("recall_target") and not 0.5 <= recall <= 1:
        raise InvalidInput(
            f"params.recall_target is {recall:g}; the limit is 0.5 to 1", field="params.recall_target"
        )
    for name in ("hnsw_ef", "ivf_nprobe"):
        if getattr(params, name) > MAX_EFFORT:
            reason = (
                f"params.{name} is {getattr(params, name)}; the limit is 1 to {MAX_EFFORT}, 0 means chosen"
            )
            raise InvalidInput(reason, field=f"params.{name}")
    return SearchParams(params.exact, recall, params.hnsw_ef, params.ivf_nprobe)


def fill_search_info(
    message: query_pb2.SearchInfo, how: How, facts: CollectionFacts, filtered_count: int | None
) -> None:
    """How a search went, on the wire."""
    message.exact = how.exact
    if how.estimated_recall is not None:
        message.estimated_recall = how.estimated_recall
    message.space_id = facts.space_id
    message.index_kind = how.index_kind
    message.generation = how.generation
    message.visible_seq = facts.last_seq
    message.head_points = how.head_points
    if filtered_count is not None:
        message.filtered_count = filtered_count
    message.hnsw_ef = how.hnsw_ef
    message.ivf_nprobe = how.ivf_nprobe
