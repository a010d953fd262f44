from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tower(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOWER_UNSPECIFIED: _ClassVar[Tower]
    TOWER_IMAGE: _ClassVar[Tower]
    TOWER_TEXT: _ClassVar[Tower]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_DRAINING: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]

class ScoringKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORING_KIND_UNSPECIFIED: _ClassVar[ScoringKind]
    SCORING_KIND_SOFTMAX: _ClassVar[ScoringKind]
    SCORING_KIND_SIGMOID: _ClassVar[ScoringKind]
TOWER_UNSPECIFIED: Tower
TOWER_IMAGE: Tower
TOWER_TEXT: Tower
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_DRAINING: ModelState
MODEL_STATE_FAILED: ModelState
SCORING_KIND_UNSPECIFIED: ScoringKind
SCORING_KIND_SOFTMAX: ScoringKind
SCORING_KIND_SIGMOID: ScoringKind

class Scoring(_message.Message):
    __slots__ = ("kind", "logit_scale", "logit_bias")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    kind: ScoringKind
    logit_scale: float
    logit_bias: float
    def __init__(self, kind: _Optional[_Union[ScoringKind, str]] = ..., logit_scale: _Optional[float] = ..., logit_bias: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_batch_inputs", "max_image_bytes", "max_image_pixels", "max_text_bytes", "max_payload_bytes", "max_query_limit", "max_batch_queries", "max_labels", "max_templates", "max_stream_in_flight", "image_formats", "max_block_points")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_INPUTS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUERY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_QUERIES_FIELD_NUMBER: _ClassVar[int]
    MAX_LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMATS_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOCK_POINTS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_batch_inputs: int
    max_image_bytes: int
    max_image_pixels: int
    max_text_bytes: int
    max_payload_bytes: int
    max_query_limit: int
    max_batch_queries: int
    max_labels: int
    max_templates: int
    max_stream_in_flight: int
    image_formats: _containers.RepeatedScalarFieldContainer[str]
    max_block_points: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_batch_inputs: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., max_image_pixels: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_payload_bytes: _Optional[int] = ..., max_query_limit: _Optional[int] = ..., max_batch_queries: _Optional[int] = ..., max_labels: _Optional[int] = ..., max_templates: _Optional[int] = ..., max_stream_in_flight: _Optional[int] = ..., image_formats: _Optional[_Iterable[str]] = ..., max_block_points: _Optional[int] = ...) -> None: ...

class Runtime(_message.Message):
    __slots__ = ("provider", "device", "version", "threads", "sessions", "precision")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    provider: str
    device: str
    version: str
    threads: int
    sessions: int
    precision: str
    def __init__(self, provider: _Optional[str] = ..., device: _Optional[str] = ..., version: _Optional[str] = ..., threads: _Optional[int] = ..., sessions: _Optional[int] = ..., precision: _Optional[str] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "aliases", "space_id", "dim", "towers", "image_px", "context_length", "limits", "scoring", "runtime", "precision", "state", "is_default", "licence", "description", "metrics_json", "loaded_unix_ms", "default_templates", "bundle_format_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    TOWERS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PX_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SCORING_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    LOADED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    space_id: str
    dim: int
    towers: _containers.RepeatedScalarFieldContainer[Tower]
    image_px: int
    context_length: int
    limits: Limits
    scoring: Scoring
    runtime: Runtime
    precision: str
    state: ModelState
    is_default: bool
    licence: str
    description: str
    metrics_json: bytes
    loaded_unix_ms: int
    default_templates: _containers.RepeatedScalarFieldContainer[str]
    bundle_format_version: int
    def __init__(self, name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., space_id: _Optional[str] = ..., dim: _Optional[int] = ..., towers: _Optional[_Iterable[_Union[Tower, str]]] = ..., image_px: _Optional[int] = ..., context_length: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., scoring: _Optional[_Union[Scoring, _Mapping]] = ..., runtime: _Optional[_Union[Runtime, _Mapping]] = ..., precision: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., is_default: bool = ..., licence: _Optional[str] = ..., description: _Optional[str] = ..., metrics_json: _Optional[bytes] = ..., loaded_unix_ms: _Optional[int] = ..., default_templates: _Optional[_Iterable[str]] = ..., bundle_format_version: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "default_model", "limits", "server_version")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    next_page_token: str
    default_model: str
    limits: Limits
    server_version: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., default_model: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., server_version: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("bundle", "name", "aliases", "make_default")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    MAKE_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    make_default: bool
    def __init__(self, bundle: _Optional[str] = ..., name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., make_default: bool = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UpdateModelAliasesRequest(_message.Message):
    __slots__ = ("aliases", "deleted", "default_model")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.ScalarMap[str, str]
    deleted: _containers.RepeatedScalarFieldContainer[str]
    default_model: str
    def __init__(self, aliases: _Optional[_Mapping[str, str]] = ..., deleted: _Optional[_Iterable[str]] = ..., default_model: _Optional[str] = ...) -> None: ...

class UpdateModelAliasesResponse(_message.Message):
    __slots__ = ("aliases",)
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.ScalarMap[str, str]
    def __init__(self, aliases: _Optional[_Mapping[str, str]] = ...) -> None: ...
