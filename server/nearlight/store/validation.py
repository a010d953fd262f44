"""What may enter a collection: every check of a point, and a checked batch ready to be written."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.store.checksums import content_checksum
from nearlight.store.errors import InvalidPoint, shown
from nearlight.store.ids import Key, key_of
from nearlight.store.points import F32, I64, Point

F64 = npt.NDArray[np.float64]

MAX_PAYLOAD_BYTES = 2**20  # as UTF-8 JSON
MAX_PAYLOAD_DEPTH = 64
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict)
_NO_PAYLOAD = (b"", b"{}", "", "{}")
ALREADY_UNIT = 1e-6  # closer than this a vector keeps its bits, so that get → upsert changes nothing


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Checked points, each id once, in the form in which they are written.

    Attributes:
        keys: N keys, all different.
        payloads: N JSON texts.
        contents: N checksums of what the rows will hold; see `content_checksum`.
        vectors: (N, D) unit length.
        vector_checksums: (N,) of the rows of `vectors`.
        points: the N points as they were given; () where they came as a block, which brings neither originals
            nor vectors of another space.
        perceptual_hashes: N, as SQLite holds them: see `signed`.
        rows: N, the place of each among the points of the call.
    """

    keys: list[Key]
    payloads: list[str]
    contents: list[int]
    vectors: F32
    vector_checksums: I64
    points: Sequence[Point]
    perceptual_hashes: Sequence[int | None]
    rows: list[int]

    def only(self, kept: Sequence[int]) -> "Batch":
        """The batch of some of its points."""
        if len(kept) == len(self.keys):
            return self
        return Batch(
            [self.keys[i] for i in kept],
            [self.payloads[i] for i in kept],
            [self.contents[i] for i in kept],
            self.vectors[kept],
            self.vector_checksums[kept],
            [self.points[i] for i in kept] if self.points else (),
            [self.perceptual_hashes[i] for i in kept],
            [self.rows[i] for i in kept],
        )


def validate_point(point: Point, dim: int, index: int | None = None) -> None:
    """Check one point as an upsert would.

    Args:
        point: the point.
        dim: D of the collection.
        index: its place in the call, for the error's text.

    Raises:
        InvalidPoint: names the field, the value and the limit.
    """
    key_of(point.id, index)
    as_unit_vectors([_as_vector(point.vector, dim, index)], index)
    payload_text(point.payload, index)
    signed(point.perceptual_hash, index)


def prepare(points: Sequence[Point], dim: int) -> Batch:
    """Check all points and make them ready to write; of points with the same id the last one wins.

    Raises:
        InvalidPoint: the first fault found; `index` says where.
    """
    all_keys = [key_of(point.id, i) for i, point in enumerate(points)]
    rows = [_as_vector(point.vector, dim, i) for i, point in enumerate(points)]
    vectors = as_unit_vectors(rows)  # (N, D)
    texts = [payload_text(point.payload, i) for i, point in enumerate(points)]
    kept = sorted({key: i for i, key in enumerate(all_keys)}.values())
    if len(kept) < len(all_keys):
        vectors = vectors[kept]  # (kept, D)
    keys = [all_keys[i] for i in kept]
    payloads = [texts[i] for i in kept]
    hashes = [signed(points[i].perceptual_hash, i) for i in kept]
    contents = [content_checksum(*row) for row in zip(keys, payloads, hashes, strict=True)]
    given = [points[i] for i in kept]
    return Batch(keys, payloads, contents, vectors, vector_checksums(vectors), given, hashes, kept)


def signed(perceptual_hash: int | None, index: int | None = None) -> int | None:
    """A perceptual hash as SQLite's signed integer of the same 64 bits.

    Raises:
        InvalidPoint: not an integer in 0..2^64-1.
    """
    if perceptual_hash is None:
        return None
    if isinstance(perceptual_hash, bool) or not isinstance(perceptual_hash, int):
        found = type(perceptual_hash).__name__
        raise InvalidPoint("perceptual_hash", f"a {found}", "it must be an integer", index=index)
    if not 0 <= perceptual_hash < 2**64:
        raise InvalidPoint("perceptual_hash", shown(perceptual_hash), "it must be in 0..2^64-1", index=index)
    return perceptual_hash - 2**64 if perceptual_hash >= 2**63 else perceptual_hash


def payload_text(payload: Mapping[str, Any], index: int | None = None) -> str:
    """A payload as the JSON text that is stored.

    Raises:
        InvalidPoint: not an object, a value that JSON has not, NaN or infinity, too deep, not valid Unicode,
            or too big.
    """
    if not isinstance(payload, Mapping):
        raise InvalidPoint("payload", f"a {type(payload).__name__}", "it must be a JSON object", index=index)
    _check_json(dict(payload), "payload", 1, index)
    try:
        text = _JSON.encode(payload)
        n_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        found = shown(error.object[error.start : error.end])
        raise InvalidPoint(
            "payload", f"text with {found}", "lone surrogates are not valid Unicode", index=index
        ) from None
    except ValueError as error:  # an integer of more digits than Python prints
        raise InvalidPoint("payload", shown(str(error)), "it must be writable as JSON", index=index) from None
    if n_bytes > MAX_PAYLOAD_BYTES:
        raise InvalidPoint(
            "payload", f"{n_bytes} bytes of JSON", f"the limit is {MAX_PAYLOAD_BYTES}", index=index
        )
    return text


def payload_from_json(text: bytes | str, index: int | None = None) -> dict[str, Any]:
    """Parse a payload that came as JSON text, strictly.

    Args:
        text: UTF-8 JSON; empty means no payload.
        index: the point's place in the call, for the error's text.

    Raises:
        InvalidPoint: not JSON, not an object, NaN or infinity, a key twice in one object, too big or too
            deep.
    """
    if len(text) > MAX_PAYLOAD_BYTES:
        raise InvalidPoint(
            "payload", f"{len(text)} bytes of JSON", f"the limit is {MAX_PAYLOAD_BYTES}", index=index
        )
    payload = _parsed(text, index)
    payload_text(payload, index)
    return payload


def payload_text_from_json(text: bytes | str, index: int | None = None) -> str:
    """A payload that came as JSON text as the JSON text that is stored; raises as `payload_from_json`."""
    if text in _NO_PAYLOAD:
        return "{}"
    payload = _parsed(text, index)
    with suppress(ValueError):  # whoever looks closer says what is wrong
        made = _JSON.encode(payload)
        if made.count("{") + made.count("[") <= MAX_PAYLOAD_DEPTH and len(made.encode()) <= MAX_PAYLOAD_BYTES:
            return made
    return payload_text(payload, index)


def _parsed(text: bytes | str, index: int | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        payload = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_of)
    except RecursionError:
        raise InvalidPoint(
            "payload", "nested too deep", f"the limit is {MAX_PAYLOAD_DEPTH} levels", index=index
        ) from None
    except ValueError as error:  # also JSONDecodeError and UnicodeDecodeError
        raise InvalidPoint(
            "payload", f"not valid JSON ({shown(str(error))})", "it must be a JSON object", index=index
        ) from None
    if not isinstance(payload, dict):
        raise InvalidPoint(
            "payload", f"a JSON {type(payload).__name__}", "it must be a JSON object", index=index
        )
    return payload


def vector_checksums(vectors: F32) -> I64:
    """A checksum per row that notices any changed bit, fast enough to run over millions of rows at open.

    Args:
        vectors: (N, D), C-contiguous.

    Returns:
        (N,) in 0..2^32-1: the sum over j of (2j + 1) * word j, modulo 2^32. An odd factor keeps every bit of
        a word.
    """
    words = vectors.astype("<f4", copy=False).view("<u4")  # (N, D)
    odd = np.arange(1, 2 * vectors.shape[1], 2, dtype=np.uint32)  # (D,)
    sums = (words * odd).sum(axis=1, dtype=np.uint32)  # (N,)
    return np.asarray(sums, np.int64)


def unit_rows(vectors: npt.NDArray[np.float64] | F32) -> F32:
    """Rows scaled to unit length; one that has it to within 1e-6 keeps its bits. None may be all zeros."""
    wide = vectors.astype(np.float64)  # (N, D): no overflow of the squares
    return scaled(wide, norms_of(wide))


def norms_of(wide: F64) -> F64:
    """The lengths (N,) of rows (N, D); NaN or infinite where a number of the row is, 0 where all are."""
    norms: F64 = np.sqrt(np.add.reduce(wide * wide, axis=1))
    return norms


def scaled(wide: F64, norms: F64) -> F32:
    """Rows (N, D) over their lengths (N,); those of unit length to within 1e-6 as they are."""
    is_unit = np.abs(norms - 1) <= ALREADY_UNIT  # (N,)
    if all(is_unit.tolist()):
        return np.ascontiguousarray(wide, np.float32)
    scale = np.where(is_unit, 1.0, norms)  # (N,)
    return np.ascontiguousarray((wide / scale[:, np.newaxis]).astype(np.float32))  # (N, D)


def _as_vector(vector: object, dim: int, index: int | None) -> F32:
    array = np.asarray(vector)
    if array.dtype.kind not in "fiu":
        raise InvalidPoint("vector", f"of type {array.dtype}", "it must hold real numbers", index=index)
    if array.shape != (dim,):
        raise InvalidPoint("vector", f"of shape {array.shape}", f"the collection's dim is {dim}", index=index)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, which is refused next
        return array.astype(np.float32)


def as_unit_vectors(rows: Sequence[F32], index: int | None = None) -> F32:
    """Vectors (D,) as rows (N, D) of unit length.

    Raises:
        InvalidPoint: a value that is not finite, or a vector of zeros.
    """
    vectors = np.stack(rows)  # (N, D)
    bad = ~np.isfinite(vectors).all(axis=1)  # (N,)
    if bad.any():
        row = int(bad.argmax())
        column = int((~np.isfinite(vectors[row])).argmax())
        value = f"{vectors[row, column]} at [{column}]"
        raise InvalidPoint(
            "vector",
            value,
            "its values must be finite float32 numbers",
            index=row if index is None else index,
        )
    zero = ~vectors.any(axis=1)  # (N,)
    if zero.any():
        row = int(zero.argmax())
        raise InvalidPoint(
            "vector", "all zeros", "its length must not be zero", index=row if index is None else index
        )
    return unit_rows(vectors)


def _check_json(value: object, where: str, depth: int, index: int | None) -> None:
    if depth > MAX_PAYLOAD_DEPTH and isinstance(value, (dict, list, tuple)):
        raise InvalidPoint(
            "payload", "nested too deep", f"the limit is {MAX_PAYLOAD_DEPTH} levels", index=index
        )
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidPoint(shown(where)[1:-1], str(value), "JSON has no NaN and no infinity", index=index)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                limit = "the keys of a JSON object are strings"
                raise InvalidPoint(
                    shown(where)[1:-1], f"an object with the key {shown(key)}", limit, index=index
                )
            _check_json(item, f"{where}.{key}", depth + 1, index)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(item, f"{where}[{i}]", depth + 1, index)
    elif not (value is None or isinstance(value, (str, int))):
        raise InvalidPoint(
            shown(where)[1:-1], f"a {type(value).__name__}", "JSON has no such value", index=index
        )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return made
