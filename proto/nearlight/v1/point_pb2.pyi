from nearlight.v1 import collection_pb2 as _collection_pb2
from nearlight.v1 import filter_pb2 as _filter_pb2
from nearlight.v1 import input_pb2 as _input_pb2
from nearlight.v1 import point_id_pb2 as _point_id_pb2
from nearlight.v1 import query_pb2 as _query_pb2
from nearlight.v1 import vector_pb2 as _vector_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpsertMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPSERT_MODE_UNSPECIFIED: _ClassVar[UpsertMode]
    UPSERT_MODE_UPSERT: _ClassVar[UpsertMode]
    UPSERT_MODE_INSERT_ONLY: _ClassVar[UpsertMode]
    UPSERT_MODE_UPDATE_ONLY: _ClassVar[UpsertMode]

class DuplicateMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DUPLICATE_METHOD_UNSPECIFIED: _ClassVar[DuplicateMethod]
    DUPLICATE_METHOD_EMBEDDING: _ClassVar[DuplicateMethod]
    DUPLICATE_METHOD_PERCEPTUAL: _ClassVar[DuplicateMethod]
UPSERT_MODE_UNSPECIFIED: UpsertMode
UPSERT_MODE_UPSERT: UpsertMode
UPSERT_MODE_INSERT_ONLY: UpsertMode
UPSERT_MODE_UPDATE_ONLY: UpsertMode
DUPLICATE_METHOD_UNSPECIFIED: DuplicateMethod
DUPLICATE_METHOD_EMBEDDING: DuplicateMethod
DUPLICATE_METHOD_PERCEPTUAL: DuplicateMethod

class PointInput(_message.Message):
    __slots__ = ("id", "vector", "image", "text", "payload_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    id: _point_id_pb2.PointId
    vector: _vector_pb2.Vector
    image: bytes
    text: str
    payload_json: bytes
    def __init__(self, id: _Optional[_Union[_point_id_pb2.PointId, _Mapping]] = ..., vector: _Optional[_Union[_vector_pb2.Vector, _Mapping]] = ..., image: _Optional[bytes] = ..., text: _Optional[str] = ..., payload_json: _Optional[bytes] = ...) -> None: ...

class PointBlock(_message.Message):
    __slots__ = ("ids", "vectors", "payloads_json")
    IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_JSON_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedCompositeFieldContainer[_point_id_pb2.PointId]
    vectors: _vector_pb2.VectorBlock
    payloads_json: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ids: _Optional[_Iterable[_Union[_point_id_pb2.PointId, _Mapping]]] = ..., vectors: _Optional[_Union[_vector_pb2.VectorBlock, _Mapping]] = ..., payloads_json: _Optional[_Iterable[bytes]] = ...) -> None: ...

class UpsertRequest(_message.Message):
    __slots__ = ("collection", "points", "wait", "durability", "mode", "space_id", "priority", "cache", "skip_duplicates_bits", "block")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    SKIP_DUPLICATES_BITS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    collection: str
    points: _containers.RepeatedCompositeFieldContainer[PointInput]
    wait: bool
    durability: _collection_pb2.Durability
    mode: UpsertMode
    space_id: str
    priority: _input_pb2.Priority
    cache: _input_pb2.CacheOptions
    skip_duplicates_bits: int
    block: PointBlock
    def __init__(self, collection: _Optional[str] = ..., points: _Optional[_Iterable[_Union[PointInput, _Mapping]]] = ..., wait: bool = ..., durability: _Optional[_Union[_collection_pb2.Durability, str]] = ..., mode: _Optional[_Union[UpsertMode, str]] = ..., space_id: _Optional[str] = ..., priority: _Optional[_Union[_input_pb2.Priority, str]] = ..., cache: _Optional[_Union[_input_pb2.CacheOptions, _Mapping]] = ..., skip_duplicates_bits: _Optional[int] = ..., block: _Optional[_Union[PointBlock, _Mapping]] = ...) -> None: ...

class UpsertResponse(_message.Message):
    __slots__ = ("seq", "upserted", "errors", "timings")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    UPSERTED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    upserted: int
    errors: _containers.RepeatedCompositeFieldContainer[_input_pb2.ItemError]
    timings: _input_pb2.Timings
    def __init__(self, seq: _Optional[int] = ..., upserted: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[_input_pb2.ItemError, _Mapping]]] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ...) -> None: ...

class UpsertStreamRequest(_message.Message):
    __slots__ = ("sequence", "batch")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    batch: UpsertRequest
    def __init__(self, sequence: _Optional[int] = ..., batch: _Optional[_Union[UpsertRequest, _Mapping]] = ...) -> None: ...

class UpsertStreamResponse(_message.Message):
    __slots__ = ("sequence", "result", "error")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    result: UpsertResponse
    error: _input_pb2.BatchError
    def __init__(self, sequence: _Optional[int] = ..., result: _Optional[_Union[UpsertResponse, _Mapping]] = ..., error: _Optional[_Union[_input_pb2.BatchError, _Mapping]] = ...) -> None: ...

class PointSelector(_message.Message):
    __slots__ = ("ids", "filter")
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ids: _point_id_pb2.PointIds
    filter: _filter_pb2.Filter
    def __init__(self, ids: _Optional[_Union[_point_id_pb2.PointIds, _Mapping]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "points", "wait", "durability")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    points: PointSelector
    wait: bool
    durability: _collection_pb2.Durability
    def __init__(self, collection: _Optional[str] = ..., points: _Optional[_Union[PointSelector, _Mapping]] = ..., wait: bool = ..., durability: _Optional[_Union[_collection_pb2.Durability, str]] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("seq", "deleted")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    deleted: int
    def __init__(self, seq: _Optional[int] = ..., deleted: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "ids", "with_payload", "with_vectors", "dtype", "min_seq")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _containers.RepeatedCompositeFieldContainer[_point_id_pb2.PointId]
    with_payload: _query_pb2.WithPayload
    with_vectors: bool
    dtype: _vector_pb2.DType
    min_seq: int
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Iterable[_Union[_point_id_pb2.PointId, _Mapping]]] = ..., with_payload: _Optional[_Union[_query_pb2.WithPayload, _Mapping]] = ..., with_vectors: bool = ..., dtype: _Optional[_Union[_vector_pb2.DType, str]] = ..., min_seq: _Optional[int] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("id", "payload_json", "vector", "seq")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    id: _point_id_pb2.PointId
    payload_json: bytes
    vector: _vector_pb2.Vector
    seq: int
    def __init__(self, id: _Optional[_Union[_point_id_pb2.PointId, _Mapping]] = ..., payload_json: _Optional[bytes] = ..., vector: _Optional[_Union[_vector_pb2.Vector, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("records", "next_index")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    next_index: int
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., next_index: _Optional[int] = ...) -> None: ...

class SetPayloadRequest(_message.Message):
    __slots__ = ("collection", "points", "payload_json", "replace", "key", "wait", "durability")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    points: PointSelector
    payload_json: bytes
    replace: bool
    key: str
    wait: bool
    durability: _collection_pb2.Durability
    def __init__(self, collection: _Optional[str] = ..., points: _Optional[_Union[PointSelector, _Mapping]] = ..., payload_json: _Optional[bytes] = ..., replace: bool = ..., key: _Optional[str] = ..., wait: bool = ..., durability: _Optional[_Union[_collection_pb2.Durability, str]] = ...) -> None: ...

class DeletePayloadRequest(_message.Message):
    __slots__ = ("collection", "points", "keys", "all", "wait", "durability")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    points: PointSelector
    keys: _containers.RepeatedScalarFieldContainer[str]
    all: bool
    wait: bool
    durability: _collection_pb2.Durability
    def __init__(self, collection: _Optional[str] = ..., points: _Optional[_Union[PointSelector, _Mapping]] = ..., keys: _Optional[_Iterable[str]] = ..., all: bool = ..., wait: bool = ..., durability: _Optional[_Union[_collection_pb2.Durability, str]] = ...) -> None: ...

class PayloadResponse(_message.Message):
    __slots__ = ("seq", "updated")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    updated: int
    def __init__(self, seq: _Optional[int] = ..., updated: _Optional[int] = ...) -> None: ...

class OrderBy(_message.Message):
    __slots__ = ("key", "descending")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DESCENDING_FIELD_NUMBER: _ClassVar[int]
    key: str
    descending: bool
    def __init__(self, key: _Optional[str] = ..., descending: bool = ...) -> None: ...

class ScrollRequest(_message.Message):
    __slots__ = ("collection", "filter", "limit", "cursor", "with_payload", "with_vectors", "dtype", "order_by", "min_seq")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _filter_pb2.Filter
    limit: int
    cursor: str
    with_payload: _query_pb2.WithPayload
    with_vectors: bool
    dtype: _vector_pb2.DType
    order_by: OrderBy
    min_seq: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ..., with_payload: _Optional[_Union[_query_pb2.WithPayload, _Mapping]] = ..., with_vectors: bool = ..., dtype: _Optional[_Union[_vector_pb2.DType, str]] = ..., order_by: _Optional[_Union[OrderBy, _Mapping]] = ..., min_seq: _Optional[int] = ...) -> None: ...

class ScrollResponse(_message.Message):
    __slots__ = ("records", "next_cursor")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    next_cursor: str
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter", "exact", "min_seq")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    MIN_SEQ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _filter_pb2.Filter
    exact: bool
    min_seq: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., exact: bool = ..., min_seq: _Optional[int] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count", "visible_seq")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_SEQ_FIELD_NUMBER: _ClassVar[int]
    count: int
    visible_seq: int
    def __init__(self, count: _Optional[int] = ..., visible_seq: _Optional[int] = ...) -> None: ...

class FindDuplicatesRequest(_message.Message):
    __slots__ = ("collection", "method", "min_score", "max_distance_bits", "filter", "page_size", "page_token", "with_payload")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    MAX_DISTANCE_BITS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    collection: str
    method: DuplicateMethod
    min_score: float
    max_distance_bits: int
    filter: _filter_pb2.Filter
    page_size: int
    page_token: str
    with_payload: _query_pb2.WithPayload
    def __init__(self, collection: _Optional[str] = ..., method: _Optional[_Union[DuplicateMethod, str]] = ..., min_score: _Optional[float] = ..., max_distance_bits: _Optional[int] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., with_payload: _Optional[_Union[_query_pb2.WithPayload, _Mapping]] = ...) -> None: ...

class DuplicateGroup(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[_query_pb2.Hit]
    def __init__(self, points: _Optional[_Iterable[_Union[_query_pb2.Hit, _Mapping]]] = ...) -> None: ...

class FindDuplicatesResponse(_message.Message):
    __slots__ = ("groups", "next_page_token")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[DuplicateGroup]
    next_page_token: str
    def __init__(self, groups: _Optional[_Iterable[_Union[DuplicateGroup, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
