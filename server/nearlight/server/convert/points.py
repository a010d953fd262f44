"""Points: what is written, and what is read back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearlight.server.call import F32, Embedded, Input
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.values import (
    check_count,
    json_bytes,
    point_id_message,
    point_id_of,
    vector_message,
    vector_of,
)
from nearlight.server.errors import InvalidInput
from nearlight.store import Hit, InvalidPoint, Point, PointId, Record, payload_from_json, validate_point
from nearlight.v1 import point_pb2, query_pb2

MAX_KEY_BYTES = 512


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point to write.

    Args:
        id: its name.
        source: its vector (D,), or what it is made from.
        payload: its JSON object.
    """

    id: PointId
    source: F32 | Input
    payload: dict[str, Any]


def check_upsert(request: point_pb2.UpsertRequest, limits: LimitsConfig) -> None:
    """Check what concerns the whole batch.

    Raises:
        InvalidInput: none or too many points, or points beside a block.
    """
    if not request.HasField("block"):
        check_count(len(request.points), limits.max_batch_inputs, "points")
    elif request.points:
        n = len(request.points)
        raise InvalidInput(f"points holds {n} items; beside a block it must hold none", field="points")


def new_point(
    message: point_pb2.PointInput, i: int, dim: int, limits: LimitsConfig
) -> NewPoint | InvalidInput:
    """One point, or what is wrong with it: it fails alone."""
    field = f"points[{i}]"
    try:
        point_id = point_id_of(message.id, f"{field}.id")
        payload = payload_of(message.payload_json, f"{field}.payload_json", limits, i)
        return NewPoint(point_id, _source_of(message, field, dim), payload)
    except InvalidInput as error:
        return error


def _source_of(message: point_pb2.PointInput, field: str, dim: int) -> F32 | Input:
    which = message.WhichOneof("source")
    if which == "vector":
        return vector_of(message.vector, f"{field}.vector", dim)
    if which == "image":
        return Input("image", message.image, f"{field}.image", hashed=True)
    if which == "text":
        return Input("text", message.text, f"{field}.text")
    raise InvalidInput(f"{field} has no source; it must hold vector, image or text", field=field)


def payload_of(data: bytes, field: str, limits: LimitsConfig, i: int | None = None) -> dict[str, Any]:
    """A payload, checked.

    Args:
        data: UTF-8 JSON.
        field: its name in the request.
        limits: of the server.
        i: index of its point, for the error's text.

    Raises:
        InvalidInput: too big, or not a JSON object.
    """
    if len(data) > limits.max_payload_bytes:
        reason = f"{field} has {len(data)} bytes; the limit is {limits.max_payload_bytes}"
        raise InvalidInput(reason, field=field)
    try:
        return payload_from_json(data, i)
    except InvalidPoint as error:
        raise InvalidInput(str(error), field=field) from error


def storable(new: NewPoint, source: Embedded | F32, i: int) -> Point | InvalidInput:
    """A point the store takes, or why it does not: a last look, so that one point cannot fail its batch."""
    if isinstance(source, Embedded):
        vector, look = source.vector, source.perceptual_hash
    else:
        vector, look = source, None
    point = Point(id=new.id, vector=vector, payload=new.payload, perceptual_hash=look)
    try:
        validate_point(point, len(vector), i)
    except InvalidPoint as error:
        return InvalidInput(str(error), field=error.field)
    return point


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of a point come back.

    Args:
        payload: whether any payload does.
        include: only these keys; empty: all.
        exclude: all but these keys.
        vectors: whether the vector does.
        dtype: its number format on the wire.
    """

    payload: bool = True
    include: tuple[tuple[str, ...], ...] = ()
    exclude: tuple[tuple[str, ...], ...] = ()
    vectors: bool = False
    dtype: int = 0


def wanted_parts(with_payload: query_pb2.WithPayload, with_vectors: bool, dtype: int) -> Wanted:
    """What the caller wants of each point."""
    which = with_payload.WhichOneof("selector")
    return Wanted(
        payload=with_payload.enable if which == "enable" else True,
        include=tuple(map(key_path, with_payload.include.keys)) if which == "include" else (),
        exclude=tuple(map(key_path, with_payload.exclude.keys)) if which == "exclude" else (),
        vectors=with_vectors,
        dtype=dtype,
    )


def key_path(key: str) -> tuple[str, ...]:
    """The parts of a payload key: dots go into objects, a backslash keeps a dot."""
    parts = [""]
    characters = iter(key)
    for character in characters:
        if character == "\\":
            parts[-1] += next(characters, "\\")
        elif character == ".":
            parts.append("")
        else:
            parts[-1] += character
    return tuple(parts)


def path_of(key: str, field: str) -> tuple[str, ...]:
    """The parts of a payload key, checked.

    Raises:
        InvalidInput: empty, or longer than 512 bytes.
    """
    n_bytes = len(key.encode())
    if not 1 <= n_bytes <= MAX_KEY_BYTES:
        raise InvalidInput(f"{field} has {n_bytes} bytes; the limit is 1 to {MAX_KEY_BYTES}", field=field)
    return key_path(key)


def key_of_path(path: Sequence[str]) -> str:
    """The payload key of these parts: the inverse of `key_path`."""
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in path)


def payload_parts(payload: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    """The wanted part of a payload."""
    if wanted.include:
        return _keep(payload, wanted.include)
    return _drop(payload, wanted.exclude)


def _keep(payload: Mapping[str, Any], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in payload.items():
        deeper = [path[1:] for path in paths if path[0] == key]
        if () in deeper:
            kept[key] = value
        elif deeper and isinstance(value, Mapping):
            part = _keep(value, deeper)
            if part:
                kept[key] = part
    return kept


def _drop(payload: Mapping[str, Any], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in payload.items():
        deeper = [path[1:] for path in paths if path[0] == key]
        if () not in deeper:
            kept[key] = _drop(value, deeper) if deeper and isinstance(value, Mapping) else value
    return kept


def record_message(record: Record, wanted: Wanted) -> point_pb2.Record:
    """A stored point on the wire."""
    return point_pb2.Record(
        id=point_id_message(record.id),
        payload_json=json_bytes(payload_parts(record.payload, wanted)) if wanted.payload else b"",
        vector=None if record.vector is None else vector_message(record.vector, wanted.dtype),
        seq=record.seq,
    )


def add_hits(messages: Any, hits: Iterable[Hit], wanted: Wanted) -> None:
    """Hits on the wire, made where they belong: messages made elsewhere would be copied.

    Args:
        messages: the repeated field of the reply.
        hits: to add.
        wanted: parts of each.
    """
    is_whole = not (wanted.include or wanted.exclude)
    for hit in hits:
        message = messages.add(score=hit.score, seq=hit.seq)
        if isinstance(hit.id, str):
            message.id.str = hit.id
        else:
            message.id.num = hit.id
        if wanted.payload and hit.payload_json is not None:
            text = hit.payload_json  # as it is stored is as it is sent
            whole = text.encode() if is_whole else json_bytes(payload_parts(json.loads(text), wanted))
            message.payload_json = whole
        if wanted.vectors and hit.vector is not None:
            message.vector.CopyFrom(vector_message(hit.vector, wanted.dtype))
