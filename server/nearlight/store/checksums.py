"""The checksum of a point's row: of all that is served from it, and of where it is.

A checksum of the content alone lets a damaged row number pass: SQLite then finds, under the seq of one point,
the whole and sound row of another. So the content's checksum is mixed with the row's seq and collection.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from nearlight.store.ids import Key

_PRIME = 4_294_967_291  # the largest below 2^32: adding any power of two changes what is left of a number
_COLLECTIONS_APART = 2_654_435_761  # so that no seq of one collection is soon one of another


def content_checksum(key: Key, payload: str, perceptual_hash: int | None) -> int:
    """CRC-32 of what a row holds wherever it is, 0..2^32-1; -1 where a column is of another type.

    Args:
        key: of the point; a number and the text of its digits are two keys.
        payload: JSON text.
        perceptual_hash: of 64 bits, signed; None: it has none.
    """
    start = 0
    if perceptual_hash is not None:
        if not isinstance(perceptual_hash, int):
            return -1  # in a damaged row
        start = perceptual_hash % _PRIME + 1
    if not isinstance(payload, str):
        return -1
    text = f"{key}\0{payload}" if isinstance(key, str) else f"{key}\1{payload}"
    return zlib.crc32(text.encode(), start)


def row_checksum(content: int, seq: int, collection_id: int) -> int:
    """The checksum that is stored: of a row's content and place.

    Args:
        content: see `content_checksum`.
        seq: of the row.
        collection_id: of the collection; a parked point has that of its collection too.
    """
    return content ^ (seq + abs(collection_id) * _COLLECTIONS_APART) % _PRIME


def row_checksums(contents: Sequence[int], seqs: range, collection_id: int) -> list[int]:
    """`row_checksum` of N rows of a collection."""
    places = (np.arange(seqs.start, seqs.stop) + abs(collection_id) * _COLLECTIONS_APART) % _PRIME  # (N,)
    made: list[int] = (np.array(contents, np.int64) ^ places).tolist()
    return made


def plain_checksum(key: Key, payload: str) -> int:
    """CRC-32 of key and payload alone, as stores of schema version 1 had it and snapshots have; -1 as above.

    A snapshot's rows need no more: the whole file is under a SHA-256.
    """
    if not isinstance(payload, str):
        return -1
    return zlib.crc32(payload.encode(), zlib.crc32(str(key).encode()))
