"""What the first bytes of an image file say, before Pillow is let near it."""

from collections.abc import Sequence

from nearlight.bundle.errors import ImageTooLarge, UnsupportedImage
from nearlight.bundle.tiff_directory import read_directory

_MAGIC = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("BMP", b"BM"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
)
# A progressive JPEG is decoded once per scan: thousands of near-empty scans would hold a core for hours.
_MAX_JPEG_SCANS = 100
# Honest directories claim less than the file holds; damaged ones a little more.
_MAX_CLAIM_RATIO, _CLAIM_SLACK_BYTES = 16, 65_536


def image_format(data: bytes, allowed: Sequence[str]) -> str:
    """The format of an image file by its first bytes, as Pillow names it.

    Raises:
        UnsupportedImage: Unknown, or not one of `allowed`.
    """
    kind = next((name for name, magic in _MAGIC if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WEBP"
    if kind is None:
        raise UnsupportedImage(
            f"image is of no known format, it starts with {data[:12]!r}; allowed: {', '.join(allowed)}"
        )
    if kind not in allowed:
        raise UnsupportedImage(f"image is {kind}; allowed: {', '.join(allowed)}")
    return kind


def check_claims(kind: str, data: bytes) -> None:
    """Refuse small files that ask for great work: endless scans, directories that claim a byte many times.

    Raises:
        ImageTooLarge: Says what is claimed and the limit.
    """
    directory = memoryview(data) if kind == "TIFF" else memoryview(b"")
    if kind == "JPEG":
        scans = data.count(b"\xff\xda")
        if scans > _MAX_JPEG_SCANS:
            raise ImageTooLarge(f"JPEG has {scans} scans; the limit is {_MAX_JPEG_SCANS}")
    exif = data.find(b"Exif\0\0", 0, 1 << 20)
    if kind == "JPEG" and exif >= 0:
        directory = memoryview(data)[exif + 6 : exif + 6 + 65_536]
    claimed, limit = (
        read_directory(directory).claimed_bytes,
        _MAX_CLAIM_RATIO * len(directory) + _CLAIM_SLACK_BYTES,
    )
    if claimed > limit:
        raise ImageTooLarge(f"{kind} has tags that claim {claimed} bytes; the limit for this file is {limit}")
