"""Golden vectors: a few fixed inputs with the vectors they must give, so that a bundle can prove itself.

`golden.npz` holds `pixels` uint8 (N, S, S, 3) and `image_vectors` float32 (N, D), and with a text tower
`texts` (M,) strings, `tokens` int64 (M, context_length) and `text_vectors` float32 (M, D). All are made when
the bundle is written, from generated inputs: nobody's images travel with it.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nearlight.bundle.errors import BundleCorrupt
from nearlight.bundle.image import Pixels
from nearlight.bundle.text import Tokenizer, Tokens

if TYPE_CHECKING:
    from nearlight.bundle.folder import Bundle

GOLDEN = "golden.npz"
IMAGES = 4
# Cosine that float32 arithmetic keeps on any processor.
MIN_COSINE = 0.9999
PROBE_TEXTS = (
    "a photo of a dog.",
    "x",
    "two children run along the beach",
    "¿Dónde está la estación? — über den Dächern von Köln",
    "a red bus waits at a crossing while people with umbrellas pass, and behind it a church tower in the fog",
    "a sentence that does not end " * 20,
)

_MAX_BYTES = 64 * 1024 * 1024

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs and the vectors they must give.

    Attributes:
        pixels: uint8 (N, S, S, 3).
        image_vectors: float32 (N, D), unit length.
        texts: M strings; none for an image-only bundle.
        tokens: int64 (M, context_length): what the tokenizer must make of `texts`.
        text_vectors: float32 (M, D), unit length.
    """

    pixels: Pixels
    image_vectors: Vectors
    texts: tuple[str, ...] = ()
    tokens: Tokens | None = None
    text_vectors: Vectors | None = None

    def to_npz(self) -> bytes:
        """The content of `golden.npz`; equal for equal vectors."""
        arrays: dict[str, Any] = {"pixels": self.pixels, "image_vectors": self.image_vectors}
        if self.tokens is not None and self.text_vectors is not None:
            arrays |= {
                "texts": np.array(self.texts),
                "tokens": self.tokens,
                "text_vectors": self.text_vectors,
            }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()


def probe_pixels(size_px: int, count: int = IMAGES, seed: int = 20240229) -> Pixels:
    """Images with the falling spectrum of photographs, from smooth to rough: uint8 (count, S, S, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    radius = np.maximum(np.hypot(rows, columns), 1 / 400)  # (S, S/2+1)
    images = np.empty((count, size_px, size_px, 3), np.uint8)
    for image in images:
        spectrum = rng.normal(size=(3, *radius.shape)) / radius ** rng.uniform(0.8, 2.0)
        waves = np.fft.irfft2(spectrum, s=(size_px, size_px)).transpose(1, 2, 0)  # (S, S, 3)
        waves = (waves - waves.mean()) / (waves.std() + 1e-9) * rng.uniform(20, 70) + rng.uniform(60, 200, 3)
        image[:] = np.clip(waves, 0, 255)
    return images


def load_golden(bundle: "Bundle") -> Golden | None:
    """The golden vectors of a bundle, or None where it has none.

    Raises:
        BundleCorrupt: The file is none, or its arrays are not those that the manifest calls for.
    """
    manifest = bundle.manifest
    if manifest.golden is None:
        return None
    arrays = _read(bundle.path / manifest.golden)
    text = manifest.towers.text
    side, dim = manifest.towers.image.preprocess.size_px, manifest.dim
    pixels = _array(arrays, "pixels", np.uint8, (side, side, 3))
    image_vectors = _array(arrays, "image_vectors", np.float32, (dim,))
    _same_count(arrays, "pixels", "image_vectors")
    if text is None:
        return Golden(pixels, image_vectors)
    tokens = _array(arrays, "tokens", np.int64, (text.context_length,))
    text_vectors = _array(arrays, "text_vectors", np.float32, (dim,))
    _same_count(arrays, "tokens", "text_vectors")
    _same_count(arrays, "tokens", "texts")
    return Golden(pixels, image_vectors, tuple(map(str, arrays["texts"])), tokens, text_vectors)


def check_tokens(tokenizer: Tokenizer, golden: Golden) -> None:
    """Compare what the tokenizer makes of the golden texts with what it made when the bundle was written.

    Raises:
        BundleCorrupt: Another row of tokens; says of which text.
    """
    if golden.tokens is None:
        return
    found = tokenizer.encode(golden.texts)  # (M, L)
    for text, row, expected in zip(golden.texts, found, golden.tokens, strict=True):
        if not np.array_equal(row, expected):
            raise BundleCorrupt(
                f"the tokenizer makes {row[:8].tolist()}… of {text[:40]!r};"
                f" golden are {expected[:8].tolist()}…"
            )


def least_cosine(expected: Vectors, found: Vectors) -> float:
    """The least cosine between rows of (N, D) and (N, D); -1 where a number is not finite."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # (N,)
    cosines = (a * b).sum(axis=1) / np.maximum(lengths, 1e-30)
    return float(np.where(np.isfinite(cosines), cosines, -1.0).min())


def prove_golden(bundle: "Bundle") -> dict[str, float] | None:
    """Run both graphs on the golden inputs with ONNX Runtime, which must be installed.

    Returns:
        The least cosine of each tower; None where the bundle has no golden vectors.

    Raises:
        ImportError: ONNX Runtime is not installed.
        BundleCorrupt: A tower gives other vectors, or the tokenizer other tokens.
    """
    golden = load_golden(bundle)
    if golden is None:
        return None
    cosines = {"image": least_cosine(golden.image_vectors, run_graph(bundle.image_path, golden.pixels))}
    if golden.tokens is not None and golden.text_vectors is not None and bundle.text_path is not None:
        check_tokens(bundle.tokenizer(), golden)
        cosines["text"] = least_cosine(golden.text_vectors, run_graph(bundle.text_path, golden.tokens))
    for tower, cosine in cosines.items():
        if not cosine >= MIN_COSINE:
            raise BundleCorrupt(
                f"the {tower} tower does not give its golden vectors: the least cosine is {cosine:.6f}, "
                f"the limit {MIN_COSINE}"
            )
    return cosines


def run_graph(graph: Path | bytes, rows: npt.NDArray[Any]) -> Vectors:
    """Vectors (B, D) of rows by ONNX Runtime on the CPU.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    import onnxruntime

    source = graph if isinstance(graph, bytes) else str(graph)
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    vectors: Vectors = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return vectors


def _read(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of an npz file; sizes are looked at before anything is unpacked; nothing is unpickled."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > _MAX_BYTES:
            raise BundleCorrupt(f"{file.name} holds {size} bytes; the limit is {_MAX_BYTES}")
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleCorrupt(f"{file.name} cannot be read: {error}") from error


def _array(
    arrays: dict[str, npt.NDArray[Any]], name: str, dtype: type, row: tuple[int, ...]
) -> npt.NDArray[Any]:
    found = arrays.get(name)
    if found is None or found.dtype != dtype or found.shape[1:] != row or not len(found):
        shape = "nothing" if found is None else f"{found.dtype} {found.shape}"
        raise BundleCorrupt(f"golden {name} are {shape}; they must be {np.dtype(dtype)} (N, {row})")
    return found


def _same_count(arrays: dict[str, npt.NDArray[Any]], first: str, second: str) -> None:
    counts = [len(arrays[name]) if name in arrays else 0 for name in (first, second)]
    if counts[0] != counts[1]:
        raise BundleCorrupt(f"golden {first} are {counts[0]}, {second} {counts[1]}; they must be as many")
