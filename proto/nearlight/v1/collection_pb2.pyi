from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_FULL: _ClassVar[Durability]
    DURABILITY_RELAXED: _ClassVar[Durability]

class IndexKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_KIND_UNSPECIFIED: _ClassVar[IndexKind]
    INDEX_KIND_EXACT: _ClassVar[IndexKind]
    INDEX_KIND_HNSW: _ClassVar[IndexKind]
    INDEX_KIND_IVF: _ClassVar[IndexKind]

class CollectionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLLECTION_STATE_UNSPECIFIED: _ClassVar[CollectionState]
    COLLECTION_STATE_READY: _ClassVar[CollectionState]
    COLLECTION_STATE_BUILDING: _ClassVar[CollectionState]
    COLLECTION_STATE_DEGRADED: _ClassVar[CollectionState]
    COLLECTION_STATE_UPGRADING: _ClassVar[CollectionState]

class PayloadType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_TYPE_UNSPECIFIED: _ClassVar[PayloadType]
    PAYLOAD_TYPE_KEYWORD: _ClassVar[PayloadType]
    PAYLOAD_TYPE_INTEGER: _ClassVar[PayloadType]
    PAYLOAD_TYPE_NUMBER: _ClassVar[PayloadType]
    PAYLOAD_TYPE_BOOL: _ClassVar[PayloadType]
    PAYLOAD_TYPE_DATETIME: _ClassVar[PayloadType]
    PAYLOAD_TYPE_GEO: _ClassVar[PayloadType]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_FULL: Durability
DURABILITY_RELAXED: Durability
INDEX_KIND_UNSPECIFIED: IndexKind
INDEX_KIND_EXACT: IndexKind
INDEX_KIND_HNSW: IndexKind
INDEX_KIND_IVF: IndexKind
COLLECTION_STATE_UNSPECIFIED: CollectionState
COLLECTION_STATE_READY: CollectionState
COLLECTION_STATE_BUILDING: CollectionState
COLLECTION_STATE_DEGRADED: CollectionState
COLLECTION_STATE_UPGRADING: CollectionState
PAYLOAD_TYPE_UNSPECIFIED: PayloadType
PAYLOAD_TYPE_KEYWORD: PayloadType
PAYLOAD_TYPE_INTEGER: PayloadType
PAYLOAD_TYPE_NUMBER: PayloadType
PAYLOAD_TYPE_BOOL: PayloadType
PAYLOAD_TYPE_DATETIME: PayloadType
PAYLOAD_TYPE_GEO: PayloadType

class IndexConfig(_message.Message):
    __slots__ = ("kind", "exact_up_to", "hnsw_m", "hnsw_ef_construction", "recall_target")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EXACT_UP_TO_FIELD_NUMBER: _ClassVar[int]
    HNSW_M_FIELD_NUMBER: _ClassVar[int]
    HNSW_EF_CONSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    RECALL_TARGET_FIELD_NUMBER: _ClassVar[int]
    kind: IndexKind
    exact_up_to: int
    hnsw_m: int
    hnsw_ef_construction: int
    recall_target: float
    def __init__(self, kind: _Optional[_Union[IndexKind, str]] = ..., exact_up_to: _Optional[int] = ..., hnsw_m: _Optional[int] = ..., hnsw_ef_construction: _Optional[int] = ..., recall_target: _Optional[float] = ...) -> None: ...

class IndexState(_message.Message):
    __slots__ = ("kind", "generation", "indexed_seq", "head_points", "tombstones", "estimated_recall")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    INDEXED_SEQ_FIELD_NUMBER: _ClassVar[int]
    HEAD_POINTS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_RECALL_FIELD_NUMBER: _ClassVar[int]
    kind: IndexKind
    generation: int
    indexed_seq: int
    head_points: int
    tombstones: int
    estimated_recall: float
    def __init__(self, kind: _Optional[_Union[IndexKind, str]] = ..., generation: _Optional[int] = ..., indexed_seq: _Optional[int] = ..., head_points: _Optional[int] = ..., tombstones: _Optional[int] = ..., estimated_recall: _Optional[float] = ...) -> None: ...

class PayloadIndex(_message.Message):
    __slots__ = ("key", "type", "created_unix_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    key: str
    type: PayloadType
    created_unix_ms: int
    def __init__(self, key: _Optional[str] = ..., type: _Optional[_Union[PayloadType, str]] = ..., created_unix_ms: _Optional[int] = ...) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("name", "space_id", "dim", "count", "last_seq", "created_unix_ms", "metadata_json", "model", "state", "durability", "index_config", "index", "payload_indexes", "aliases", "store_images", "disk_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    INDEX_CONFIG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_INDEXES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    STORE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    space_id: str
    dim: int
    count: int
    last_seq: int
    created_unix_ms: int
    metadata_json: bytes
    model: str
    state: CollectionState
    durability: Durability
    index_config: IndexConfig
    index: IndexState
    payload_indexes: _containers.RepeatedCompositeFieldContainer[PayloadIndex]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    store_images: bool
    disk_bytes: int
    def __init__(self, name: _Optional[str] = ..., space_id: _Optional[str] = ..., dim: _Optional[int] = ..., count: _Optional[int] = ..., last_seq: _Optional[int] = ..., created_unix_ms: _Optional[int] = ..., metadata_json: _Optional[bytes] = ..., model: _Optional[str] = ..., state: _Optional[_Union[CollectionState, str]] = ..., durability: _Optional[_Union[Durability, str]] = ..., index_config: _Optional[_Union[IndexConfig, _Mapping]] = ..., index: _Optional[_Union[IndexState, _Mapping]] = ..., payload_indexes: _Optional[_Iterable[_Union[PayloadIndex, _Mapping]]] = ..., aliases: _Optional[_Iterable[str]] = ..., store_images: bool = ..., disk_bytes: _Optional[int] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("name", "model", "custom_space", "metadata_json", "durability", "index_config", "store_images")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_SPACE_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    INDEX_CONFIG_FIELD_NUMBER: _ClassVar[int]
    STORE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    custom_space: Space
    metadata_json: bytes
    durability: Durability
    index_config: IndexConfig
    store_images: bool
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., custom_space: _Optional[_Union[Space, _Mapping]] = ..., metadata_json: _Optional[bytes] = ..., durability: _Optional[_Union[Durability, str]] = ..., index_config: _Optional[_Union[IndexConfig, _Mapping]] = ..., store_images: bool = ...) -> None: ...

class Space(_message.Message):
    __slots__ = ("space_id", "dim")
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    space_id: str
    dim: int
    def __init__(self, space_id: _Optional[str] = ..., dim: _Optional[int] = ...) -> None: ...

class GetCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections", "next_page_token")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[CollectionInfo]
    next_page_token: str
    def __init__(self, collections: _Optional[_Iterable[_Union[CollectionInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteCollectionResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class UpdateCollectionRequest(_message.Message):
    __slots__ = ("name", "metadata_json", "durability", "index_config")
    NAME_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    INDEX_CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    metadata_json: bytes
    durability: Durability
    index_config: IndexConfig
    def __init__(self, name: _Optional[str] = ..., metadata_json: _Optional[bytes] = ..., durability: _Optional[_Union[Durability, str]] = ..., index_config: _Optional[_Union[IndexConfig, _Mapping]] = ...) -> None: ...

class AliasChange(_message.Message):
    __slots__ = ("set", "delete")
    SET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    set: Alias
    delete: str
    def __init__(self, set: _Optional[_Union[Alias, _Mapping]] = ..., delete: _Optional[str] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("alias", "collection")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    collection: str
    def __init__(self, alias: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class UpdateAliasesRequest(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[AliasChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[AliasChange, _Mapping]]] = ...) -> None: ...

class UpdateAliasesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAliasesRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAliasesResponse(_message.Message):
    __slots__ = ("aliases", "next_page_token")
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.RepeatedCompositeFieldContainer[Alias]
    next_page_token: str
    def __init__(self, aliases: _Optional[_Iterable[_Union[Alias, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreatePayloadIndexRequest(_message.Message):
    __slots__ = ("collection", "key", "type")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    key: str
    type: PayloadType
    def __init__(self, collection: _Optional[str] = ..., key: _Optional[str] = ..., type: _Optional[_Union[PayloadType, str]] = ...) -> None: ...

class DeletePayloadIndexRequest(_message.Message):
    __slots__ = ("collection", "key")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    key: str
    def __init__(self, collection: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...
