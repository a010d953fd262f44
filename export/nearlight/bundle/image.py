"""From the bytes of an image file to the uint8 pixels a tower takes: one path for training, export, serving.

Limits are checked on the header before anything is decoded. Pillow's plugins are called directly, not through
`Image.open`, whose bomb guard is a process-wide setting and a warning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from nearlight.bundle.errors import BrokenImage, EmptyImage, ImageError, ImageTooLarge, UnsupportedImage
from nearlight.bundle.image_header import check_claims, image_format
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.bundle.tiff_directory import read_directory

Pixels = npt.NDArray[np.uint8]
# "fast": a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves enough; vectors change a little.
ImageProfile = Literal["exact", "fast"]

_OPENERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# Above this many pixels the resized image is not made whole before its middle is cut out.
_MAX_RESIZED_PIXELS = 16_000_000
_TILE_WIDTH, _TILE_LENGTH = 322, 323


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an encoded image may be.

    Attributes:
        max_bytes: Length of the file.
        max_pixels: Width x height in the header; 64 million decode to 192 MB.
        formats: Accepted formats, of JPEG, PNG, WEBP, GIF, BMP, TIFF.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 64_000_000
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ValueError(
                f"max_bytes={self.max_bytes}, max_pixels={self.max_pixels}; both must be at least 1"
            )
        unknown = [name for name in self.formats if name not in _OPENERS]
        if unknown or not self.formats:
            raise ValueError(f"formats={self.formats}; they must be some of {tuple(_OPENERS)}")


def load_pixels(
    data: bytes, spec: ImagePreprocess, limits: ImageLimits, profile: ImageProfile = "exact"
) -> Pixels:
    """`decode_for`, then `preprocess`: uint8, (size_px, size_px, 3)."""
    return preprocess(decode_for(data, spec, limits, profile), spec)


def decode_for(
    data: bytes, spec: ImagePreprocess, limits: ImageLimits, profile: ImageProfile = "exact"
) -> Image.Image:
    """`decode`, large enough for `preprocess`; see there for errors."""
    enough = spec.size_px if spec.resize == "squash" else spec.scale_px
    return decode(data, limits, enough_px=enough if profile == "fast" else None)


def decode(data: bytes, limits: ImageLimits, *, enough_px: int | None = None) -> Image.Image:
    """The RGB image in `data`: first frame, upright by EXIF, transparency on white, 16 bits cut to 8.

    Colour profiles are not applied, as in open_clip.

    Args:
        data: An image file.
        limits: What it may be.
        enough_px: A JPEG may come out at 1/2, 1/4 or 1/8 of its size, as long as neither side is shorter than
            this; None: as it is.

    Raises:
        EmptyImage: No bytes.
        ImageTooLarge: More bytes or pixels than `limits`; told by the header, nothing is decoded.
        UnsupportedImage: Not an image, a format outside `limits.formats`, or pixels without an agreed range.
        BrokenImage: Truncated or damaged.
    """
    if not data:
        raise EmptyImage("image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"image has {len(data)} bytes; the limit is {limits.max_bytes}")
    kind = image_format(data, limits.formats)
    check_claims(kind, data)
    with _told_as_image_error(kind, limits), _OPENERS[kind](BytesIO(data)) as opened:
        _check_size(kind, opened, limits)
        if enough_px is not None:
            opened.draft(None, (enough_px, enough_px))  # only JPEG has smaller versions of itself
        opened.load()
        image = to_rgb(opened)
        turn = _UPRIGHT.get(_orientation(kind, opened))
        return image.transpose(turn) if turn is not None else image


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB, transparent parts on white; always a loaded copy unless it is plain RGB already.

    Raises:
        UnsupportedImage: 32-bit pixels, whose range nothing tells, or a colour space Pillow cannot convert.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # The upper byte, as Pillow itself does for 16-bit colour.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise UnsupportedImage(
            f"image has pixels of mode {image.mode}; use 8 or 16 bits of grey, RGB or CMYK"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def preprocess(image: Image.Image, spec: ImagePreprocess) -> Pixels:
    """The pixels a tower takes, equal to open_clip's evaluation transform before its scaling.

    Args:
        image: RGB, as `decode` returns it.
        spec: How to resize and crop.

    Returns:
        uint8, (size_px, size_px, 3), C-contiguous and writable.
    """
    if image.mode != "RGB":
        image = to_rgb(image)
    side, scaled, resample = spec.size_px, spec.scale_px, _FILTERS[spec.interpolation]
    if spec.resize == "squash":
        return np.array(_resized(image, (side, side), resample))  # (H, W, 3)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(scaled * long / short)
    if scaled * longer > _MAX_RESIZED_PIXELS:
        image = _resized_middle(image, scaled, longer, resample)
    else:
        image = _resized(image, (scaled, longer) if width <= height else (longer, scaled), resample)
    left, top = _middle(image.width - side, spec), _middle(image.height - side, spec)
    return np.array(image.crop((left, top, left + side, top + side)))  # (H, W, 3)


def _middle(spare: int, spec: ImagePreprocess) -> int:
    """Where the middle starts: torchvision rounds half pixels to even, Hugging Face rounds them down."""
    return spare // 2 if spec.crop == "center_floor" else round(spare / 2)


def _resized(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)


def _resized_middle(image: Image.Image, side: int, longer: int, resample: Image.Resampling) -> Image.Image:
    """The middle square of `image` scaled to `side` x `longer`, without making the rest.

    Only for extreme aspect ratios: the same filter over the same pixels, but positions pass through Pillow's
    32-bit box, so that a pixel may differ by a rounding from the plain way.
    """
    wide = image.width > image.height
    long, short = max(image.size), min(image.size)
    scale = long / longer
    first = round((longer - side) / 2)
    start, stop = first * scale, (first + side) * scale
    margin = int(4 * max(scale, 1.0)) + 2  # wider than the filter, in source pixels
    lower, upper = max(0, int(start) - margin), min(long, int(stop) + margin + 1)
    part = image.crop((lower, 0, upper, short) if wide else (0, lower, short, upper))
    span = (start - lower, stop - lower)
    box = (span[0], 0, span[1], short) if wide else (0, span[0], short, span[1])
    return part.resize((side, side), resample, box=box)


def _check_size(kind: str, image: ImageFile, limits: ImageLimits) -> None:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # one tile is decoded whole, however little of it shows
        width = max(width, _tag(image, _TILE_WIDTH))
        height = max(height, _tag(image, _TILE_LENGTH))
    if width < 1 or height < 1:
        raise BrokenImage(f"{kind} is {width}x{height} px; each side must be at least 1")
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{kind} is {width}x{height} = {width * height} px; the limit is {limits.max_pixels}"
        )


def _tag(image: TiffImageFile, tag: int) -> int:
    value = image.tag_v2.get(tag, 0)
    return value if isinstance(value, int) else 0


def _orientation(kind: str, image: ImageFile) -> int:
    """EXIF orientation, 1 to 8. Pillow has turned a TIFF itself when it loaded it."""
    exif = image.info.get("exif")
    if kind == "TIFF" or not isinstance(exif, bytes):
        return 1
    return read_directory(exif.removeprefix(b"Exif\0\0")).orientation


@contextmanager
def _told_as_image_error(kind: str, limits: ImageLimits) -> Iterator[None]:
    """Pillow raises nearly any exception for a damaged file; callers see ours."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageTooLarge(
            f"{kind} needs too much memory: {error}; the limit is {limits.max_pixels} px"
        ) from error
    except Exception as error:
        raise BrokenImage(f"{kind} is truncated or damaged: {error}") from error
