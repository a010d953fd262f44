"""Decoding and preprocessing against open_clip's own transform and against hostile files."""

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nearlight.bundle import image as image_module
from nearlight.bundle.errors import BrokenImage, EmptyImage, ImageError, ImageTooLarge, UnsupportedImage
from nearlight.bundle.image import ImageLimits, Pixels, decode, load_pixels, preprocess, to_rgb
from nearlight.bundle.manifest import ImagePreprocess

LIMITS = ImageLimits()
SHORTEST = ImagePreprocess(size_px=64)
SQUASH = ImagePreprocess(size_px=64, resize="squash", crop="none")


def open_clip_pixels(image: Image.Image, spec: ImagePreprocess) -> Pixels:
    """What open_clip's evaluation transform hands to its model, before the scaling of channels."""
    transform = open_clip.image_transform(
        spec.size_px,
        is_train=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize_mode=spec.resize,
        interpolation=spec.interpolation,
    )
    pixels: Pixels = (transform(image) * 255).round().numpy().astype(np.uint8).transpose(1, 2, 0)  # (H, W, 3)
    return pixels


def images_of(parquet: Path, count: int = 100) -> list[bytes]:
    return [row["image"] for row in pq.read_table(parquet, columns=["image"]).slice(0, count).to_pylist()]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(width * 1000 + height)
    values = rng.integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode)


SPECS = [
    ImagePreprocess(size_px=224),
    ImagePreprocess(size_px=64, interpolation="bilinear"),
    ImagePreprocess(size_px=224, resize="squash", crop="none"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.interpolation}-{spec.size_px}")
def test_real_photographs_equal_open_clip_pixel_for_pixel(data_folder: Path, spec: ImagePreprocess) -> None:
    files = images_of(data_folder / "imagenet-sample100.parquet", 100 if spec == SPECS[0] else 25)
    for data in files:
        theirs = open_clip_pixels(Image.open(io.BytesIO(data)), spec)
        assert np.array_equal(load_pixels(data, spec, LIMITS), theirs)


@pytest.mark.parametrize(
    ("size", "divisor"), [((900, 450), 2), ((447, 900), 1), ((2000, 900), 4), ((500, 400), 1)]
)
def test_the_fast_profile_decodes_large_jpegs_smaller_and_leaves_the_rest_alone(
    size: tuple[int, int], divisor: int
) -> None:
    spec, photo = ImagePreprocess(size_px=224), noise(*size)
    data = encoded(photo, "JPEG", quality=80)
    theirs = Image.open(io.BytesIO(data))
    theirs.draft("RGB", (224, 224))
    assert theirs.size == tuple(-(-side // divisor) for side in size)
    fast = load_pixels(data, spec, LIMITS, "fast")
    assert np.array_equal(fast, open_clip_pixels(theirs, spec))
    assert np.array_equal(fast, load_pixels(data, spec, LIMITS)) == (divisor == 1)
    png = encoded(photo)
    assert np.array_equal(load_pixels(png, spec, LIMITS, "fast"), load_pixels(png, spec, LIMITS))
    with pytest.raises(ImageTooLarge):  # by the size it claims, not by the size it would be decoded at
        load_pixels(data, spec, ImageLimits(max_pixels=size[0] * size[1] - 1), "fast")


def test_emoji_are_composited_on_white(data_folder: Path) -> None:
    files = images_of(data_folder / "noto_emoji72.parquet")
    spec, modes = ImagePreprocess(size_px=64), set()
    for data in files:
        original = Image.open(io.BytesIO(data))
        modes.add(original.mode)
        rgba = np.asarray(original.convert("RGBA")).astype(np.float64)
        alpha = rgba[..., 3:] / 255
        by_hand = rgba[..., :3] * alpha + 255 * (1 - alpha)  # (H, W, 3)
        assert np.abs(np.asarray(decode(data, LIMITS)) - by_hand).max() <= 1
        assert load_pixels(data, spec, LIMITS).shape == (64, 64, 3)
    assert len(modes) > 1


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (63, 200), (7, 3), (3, 700), (900, 2), (9, 8)])
@pytest.mark.parametrize("spec", [SHORTEST, SQUASH], ids=["shortest", "squash"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_shape_equals_open_clip(size: tuple[int, int], spec: ImagePreprocess, mode: str) -> None:
    image = noise(*size, mode)
    pixels = load_pixels(encoded(image), spec, LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (64, 64, 3)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.array_equal(pixels, open_clip_pixels(image, spec))


@pytest.mark.parametrize("size", [(40, 4000), (4000, 40), (333, 12000), (30, 901), (3000, 7)])
def test_the_frugal_way_agrees_with_the_plain(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(*size)
    plain = preprocess(image, SHORTEST).astype(int)
    monkeypatch.setattr(image_module, "_MAX_RESIZED_PIXELS", 0)
    frugal = preprocess(image, SHORTEST).astype(int)
    assert np.abs(plain - frugal).max() <= 1


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
def test_extreme_aspect_ratios_stay_small(size: tuple[int, int]) -> None:
    # Plainly resized to 224 px this would be 224 x 448,000,000 pixels.
    pixels = preprocess(Image.new("RGB", size, (10, 20, 30)), ImagePreprocess(size_px=224))
    assert (pixels == (10, 20, 30)).all()


def test_grey_alpha_and_palette_with_transparency() -> None:
    red_or_nothing = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    red_or_nothing.paste((0, 0, 0, 0), (0, 0, 2, 4))
    wanted = np.full((4, 4, 3), 255, np.uint8)
    wanted[:, 2:] = (255, 0, 0)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 2, 4))
    keyed_palette = encoded(palette, transparency=0)
    for data in (encoded(red_or_nothing), encoded(red_or_nothing, "WEBP", lossless=True), keyed_palette):
        assert np.array_equal(np.asarray(decode(data, LIMITS)), wanted)
    assert Image.open(io.BytesIO(keyed_palette)).mode == "P"
    half = Image.new("LA", (2, 2), (0, 128))
    assert np.array_equal(np.asarray(decode(encoded(half), LIMITS)), np.full((2, 2, 3), 127))
    keyed = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert (np.asarray(decode(keyed, LIMITS)) == 255).all()


def test_opaque_palette_bilevel_and_bmp() -> None:
    photo = noise(20, 10)
    assert np.array_equal(np.asarray(decode(encoded(photo, "BMP"), LIMITS)), np.asarray(photo))
    palette = photo.quantize(32)
    assert np.array_equal(np.asarray(decode(encoded(palette), LIMITS)), np.asarray(palette.convert("RGB")))
    bits = Image.new("1", (3, 3), 1)
    assert (np.asarray(decode(encoded(bits), LIMITS)) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_down_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    data = encoded(Image.fromarray(ramp), kind)
    assert Image.open(io.BytesIO(data)).mode in ("I;16", "I")
    pixels = np.asarray(decode(data, LIMITS))
    assert np.array_equal(pixels[..., 0], (ramp // 256).astype(np.uint8))
    assert pixels.max() == 255
    assert len(np.unique(pixels)) == 256


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_an_agreed_range_are_refused(mode: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"mode {mode}"):
        decode(encoded(Image.new(mode, (4, 4)), "TIFF"), LIMITS)


def test_cmyk_jpeg_equals_pillows_conversion() -> None:
    data = encoded(noise(32, 32).convert("CMYK"), "JPEG", quality=95)
    original = Image.open(io.BytesIO(data))
    assert original.mode == "CMYK"
    assert np.array_equal(np.asarray(decode(data, LIMITS)), np.asarray(original.convert("RGB")))
    assert np.array_equal(load_pixels(data, SHORTEST, LIMITS), preprocess(original.convert("RGB"), SHORTEST))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 16, 8))  # white in the upper left quarter
    # Stored so that applying the orientation brings the upright picture back.
    stored = {
        1: lambda i: i,
        2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
        4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
        6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
        7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
        8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(encoded(stored, kind, exif=exif, **options), LIMITS)
    assert found.size == (32, 16)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(upright)).max() <= 8


@pytest.mark.filterwarnings("default")  # Pillow warns of the block
def test_a_broken_exif_block_does_not_refuse_the_photo() -> None:
    data = encoded(noise(16, 16), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data, LIMITS).size == (16, 16)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **options)
    assert (np.asarray(decode(data, LIMITS)) == (255, 0, 0)).all()


def test_no_bytes() -> None:
    with pytest.raises(EmptyImage, match="0 bytes"):
        decode(b"", LIMITS)


@pytest.mark.parametrize("data", [b"some text in a file named .jpg", b"\0", b"RIFF1234WAVE", b"<svg></svg>"])
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="no known format.*allowed: JPEG, PNG"):
        decode(data, LIMITS)


def test_formats_outside_the_list() -> None:
    with pytest.raises(UnsupportedImage, match="image is BMP; allowed: JPEG, PNG"):
        decode(encoded(noise(4, 4), "BMP"), ImageLimits(formats=("JPEG", "PNG")))


def test_too_many_bytes() -> None:
    with pytest.raises(ImageTooLarge, match="has 101 bytes; the limit is 100"):
        decode(b"x" * 101, ImageLimits(max_bytes=100))


def png_bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(50)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 10_000, 13_000])
def test_a_png_bomb_is_refused_by_its_header(side: int) -> None:
    # 10,000 x 10,000 is where Pillow would only warn, 20,000 x 20,000 where it would raise its own error.
    message = f"PNG is {side}x{side} = {side * side} px; the limit is 64000000"
    with pytest.raises(ImageTooLarge, match=message):
        decode(png_bomb(side, side), LIMITS)


def test_bombs_in_other_headers() -> None:
    gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    bmp = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 30000, 30000)
    jpeg = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60000, 60000)
    for data in (gif, bmp, jpeg):
        with pytest.raises(ImageTooLarge, match="limit"):
            decode(bytes(data), LIMITS)
    # A GIF frame may lie outside the screen its header declares.
    frame = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    at = frame.index(b"\x2c", 13 + 3 * 2 ** ((frame[10] & 7) + 1))
    frame[at + 5 : at + 9] = struct.pack("<HH", 60000, 60000)
    with pytest.raises(ImageTooLarge):
        decode(bytes(frame), LIMITS)


def tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    packed = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", len(entries)) + packed + b"\0" * 4


def test_tiff_directories_that_lie() -> None:
    greedy = tiff([(30_000 + n, 1, 60_000, 0) for n in range(5_000)]) + b"\0" * 1000
    with pytest.raises(ImageTooLarge, match="TIFF has tags that claim 300000000 bytes; the limit for"):
        decode(greedy, LIMITS)
    photo = encoded(noise(8, 8), "JPEG", exif=b"Exif\0\0" + greedy[:60_000])
    with pytest.raises(ImageTooLarge, match="JPEG has tags that claim"):
        decode(photo, LIMITS)
    grey = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tiled = tiff([*grey, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8), (325, 4, 1, 64)])
    with pytest.raises(ImageTooLarge, match="60000x60000"):
        decode(tiled, LIMITS)
    outside = tiff([*grey, (273, 4, 1, 1_000_000), (278, 4, 1, 8), (279, 4, 1, 64)])
    with pytest.raises(BrokenImage):
        decode(outside, LIMITS)


def test_a_jpeg_of_endless_scans() -> None:
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    assert decode(data, LIMITS).size == (64, 64)
    start = data.index(b"\xff\xda")
    with pytest.raises(ImageTooLarge, match="JPEG has .* scans; the limit is 100"):
        decode(data[:-2] + data[start:-2] * 100 + b"\xff\xd9", LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_broken_images(kind: str) -> None:
    data = encoded(noise(64, 64), kind)
    for keep in (0.3, 0.6, 0.9):
        with pytest.raises(BrokenImage, match=f"{kind} is truncated or damaged"):
            decode(data[: int(len(data) * keep)], LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("default")  # Pillow may warn of a file that it then reads
def test_damaged_files_decode_or_raise_ours(kind: str) -> None:
    data = encoded(noise(24, 24), kind)
    rng = np.random.default_rng(5)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[at] = rng.integers(0, 256)
        try:
            image = decode(bytes(damaged), ImageLimits(max_pixels=1_000_000))
        except ImageError:
            continue
        assert image.mode == "RGB"
        assert image.width * image.height <= 1_000_000


def test_many_threads_decode_the_same(data_folder: Path) -> None:
    files = images_of(data_folder / "imagenet-sample100.parquet", 8)
    alone = [load_pixels(data, SHORTEST, LIMITS) for data in files]
    together: dict[tuple[int, int], Pixels] = {}

    def work(worker: int) -> None:
        for index, data in enumerate(files):
            together[worker, index] = load_pixels(data, SHORTEST, LIMITS)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 32
    assert all(np.array_equal(pixels, alone[index]) for (_, index), pixels in together.items())


def test_to_rgb_of_a_loaded_image() -> None:
    assert to_rgb(noise(3, 3, "RGBA")).mode == "RGB"
    assert preprocess(noise(70, 70, "L"), SHORTEST).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "arguments", [{"max_bytes": 0}, {"max_pixels": 0}, {"formats": ()}, {"formats": ("X",)}]
)
def test_limits_are_checked(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageLimits(**arguments)  # type: ignore[arg-type]
