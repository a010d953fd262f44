"""What points were embedded from, kept for a later change of model.

The table `images` holds them under their seq: an image as it came, a text in UTF-8 behind a mark. The mark
begins with a zero byte, as no image does.
"""

import sqlite3
from collections.abc import Iterable

_TEXT = b"\0text\0"


def keep_originals(connection: sqlite3.Connection, originals: Iterable[tuple[int, bytes | str]]) -> None:
    """Keep originals, each under the seq of its point."""
    connection.executemany(
        "INSERT INTO images (seq, image) VALUES (?, ?)",
        (
            (seq, original if isinstance(original, bytes) else _TEXT + original.encode())
            for seq, original in originals
        ),
    )


def original_of(blob: bytes) -> bytes | str:
    """An image or a text, as it was given."""
    return blob[len(_TEXT) :].decode() if blob.startswith(_TEXT) else blob
