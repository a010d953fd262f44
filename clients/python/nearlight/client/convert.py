"""Between Python values and the wire's messages. Nothing else in the client knows both."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import json_format

from nearlight.client.classification import ScoredLabel
from nearlight.client.errors import InvalidInput
from nearlight.client.files import MAX_IMAGE_FILE_BYTES, read_image_file
from nearlight.client.index_values import index_state_from_wire
from nearlight.client.values import (
    F32,
    CollectionInfo,
    FilterLike,
    Hit,
    HitGroup,
    Image,
    Input,
    ItemError,
    Limits,
    ModelInfo,
    Point,
    PointId,
    Record,
    describe,
)
from nearlight.v1 import (
    collection_pb2,
    embedding_pb2,
    input_pb2,
    model_pb2,
    point_id_pb2,
    point_pb2,
    query_pb2,
    vector_pb2,
)
from nearlight.v1.filter_pb2 import Filter

MAX_ID_BYTES = 512
_FIRST_INDEX = re.compile(r"\[\d+\]")
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_WIRE_DTYPES = {
    vector_pb2.DTYPE_UNSPECIFIED: "<f4",
    vector_pb2.DTYPE_F32: "<f4",
    vector_pb2.DTYPE_F16: "<f2",
}


# ---- to the wire: each raises InvalidInput, without sending anything, where the value cannot be right


def text_for_wire(text: str) -> str:
    """Returns the text, once it is sure that UTF-8 can hold it (a lone surrogate cannot be sent)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"text {text!r:.60} is not valid Unicode at character {error.start}") from None
    return text


def image_for_wire(image: Image) -> bytes:
    """Returns the encoded bytes of an image, read from its path where one is given."""
    if isinstance(image, bytes | bytearray | memoryview):
        size = memoryview(image).nbytes
        if size > MAX_IMAGE_FILE_BYTES:
            raise InvalidInput(f"an image has {size} bytes; the limit is {MAX_IMAGE_FILE_BYTES}")
        return bytes(image)
    if not isinstance(image, os.PathLike):
        raise InvalidInput(f"an image is bytes or a path, not {type(image).__name__}")
    try:
        return read_image_file(image)[0]
    except OSError as error:
        raise InvalidInput(f"cannot read {os.fspath(image)!r}: {error.strerror or error}") from None


def input_for_wire(source: Input) -> input_pb2.Input:
    """Returns one input of Embed: a ``str`` is a text, anything else an image."""
    if isinstance(source, str):
        return input_pb2.Input(text=text_for_wire(source))
    return input_pb2.Input(image=image_for_wire(source))


def vector_for_wire(vector: npt.ArrayLike) -> vector_pb2.Vector:
    """Returns a vector (D,) as little-endian float32."""
    try:
        numbers = np.asarray(vector, dtype="<f4")  # (D,)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a vector of {describe(vector)} is not numbers: {error}") from None
    if numbers.ndim != 1 or numbers.size == 0:
        raise InvalidInput(f"a vector has shape {numbers.shape}; it must be (dim,)")
    return vector_pb2.Vector(data=numbers.tobytes(), dtype=vector_pb2.DTYPE_F32, dim=numbers.size)


def id_for_wire(point_id: PointId) -> point_id_pb2.PointId:
    """Returns an id: a string of 1 to 512 UTF-8 bytes, or an integer from 0 to 2**64 - 1."""
    if isinstance(point_id, str):
        size = len(text_for_wire(point_id).encode("utf-8"))
        if not 1 <= size <= MAX_ID_BYTES:
            raise InvalidInput(f"id {point_id!r:.60} has {size} bytes; it must have 1 to {MAX_ID_BYTES}")
        return point_id_pb2.PointId(str=point_id)
    if isinstance(point_id, int | np.integer) and not isinstance(point_id, bool):
        if not 0 <= int(point_id) < 2**64:
            raise InvalidInput(f"id {point_id} is out of range; it must be 0 to {2**64 - 1}")
        return point_id_pb2.PointId(num=int(point_id))
    raise InvalidInput(f"id {point_id!r:.60} is a {type(point_id).__name__}; it must be a str or an int")


def uint32_for_wire(name: str, value: int) -> int:
    """Returns the number, once the wire can hold it; the server's own bound is narrower."""
    if not 0 <= value < 2**32:
        raise InvalidInput(f"{name} is {value}; it must be 0 to {2**32 - 1}")
    return value


def json_for_wire(value: Mapping[str, Any], name: str = "payload") -> bytes:
    """Returns a JSON object as UTF-8. Integers stay exact; NaN and infinities are refused."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is a {type(value).__name__}; it must be a mapping")
    try:
        return json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} cannot be JSON: {error}") from None


def point_for_wire(point: Point) -> point_pb2.PointInput:
    """Returns a point to write."""
    message = point_pb2.PointInput(id=id_for_wire(point.id), payload_json=json_for_wire(point.payload))
    if point.vector is not None:
        message.vector.CopyFrom(vector_for_wire(point.vector))
    elif point.image is not None:
        message.image = image_for_wire(point.image)
    elif point.text is not None:
        message.text = text_for_wire(point.text)
    return message


def filter_for_wire(filter: FilterLike) -> Filter:
    """Returns a filter: a message as it is, or read from JSON."""
    if isinstance(filter, Filter):
        return filter
    try:
        return json_format.ParseDict(dict(filter), Filter())
    except json_format.ParseError as error:
        raise InvalidInput(f"filter is not one of filter.proto: {error}") from None


def with_payload_for_wire(wanted: bool | Sequence[str]) -> query_pb2.WithPayload:
    """Returns the selector: all, none, or these keys."""
    if isinstance(wanted, bool):
        return query_pb2.WithPayload(enable=wanted)
    return query_pb2.WithPayload(include=query_pb2.Keys(keys=list(wanted)))


def labels_for_wire(
    labels: Sequence[str] | Mapping[str, Sequence[str]], templates: Sequence[str]
) -> embedding_pb2.Labels:
    """Returns labels with the words that stand for them, and templates."""
    if isinstance(labels, str):
        raise InvalidInput(f"labels is one string, {labels!r:.60}; it must be a list of strings")
    words = labels if isinstance(labels, Mapping) else {}
    return embedding_pb2.Labels(
        labels=[
            embedding_pb2.Label(
                name=text_for_wire(name), words=[text_for_wire(w) for w in words.get(name, ())]
            )
            for name in labels
        ],
        templates=[text_for_wire(template) for template in templates],
    )


# ---- from the wire


def vector_from_wire(message: vector_pb2.Vector) -> F32:
    """Returns a vector (D,) as float32, a copy."""
    return np.frombuffer(message.data, _WIRE_DTYPES[message.dtype]).astype(np.float32)


def block_from_wire(message: vector_pb2.VectorBlock) -> F32:
    """Returns vectors (N, D) as float32, a copy."""
    numbers = np.frombuffer(message.data, _WIRE_DTYPES[message.dtype])
    return numbers.reshape(message.count, message.dim).astype(np.float32)  # (N, D)


def item_error_from_wire(message: input_pb2.ItemError, index: int) -> ItemError:
    """Returns an item's error under the index it has for the caller, not for the batch it was sent in."""
    field = _FIRST_INDEX.sub(f"[{index}]", message.field, count=1)
    text = message.message.removeprefix(f"{message.field}: ") if message.field else message.message
    return ItemError(index, code_name(message.code), text, field)


def code_name(number: int) -> str:
    """Returns the name of a gRPC status number, such as "INVALID_ARGUMENT"."""
    return _CODE_NAMES.get(number, "UNKNOWN")


def local_item_error(index: int, error: InvalidInput) -> ItemError:
    """Returns the error of an item that was not worth sending."""
    return ItemError(index, grpc.StatusCode.INVALID_ARGUMENT.name, str(error))


def id_from_wire(message: point_id_pb2.PointId) -> PointId:
    """Returns an id as ``str`` or ``int``."""
    return message.str if message.WhichOneof("id") == "str" else message.num


def json_from_wire(data: bytes) -> dict[str, Any]:
    """Returns a JSON object; {} where there is none."""
    return dict(json.loads(data)) if data else {}


def record_from_wire(message: point_pb2.Record) -> Record:
    """Returns a stored point."""
    vector = vector_from_wire(message.vector) if message.HasField("vector") else None
    return Record(id_from_wire(message.id), json_from_wire(message.payload_json), vector, message.seq)


def hit_from_wire(message: query_pb2.Hit) -> Hit:
    """Returns a hit."""
    return Hit(
        id=id_from_wire(message.id),
        score=message.score,
        payload=json_from_wire(message.payload_json),
        relevance=message.relevance if message.HasField("relevance") else None,
        vector=vector_from_wire(message.vector) if message.HasField("vector") else None,
        seq=message.seq,
    )


def group_from_wire(message: query_pb2.HitGroup) -> HitGroup:
    """Returns a group of hits."""
    return HitGroup(json.loads(message.key_json), tuple(hit_from_wire(hit) for hit in message.hits))


def labels_from_wire(message: embedding_pb2.ImageLabels) -> tuple[ScoredLabel, ...]:
    """Returns the labels of an image, best first."""
    return tuple(ScoredLabel(one.label, one.probability, one.score) for one in message.labels)


def collection_from_wire(message: collection_pb2.CollectionInfo) -> CollectionInfo:
    """Returns a collection."""
    return CollectionInfo(
        name=message.name,
        count=message.count,
        dim=message.dim,
        space_id=message.space_id,
        model=message.model,
        last_seq=message.last_seq,
        created_unix_ms=message.created_unix_ms,
        metadata=json_from_wire(message.metadata_json),
        aliases=tuple(message.aliases),
        durability="relaxed" if message.durability == collection_pb2.DURABILITY_RELAXED else "full",
        payload_indexes={
            index.key: collection_pb2.PayloadType.Name(index.type).removeprefix("PAYLOAD_TYPE_").lower()
            for index in message.payload_indexes
        },
        index=index_state_from_wire(message),
        store_images=message.store_images,
    )


def limits_from_wire(message: model_pb2.Limits) -> Limits:
    """Returns a server's limits, with defaults where it does not say."""
    assumed = Limits()
    return Limits(
        max_message_bytes=message.max_message_bytes or assumed.max_message_bytes,
        max_batch_inputs=message.max_batch_inputs or assumed.max_batch_inputs,
        max_batch_queries=message.max_batch_queries or assumed.max_batch_queries,
        max_image_bytes=message.max_image_bytes,
        max_image_pixels=message.max_image_pixels,
        max_text_bytes=message.max_text_bytes,
        max_block_points=message.max_block_points,
    )


def model_from_wire(message: model_pb2.ModelInfo) -> ModelInfo:
    """Returns a model."""
    towers: dict[int, Literal["image", "text"]]
    towers = {model_pb2.TOWER_IMAGE: "image", model_pb2.TOWER_TEXT: "text"}
    sigmoid = message.scoring.kind == model_pb2.SCORING_KIND_SIGMOID
    return ModelInfo(
        name=message.name,
        space_id=message.space_id,
        dim=message.dim,
        towers=tuple(towers[tower] for tower in message.towers if tower in towers),
        image_px=message.image_px,
        context_length=message.context_length,
        precision=message.precision,
        provider=message.runtime.provider,
        runtime_precision=message.runtime.precision,
        aliases=tuple(message.aliases),
        scoring="sigmoid" if sigmoid else "softmax",
        logit_scale=message.scoring.logit_scale,
        logit_bias=message.scoring.logit_bias,
        state=model_pb2.ModelState.Name(message.state).removeprefix("MODEL_STATE_").lower(),
        is_default=message.is_default,
        licence=message.licence,
        description=message.description,
        metrics=json_from_wire(message.metrics_json),
        limits=limits_from_wire(message.limits),
        threads=message.runtime.threads * max(1, message.runtime.sessions),
    )
