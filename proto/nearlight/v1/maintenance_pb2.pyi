from nearlight.v1 import collection_pb2 as _collection_pb2
from nearlight.v1 import input_pb2 as _input_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpgradeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPGRADE_STATE_UNSPECIFIED: _ClassVar[UpgradeState]
    UPGRADE_STATE_RUNNING: _ClassVar[UpgradeState]
    UPGRADE_STATE_PAUSED: _ClassVar[UpgradeState]
    UPGRADE_STATE_READY: _ClassVar[UpgradeState]
    UPGRADE_STATE_PROMOTED: _ClassVar[UpgradeState]
    UPGRADE_STATE_CANCELLED: _ClassVar[UpgradeState]
    UPGRADE_STATE_FAILED: _ClassVar[UpgradeState]
    UPGRADE_STATE_DONE: _ClassVar[UpgradeState]

class UpgradeAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPGRADE_ACTION_UNSPECIFIED: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_PAUSE: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_RESUME: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_PROMOTE: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_ROLL_BACK: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_CANCEL: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_CLEAN: _ClassVar[UpgradeAction]
    UPGRADE_ACTION_EVALUATE: _ClassVar[UpgradeAction]
UPGRADE_STATE_UNSPECIFIED: UpgradeState
UPGRADE_STATE_RUNNING: UpgradeState
UPGRADE_STATE_PAUSED: UpgradeState
UPGRADE_STATE_READY: UpgradeState
UPGRADE_STATE_PROMOTED: UpgradeState
UPGRADE_STATE_CANCELLED: UpgradeState
UPGRADE_STATE_FAILED: UpgradeState
UPGRADE_STATE_DONE: UpgradeState
UPGRADE_ACTION_UNSPECIFIED: UpgradeAction
UPGRADE_ACTION_PAUSE: UpgradeAction
UPGRADE_ACTION_RESUME: UpgradeAction
UPGRADE_ACTION_PROMOTE: UpgradeAction
UPGRADE_ACTION_ROLL_BACK: UpgradeAction
UPGRADE_ACTION_CANCEL: UpgradeAction
UPGRADE_ACTION_CLEAN: UpgradeAction
UPGRADE_ACTION_EVALUATE: UpgradeAction

class SnapshotInfo(_message.Message):
    __slots__ = ("snapshot", "collection", "created_unix_ms", "size_bytes", "sha256", "last_seq", "count", "space_id")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot: str
    collection: str
    created_unix_ms: int
    size_bytes: int
    sha256: str
    last_seq: int
    count: int
    space_id: str
    def __init__(self, snapshot: _Optional[str] = ..., collection: _Optional[str] = ..., created_unix_ms: _Optional[int] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., last_seq: _Optional[int] = ..., count: _Optional[int] = ..., space_id: _Optional[str] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots", "next_page_token")
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[SnapshotInfo]
    next_page_token: str
    def __init__(self, snapshots: _Optional[_Iterable[_Union[SnapshotInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: str
    def __init__(self, snapshot: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("snapshot", "collection")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    snapshot: str
    collection: str
    def __init__(self, snapshot: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("collection", "sample")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    sample: int
    def __init__(self, collection: _Optional[str] = ..., sample: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("kind", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    message: str
    def __init__(self, kind: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("ok", "problems", "points_checked")
    OK_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    POINTS_CHECKED_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    points_checked: int
    def __init__(self, ok: bool = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., points_checked: _Optional[int] = ...) -> None: ...

class MeasureRecallRequest(_message.Message):
    __slots__ = ("collection", "queries", "limit")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    collection: str
    queries: int
    limit: int
    def __init__(self, collection: _Optional[str] = ..., queries: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class MeasureRecallResponse(_message.Message):
    __slots__ = ("recall", "queries", "image_recall", "text_recall")
    RECALL_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_RECALL_FIELD_NUMBER: _ClassVar[int]
    TEXT_RECALL_FIELD_NUMBER: _ClassVar[int]
    recall: float
    queries: int
    image_recall: float
    text_recall: float
    def __init__(self, recall: _Optional[float] = ..., queries: _Optional[int] = ..., image_recall: _Optional[float] = ..., text_recall: _Optional[float] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class CalibrateResponse(_message.Message):
    __slots__ = ("text_midpoint", "image_midpoint", "points")
    TEXT_MIDPOINT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_MIDPOINT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    text_midpoint: float
    image_midpoint: float
    points: int
    def __init__(self, text_midpoint: _Optional[float] = ..., image_midpoint: _Optional[float] = ..., points: _Optional[int] = ...) -> None: ...

class UpgradeInfo(_message.Message):
    __slots__ = ("collection", "state", "old_space_id", "new_space_id", "done", "total", "failed", "started_unix_ms", "overlap_at_10", "message", "wanted", "model", "bundle", "max_points_per_second", "evaluation", "left_out")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OLD_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    STARTED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_AT_10_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    MAX_POINTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    collection: str
    state: UpgradeState
    old_space_id: str
    new_space_id: str
    done: int
    total: int
    failed: int
    started_unix_ms: int
    overlap_at_10: float
    message: str
    wanted: int
    model: str
    bundle: str
    max_points_per_second: float
    evaluation: UpgradeEvaluation
    left_out: int
    def __init__(self, collection: _Optional[str] = ..., state: _Optional[_Union[UpgradeState, str]] = ..., old_space_id: _Optional[str] = ..., new_space_id: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., failed: _Optional[int] = ..., started_unix_ms: _Optional[int] = ..., overlap_at_10: _Optional[float] = ..., message: _Optional[str] = ..., wanted: _Optional[int] = ..., model: _Optional[str] = ..., bundle: _Optional[str] = ..., max_points_per_second: _Optional[float] = ..., evaluation: _Optional[_Union[UpgradeEvaluation, _Mapping]] = ..., left_out: _Optional[int] = ...) -> None: ...

class UpgradeEvaluation(_message.Message):
    __slots__ = ("points", "point_overlap_at_10", "texts", "text_overlap_at_10", "old_query_ms", "new_query_ms")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    POINT_OVERLAP_AT_10_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TEXT_OVERLAP_AT_10_FIELD_NUMBER: _ClassVar[int]
    OLD_QUERY_MS_FIELD_NUMBER: _ClassVar[int]
    NEW_QUERY_MS_FIELD_NUMBER: _ClassVar[int]
    points: int
    point_overlap_at_10: float
    texts: int
    text_overlap_at_10: float
    old_query_ms: float
    new_query_ms: float
    def __init__(self, points: _Optional[int] = ..., point_overlap_at_10: _Optional[float] = ..., texts: _Optional[int] = ..., text_overlap_at_10: _Optional[float] = ..., old_query_ms: _Optional[float] = ..., new_query_ms: _Optional[float] = ...) -> None: ...

class StartUpgradeRequest(_message.Message):
    __slots__ = ("collection", "model", "max_points_per_second", "image_root")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_POINTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ROOT_FIELD_NUMBER: _ClassVar[int]
    collection: str
    model: str
    max_points_per_second: float
    image_root: str
    def __init__(self, collection: _Optional[str] = ..., model: _Optional[str] = ..., max_points_per_second: _Optional[float] = ..., image_root: _Optional[str] = ...) -> None: ...

class GetUpgradeRequest(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class ControlUpgradeRequest(_message.Message):
    __slots__ = ("collection", "action", "drop_missing", "queries")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DROP_MISSING_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    action: UpgradeAction
    drop_missing: bool
    queries: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, collection: _Optional[str] = ..., action: _Optional[_Union[UpgradeAction, str]] = ..., drop_missing: bool = ..., queries: _Optional[_Iterable[str]] = ...) -> None: ...

class ListUpgradeFailuresRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class UpgradeFailure(_message.Message):
    __slots__ = ("id_json", "message")
    ID_JSON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id_json: bytes
    message: str
    def __init__(self, id_json: _Optional[bytes] = ..., message: _Optional[str] = ...) -> None: ...

class ListUpgradeFailuresResponse(_message.Message):
    __slots__ = ("failures", "next_page_token")
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    failures: _containers.RepeatedCompositeFieldContainer[UpgradeFailure]
    next_page_token: str
    def __init__(self, failures: _Optional[_Iterable[_Union[UpgradeFailure, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListUpgradeWantedRequest(_message.Message):
    __slots__ = ("collection", "page_size", "page_token")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collection: str
    page_size: int
    page_token: str
    def __init__(self, collection: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class UpgradeWanted(_message.Message):
    __slots__ = ("seq", "id_json", "payload_json")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ID_JSON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    seq: int
    id_json: bytes
    payload_json: bytes
    def __init__(self, seq: _Optional[int] = ..., id_json: _Optional[bytes] = ..., payload_json: _Optional[bytes] = ...) -> None: ...

class ListUpgradeWantedResponse(_message.Message):
    __slots__ = ("wanted", "next_page_token")
    WANTED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    wanted: _containers.RepeatedCompositeFieldContainer[UpgradeWanted]
    next_page_token: str
    def __init__(self, wanted: _Optional[_Iterable[_Union[UpgradeWanted, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpgradeSource(_message.Message):
    __slots__ = ("seq", "image", "text", "missing")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    seq: int
    image: bytes
    text: str
    missing: str
    def __init__(self, seq: _Optional[int] = ..., image: _Optional[bytes] = ..., text: _Optional[str] = ..., missing: _Optional[str] = ...) -> None: ...

class SendUpgradeSourcesRequest(_message.Message):
    __slots__ = ("collection", "sources")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    sources: _containers.RepeatedCompositeFieldContainer[UpgradeSource]
    def __init__(self, collection: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[UpgradeSource, _Mapping]]] = ...) -> None: ...

class SendUpgradeSourcesResponse(_message.Message):
    __slots__ = ("embedded", "outdated", "errors")
    EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    embedded: int
    outdated: int
    errors: _containers.RepeatedCompositeFieldContainer[_input_pb2.ItemError]
    def __init__(self, embedded: _Optional[int] = ..., outdated: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[_input_pb2.ItemError, _Mapping]]] = ...) -> None: ...
