"""Point ids, and the key under which SQLite keeps them.

The key column has no type affinity, so an integer and a string never meet: `7` and `"7"` are two points.
SQLite's integers are signed, so an id n in 0..2^64-1 is kept as n - 2^63, which keeps the order. Keys
therefore sort as: integers ascending, then strings by their UTF-8 bytes. That is the order of a scroll.
"""

import numpy as np

from nearlight.store.errors import InvalidPoint, StoreCorrupt, shown
from nearlight.store.points import PointId

MAX_ID_BYTES = 512
_OFFSET = 2**63

Key = str | int
"""An id as SQLite holds it."""


def key_of(point_id: PointId, index: int | None = None) -> Key:
    """The key of an id.

    Args:
        point_id: the id.
        index: its place in the call, for the error's text.

    Raises:
        InvalidPoint: not a string or an integer, empty, too long, not valid Unicode, or out of range.
    """
    if isinstance(point_id, str):
        try:
            n_bytes = len(point_id.encode())
        except UnicodeEncodeError:
            raise InvalidPoint(
                "id", shown(point_id), "it must be valid Unicode, without lone surrogates", index=index
            ) from None
        if not 1 <= n_bytes <= MAX_ID_BYTES:
            raise InvalidPoint(
                "id", f"{n_bytes} bytes long", f"the limit is 1 to {MAX_ID_BYTES} bytes", index=index
            )
        return point_id
    if isinstance(point_id, (int, np.integer)) and not isinstance(point_id, bool):
        number = int(point_id)
        if not 0 <= number < 2**64:
            raise InvalidPoint("id", shown(number), "an integer id must be in 0..2^64-1", index=index)
        return number - _OFFSET
    raise InvalidPoint(
        "id",
        f"{shown(point_id)} ({type(point_id).__name__})",
        "it must be a string or an integer",
        index=index,
    )


def id_of(key: Key) -> PointId:
    """The id of a key: the inverse of `key_of`.

    Raises:
        StoreCorrupt: it is not one.
    """
    if isinstance(key, int):
        return key + _OFFSET
    if not isinstance(key, str):  # in a damaged row it may be of any type
        raise StoreCorrupt(f"the store holds an id that is a {type(key).__name__}")
    return key
