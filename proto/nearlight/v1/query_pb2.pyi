from nearlight.v1 import filter_pb2 as _filter_pb2
from nearlight.v1 import input_pb2 as _input_pb2
from nearlight.v1 import point_id_pb2 as _point_id_pb2
from nearlight.v1 import vector_pb2 as _vector_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MixStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIX_STRATEGY_UNSPECIFIED: _ClassVar[MixStrategy]
    MIX_STRATEGY_AVERAGE: _ClassVar[MixStrategy]
    MIX_STRATEGY_BEST_SCORE: _ClassVar[MixStrategy]
MIX_STRATEGY_UNSPECIFIED: MixStrategy
MIX_STRATEGY_AVERAGE: MixStrategy
MIX_STRATEGY_BEST_SCORE: MixStrategy

class Query(_message.Message):
    __slots__ = ("vector", "text", "image", "id", "mix")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    vector: _vector_pb2.Vector
    text: str
    image: bytes
    id: _point_id_pb2.PointId
    mix: Mix
    def __init__(self, vector: _Optional[_Union[_vector_pb2.Vector, _Mapping]] = ..., text: _Optional[str] = ..., image: _Optional[bytes] = ..., id: _Optional[_Union[_point_id_pb2.PointId, _Mapping]] = ..., mix: _Optional[_Union[Mix, _Mapping]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("vector", "text", "image", "id", "weight")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    vector: _vector_pb2.Vector
    text: str
    image: bytes
    id: _point_id_pb2.PointId
    weight: float
    def __init__(self, vector: _Optional[_Union[_vector_pb2.Vector, _Mapping]] = ..., text: _Optional[str] = ..., image: _Optional[bytes] = ..., id: _Optional[_Union[_point_id_pb2.PointId, _Mapping]] = ..., weight: _Optional[float] = ...) -> None: ...

class Mix(_message.Message):
    __slots__ = ("positive", "negative", "strategy")
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    positive: _containers.RepeatedCompositeFieldContainer[Example]
    negative: _containers.RepeatedCompositeFieldContainer[Example]
    strategy: MixStrategy
    def __init__(self, positive: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., negative: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., strategy: _Optional[_Union[MixStrategy, str]] = ...) -> None: ...

class Keys(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ...) -> None: ...

class WithPayload(_message.Message):
    __slots__ = ("enable", "include", "exclude")
    ENABLE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    enable: bool
    include: Keys
    exclude: Keys
    def __init__(self, enable: bool = ..., include: _Optional[_Union[Keys, _Mapping]] = ..., exclude: _Optional[_Union[Keys, _Mapping]] = ...) -> None: ...

class SearchParams(_message.Message):
    __slots__ = ("exact", "recall_target", "hnsw_ef", "ivf_nprobe")
    EXACT_FIELD_NUMBER: _ClassVar[int]
    RECALL_TARGET_FIELD_NUMBER: _ClassVar[int]
    HNSW_EF_FIELD_NUMBER: _ClassVar[int]
    IVF_NPROBE_FIELD_NUMBER: _ClassVar[int]
    exact: bool
    recall_target: float
    hnsw_ef: int
    ivf_nprobe: int
    def __init__(self, exact: bool = ..., recall_target: _Optional[float] = ..., hnsw_ef: _Optional[int] = ..., ivf_nprobe: _Optional[int] = ...) -> None: ...

class Autocut(_message.Message):
    __slots__ = ("jumps",)
    JUMPS_FIELD_NUMBER: _ClassVar[int]
    jumps: int
    def __init__(self, jumps: _Optional[int] = ...) -> None: ...

class Mmr(_message.Message):
    __slots__ = ("diversity", "candidates")
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    diversity: float
    candidates: int
    def __init__(self, diversity: _Optional[float] = ..., candidates: _Optional[int] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("collection", "query", "limit", "offset", "filter", "params", "score_threshold", "with_payload", "with_vectors", "dtype", "min_relevance", "autocut", "mmr", "min_seq", "space_id", "priority", "cache")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MIN_RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    AUTOCUT_FIELD_NUMBER: _ClassVar[int]
    MMR_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    query: Query
    limit: int
    offset: int
    filter: _filter_pb2.Filter
    params: SearchParams
    score_threshold: float
    with_payload: WithPayload
    with_vectors: bool
    dtype: _vector_pb2.DType
    min_relevance: float
    autocut: Autocut
    mmr: Mmr
    min_seq: int
    space_id: str
    priority: _input_pb2.Priority
    cache: _input_pb2.CacheOptions
    def __init__(self, collection: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., params: _Optional[_Union[SearchParams, _Mapping]] = ..., score_threshold: _Optional[float] = ..., with_payload: _Optional[_Union[WithPayload, _Mapping]] = ..., with_vectors: bool = ..., dtype: _Optional[_Union[_vector_pb2.DType, str]] = ..., min_relevance: _Optional[float] = ..., autocut: _Optional[_Union[Autocut, _Mapping]] = ..., mmr: _Optional[_Union[Mmr, _Mapping]] = ..., min_seq: _Optional[int] = ..., space_id: _Optional[str] = ..., priority: _Optional[_Union[_input_pb2.Priority, str]] = ..., cache: _Optional[_Union[_input_pb2.CacheOptions, _Mapping]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("id", "score", "relevance", "payload_json", "vector", "seq")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    id: _point_id_pb2.PointId
    score: float
    relevance: float
    payload_json: bytes
    vector: _vector_pb2.Vector
    seq: int
    def __init__(self, id: _Optional[_Union[_point_id_pb2.PointId, _Mapping]] = ..., score: _Optional[float] = ..., relevance: _Optional[float] = ..., payload_json: _Optional[bytes] = ..., vector: _Optional[_Union[_vector_pb2.Vector, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class SearchInfo(_message.Message):
    __slots__ = ("exact", "estimated_recall", "space_id", "index_kind", "generation", "visible_seq", "head_points", "filtered_count", "hnsw_ef", "ivf_nprobe")
    EXACT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_RECALL_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_KIND_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_SEQ_FIELD_NUMBER: _ClassVar[int]
    HEAD_POINTS_FIELD_NUMBER: _ClassVar[int]
    FILTERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    HNSW_EF_FIELD_NUMBER: _ClassVar[int]
    IVF_NPROBE_FIELD_NUMBER: _ClassVar[int]
    exact: bool
    estimated_recall: float
    space_id: str
    index_kind: str
    generation: int
    visible_seq: int
    head_points: int
    filtered_count: int
    hnsw_ef: int
    ivf_nprobe: int
    def __init__(self, exact: bool = ..., estimated_recall: _Optional[float] = ..., space_id: _Optional[str] = ..., index_kind: _Optional[str] = ..., generation: _Optional[int] = ..., visible_seq: _Optional[int] = ..., head_points: _Optional[int] = ..., filtered_count: _Optional[int] = ..., hnsw_ef: _Optional[int] = ..., ivf_nprobe: _Optional[int] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("hits", "info", "timings", "next_offset")
    HITS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    info: SearchInfo
    timings: _input_pb2.Timings
    next_offset: int
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., info: _Optional[_Union[SearchInfo, _Mapping]] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ..., next_offset: _Optional[int] = ...) -> None: ...

class QueryBatchRequest(_message.Message):
    __slots__ = ("collection", "queries")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    queries: _containers.RepeatedCompositeFieldContainer[QueryRequest]
    def __init__(self, collection: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[QueryRequest, _Mapping]]] = ...) -> None: ...

class QueryOutcome(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: QueryResponse
    error: _input_pb2.BatchError
    def __init__(self, response: _Optional[_Union[QueryResponse, _Mapping]] = ..., error: _Optional[_Union[_input_pb2.BatchError, _Mapping]] = ...) -> None: ...

class QueryBatchResponse(_message.Message):
    __slots__ = ("results", "timings", "next_index")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[QueryOutcome]
    timings: _input_pb2.Timings
    next_index: int
    def __init__(self, results: _Optional[_Iterable[_Union[QueryOutcome, _Mapping]]] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ..., next_index: _Optional[int] = ...) -> None: ...

class QueryGroupsRequest(_message.Message):
    __slots__ = ("query", "group_by", "group_size")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    query: QueryRequest
    group_by: str
    group_size: int
    def __init__(self, query: _Optional[_Union[QueryRequest, _Mapping]] = ..., group_by: _Optional[str] = ..., group_size: _Optional[int] = ...) -> None: ...

class HitGroup(_message.Message):
    __slots__ = ("key_json", "hits")
    KEY_JSON_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    key_json: bytes
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    def __init__(self, key_json: _Optional[bytes] = ..., hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ...) -> None: ...

class QueryGroupsResponse(_message.Message):
    __slots__ = ("groups", "info", "timings")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[HitGroup]
    info: SearchInfo
    timings: _input_pb2.Timings
    def __init__(self, groups: _Optional[_Iterable[_Union[HitGroup, _Mapping]]] = ..., info: _Optional[_Union[SearchInfo, _Mapping]] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ...) -> None: ...
