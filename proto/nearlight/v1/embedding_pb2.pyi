from nearlight.v1 import input_pb2 as _input_pb2
from nearlight.v1 import vector_pb2 as _vector_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbedRequest(_message.Message):
    __slots__ = ("model", "inputs", "dtype", "normalize", "priority", "cache", "dim", "truncate", "image_profile")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PROFILE_FIELD_NUMBER: _ClassVar[int]
    model: str
    inputs: _containers.RepeatedCompositeFieldContainer[_input_pb2.Input]
    dtype: _vector_pb2.DType
    normalize: bool
    priority: _input_pb2.Priority
    cache: _input_pb2.CacheOptions
    dim: int
    truncate: bool
    image_profile: _input_pb2.ImageProfile
    def __init__(self, model: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_input_pb2.Input, _Mapping]]] = ..., dtype: _Optional[_Union[_vector_pb2.DType, str]] = ..., normalize: bool = ..., priority: _Optional[_Union[_input_pb2.Priority, str]] = ..., cache: _Optional[_Union[_input_pb2.CacheOptions, _Mapping]] = ..., dim: _Optional[int] = ..., truncate: bool = ..., image_profile: _Optional[_Union[_input_pb2.ImageProfile, str]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("vectors", "errors", "model", "space_id", "timings", "cache_hits", "truncated")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    vectors: _vector_pb2.VectorBlock
    errors: _containers.RepeatedCompositeFieldContainer[_input_pb2.ItemError]
    model: str
    space_id: str
    timings: _input_pb2.Timings
    cache_hits: int
    truncated: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, vectors: _Optional[_Union[_vector_pb2.VectorBlock, _Mapping]] = ..., errors: _Optional[_Iterable[_Union[_input_pb2.ItemError, _Mapping]]] = ..., model: _Optional[str] = ..., space_id: _Optional[str] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ..., cache_hits: _Optional[int] = ..., truncated: _Optional[_Iterable[int]] = ...) -> None: ...

class EmbedStreamRequest(_message.Message):
    __slots__ = ("sequence", "batch")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    batch: EmbedRequest
    def __init__(self, sequence: _Optional[int] = ..., batch: _Optional[_Union[EmbedRequest, _Mapping]] = ...) -> None: ...

class EmbedStreamResponse(_message.Message):
    __slots__ = ("sequence", "result", "error")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    result: EmbedResponse
    error: _input_pb2.BatchError
    def __init__(self, sequence: _Optional[int] = ..., result: _Optional[_Union[EmbedResponse, _Mapping]] = ..., error: _Optional[_Union[_input_pb2.BatchError, _Mapping]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "words")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., words: _Optional[_Iterable[str]] = ...) -> None: ...

class Labels(_message.Message):
    __slots__ = ("labels", "templates")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    templates: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., templates: _Optional[_Iterable[str]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "images", "labels", "label_set", "top_k", "multi_label", "min_probability", "priority", "cache")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_SET_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MULTI_LABEL_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    labels: Labels
    label_set: str
    top_k: int
    multi_label: bool
    min_probability: float
    priority: _input_pb2.Priority
    cache: _input_pb2.CacheOptions
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., labels: _Optional[_Union[Labels, _Mapping]] = ..., label_set: _Optional[str] = ..., top_k: _Optional[int] = ..., multi_label: bool = ..., min_probability: _Optional[float] = ..., priority: _Optional[_Union[_input_pb2.Priority, str]] = ..., cache: _Optional[_Union[_input_pb2.CacheOptions, _Mapping]] = ...) -> None: ...

class ScoredLabel(_message.Message):
    __slots__ = ("label", "probability", "score", "index")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    score: float
    index: int
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., score: _Optional[float] = ..., index: _Optional[int] = ...) -> None: ...

class ImageLabels(_message.Message):
    __slots__ = ("labels", "abstained")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[ScoredLabel]
    abstained: bool
    def __init__(self, labels: _Optional[_Iterable[_Union[ScoredLabel, _Mapping]]] = ..., abstained: bool = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("results", "errors", "model", "space_id", "timings", "labels_cached", "calibrated")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_CACHED_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImageLabels]
    errors: _containers.RepeatedCompositeFieldContainer[_input_pb2.ItemError]
    model: str
    space_id: str
    timings: _input_pb2.Timings
    labels_cached: bool
    calibrated: bool
    def __init__(self, results: _Optional[_Iterable[_Union[ImageLabels, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[_input_pb2.ItemError, _Mapping]]] = ..., model: _Optional[str] = ..., space_id: _Optional[str] = ..., timings: _Optional[_Union[_input_pb2.Timings, _Mapping]] = ..., labels_cached: bool = ..., calibrated: bool = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("temperature", "bias", "ece_before", "ece_after", "images", "held_out_images")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    ECE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ECE_AFTER_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_IMAGES_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    bias: float
    ece_before: float
    ece_after: float
    images: int
    held_out_images: int
    def __init__(self, temperature: _Optional[float] = ..., bias: _Optional[float] = ..., ece_before: _Optional[float] = ..., ece_after: _Optional[float] = ..., images: _Optional[int] = ..., held_out_images: _Optional[int] = ...) -> None: ...

class LabelSet(_message.Message):
    __slots__ = ("name", "labels", "model", "min_probability", "calibration", "space_id", "updated_unix_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: Labels
    model: str
    min_probability: float
    calibration: Calibration
    space_id: str
    updated_unix_ms: int
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Union[Labels, _Mapping]] = ..., model: _Optional[str] = ..., min_probability: _Optional[float] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., space_id: _Optional[str] = ..., updated_unix_ms: _Optional[int] = ...) -> None: ...

class PutLabelSetRequest(_message.Message):
    __slots__ = ("label_set", "only_if_absent")
    LABEL_SET_FIELD_NUMBER: _ClassVar[int]
    ONLY_IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    label_set: LabelSet
    only_if_absent: bool
    def __init__(self, label_set: _Optional[_Union[LabelSet, _Mapping]] = ..., only_if_absent: bool = ...) -> None: ...

class GetLabelSetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListLabelSetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLabelSetsResponse(_message.Message):
    __slots__ = ("label_sets", "next_page_token")
    LABEL_SETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    label_sets: _containers.RepeatedCompositeFieldContainer[LabelSet]
    next_page_token: str
    def __init__(self, label_sets: _Optional[_Iterable[_Union[LabelSet, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteLabelSetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteLabelSetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
