"""The first directory of a TIFF structure (a TIFF file or an EXIF block), read without believing it.

Pillow copies what every entry claims to hold. Entries that all point at the same bytes turn a file of a few
kilobytes into gigabytes, so the claims are added up here first.
"""

import struct
from dataclasses import dataclass

_ORIENTATION = 0x0112
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


@dataclass(frozen=True, slots=True)
class Directory:
    """What the first directory claims: bytes of all its values together, and the EXIF orientation, 1 to 8."""

    claimed_bytes: int
    orientation: int


def read_directory(data: bytes | memoryview) -> Directory:
    """The first directory of `data`; an unreadable one claims nothing and is upright."""
    try:
        return _read(memoryview(data))
    except struct.error:
        return Directory(claimed_bytes=0, orientation=1)


def _read(data: memoryview) -> Directory:
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return Directory(claimed_bytes=0, orientation=1)
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    at, step, layout = (start + 8, 20, "HHQ") if big else (start + 2, 12, "HHL")
    claimed, orientation = 0, 1
    for offset in range(at, min(at + entries * step, len(data) - step + 1), step):
        tag, kind, count = struct.unpack_from(order + layout, data, offset)
        claimed += count * _TYPE_BYTES.get(kind, 1)
        if tag == _ORIENTATION and kind == 3 and count == 1:
            (orientation,) = struct.unpack_from(order + "H", data, offset + step - (8 if big else 4))
    return Directory(claimed, orientation if 1 <= orientation <= 8 else 1)
