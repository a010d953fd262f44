"""What points were embedded from, kept for a later change of model.

The table `images` holds them under their seq: an image as it came, a text in UTF-8 behind a mark. The mark
begins with a zero byte, as no image does. The checksum of a row is of its bytes and its seq, so that a
damaged row number gives no point the image of another; rows of an older store have none.
"""

import sqlite3
import zlib
from collections.abc import Iterable

from nearlight.store.errors import StoreCorrupt

_TEXT = b"\0text\0"


def keep_originals(connection: sqlite3.Connection, originals: Iterable[tuple[int, bytes | str]]) -> None:
    """Keep originals, each under the seq of its point."""
    insert_blobs(
        connection,
        (
            (seq, original if isinstance(original, bytes) else _TEXT + original.encode())
            for seq, original in originals
        ),
    )


def insert_blobs(connection: sqlite3.Connection, blobs: Iterable[tuple[int, bytes]]) -> None:
    """Write rows of the table: seq and bytes."""
    connection.executemany(
        "INSERT INTO images (seq, image, checksum) VALUES (?, ?, ?)",
        ((seq, blob, seq + zlib.crc32(blob)) for seq, blob in blobs),
    )


def move_originals(connection: sqlite3.Connection, moves: Iterable[tuple[int, int]]) -> None:
    """Give originals to other seqs: pairs of the new one and the old."""
    statement = "UPDATE images SET seq = ?1, checksum = checksum - ?2 + ?1 WHERE seq = ?2"
    connection.executemany(statement, moves)


def checked_blob(seq: int, blob: object, checksum: int | None) -> bytes:
    """The bytes of a row.

    Raises:
        StoreCorrupt: they are not what was written under this seq.
    """
    if not isinstance(blob, bytes) or (checksum is not None and seq + zlib.crc32(blob) != checksum):
        raise StoreCorrupt(f"the original of seq {seq} is not what was written")
    return blob


def original_of(blob: bytes) -> bytes | str:
    """An image or a text, as it was given."""
    return blob[len(_TEXT) :].decode() if blob.startswith(_TEXT) else blob
