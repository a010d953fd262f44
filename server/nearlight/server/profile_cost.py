"""What the fast way to decode images gains and costs, measured on a user's images or on generated ones."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nearlight.bundle.errors import ImageError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import probe_pixels
from nearlight.bundle.image import ImageLimits, ImageProfile, Pixels, load_pixels
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.server.call import F32
from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
# Images looked at, of a folder that holds more.
MOST = 64
# Sides of generated images over what the tower sees: they are decoded at 1/2, 1/2 and 1/4.
_SIDES = (2.2, 3.5, 4.5)
_EACH = 4
_QUALITY = 90
_BATCH = 8


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """Fast beside exact.

    Args:
        images: measured.
        are_generated: nobody's photographs.
        reduced: of them were decoded smaller.
        cosine: least of a fast to its exact vector, in float32.
        mean_cosine: on average.
        exact_ms: to decode and resize one image, on average, in one thread.
        fast_ms: likewise.
    """

    images: int
    are_generated: bool
    reduced: int
    cosine: float
    mean_cosine: float
    exact_ms: float
    fast_ms: float

    def __str__(self) -> str:
        whose = (
            "generated images (--images FOLDER measures yours)" if self.are_generated else "of your images"
        )
        if not self.reduced:
            return f"fast decoding  none of {self.images} {whose} is a JPEG large enough to gain by it"
        return (
            f"fast decoding  {self.fast_ms:.1f} ms an image instead of {self.exact_ms:.1f}, cosine to exact "
            f"vectors {self.cosine:.4f} at least and {self.mean_cosine:.4f} on average: "
            f"{self.images} {whose}, {self.reduced} of them decoded smaller"
        )


def profile_cost(bundle: Bundle, files: Sequence[bytes], threads: int) -> ProfileCost:
    """Measure both profiles with a bundle.

    Args:
        bundle: whose preprocessing and image tower are used.
        files: encoded images; those that cannot be read are left out. None: generated ones.
        threads: of the engine.

    Raises:
        BundleUnusable: no file can be read, or the engine refuses the graph.
    """
    spec = bundle.manifest.towers.image.preprocess
    kept = [file for file in files if _is_readable(file, spec)]
    if files and not kept:
        raise BundleUnusable(f"none of the {len(files)} images can be read")
    used = kept or generated_files(spec)
    exact, exact_ms = _decoded(used, spec, "exact")  # (N, S, S, 3)
    fast, fast_ms = _decoded(used, spec, "fast")
    encoder = OnnxEncoder(bundle.image_path, dim=bundle.manifest.dim, threads=threads)
    cosines = np.einsum("nd,nd->n", _encoded(encoder, exact), _encoded(encoder, fast))  # (N,)
    return ProfileCost(
        images=len(used),
        are_generated=not kept,
        reduced=sum(not np.array_equal(a, b) for a, b in zip(exact, fast, strict=True)),
        cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        exact_ms=exact_ms,
        fast_ms=fast_ms,
    )


def files_in(folder: Path) -> list[bytes]:
    """Up to `MOST` image files of a folder and those below, spread over all of them.

    Raises:
        OSError: one cannot be opened.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    step = max(1, len(paths) / MOST)
    return [paths[int(i * step)].read_bytes() for i in range(min(MOST, len(paths)))]


def generated_files(spec: ImagePreprocess) -> list[bytes]:
    """JPEGs with the spectrum of photographs, larger than the tower sees."""
    files = []
    for factor in _SIDES:
        for pixels in probe_pixels(round(factor * max(spec.size_px, spec.scale_px)), _EACH):
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY)
            files.append(out.getvalue())
    return files


def _is_readable(file: bytes, spec: ImagePreprocess) -> bool:
    try:
        load_pixels(file, spec, ImageLimits())
    except ImageError:
        return False
    return True


def _decoded(files: Sequence[bytes], spec: ImagePreprocess, profile: ImageProfile) -> tuple[Pixels, float]:
    """Rows (N, S, S, 3), and milliseconds an image."""
    started = time.perf_counter()
    rows = [load_pixels(file, spec, ImageLimits(), profile) for file in files]
    return np.stack(rows), 1e3 * (time.perf_counter() - started) / len(files)


def _encoded(encoder: OnnxEncoder, rows: Pixels) -> F32:
    parts = [encoder.encode(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
    return np.concatenate(parts)  # (N, D)
