"""Images and texts to prove parity on: the user's own, else generated ones."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nearlight.bundle.errors import ImageError
from nearlight.bundle.image import ImageLimits, Pixels, load_pixels, preprocess
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.bundle.prompts import prompts
from nearlight.export.errors import SourceError
from nearlight.training.errors import DataError
from nearlight.training.sources import Source, open_source

MAX_IMAGES = 256
MAX_TEXTS = 1000

_GENERATED_IMAGES = 64
_MAX_LABELS = 100
_NOUNS = (
    "dog", "cat", "horse", "bird", "child", "woman", "man", "crowd", "bicycle", "car", "train", "aeroplane",
    "boat", "bridge", "street at night", "mountain", "beach", "forest", "river", "flower", "tree", "chair",
    "table set for dinner", "cup of coffee", "loaf of bread", "red apple", "guitar", "book", "clock", "lamp",
)  # fmt: skip
_SENTENCES = (
    "",
    "x",
    "42",
    "Two dogs run after a ball across a wet lawn while their owner, in a yellow coat, looks at the phone .",
    "a view from the window of a train: fields, a church, low clouds, and far off the sea",
    "¿Dónde está la estación? — über den Dächern von Köln",
    "雪の中の赤い鳥居 🦊",
    "a sentence that does not end " * 20,
)


@dataclass(frozen=True, slots=True)
class Samples:
    """Ready inputs.

    Attributes:
        origin: In words where they come from.
        pixels: uint8 (N, H, W, 3).
        texts: Captions, or prompts of class names.
        labels: Names that zero-shot classification may choose from.
        pairs: For each text the row of the image it was written for, -1 where there is none; () without any.
    """

    origin: str
    pixels: Pixels
    texts: Sequence[str]
    labels: Sequence[str] = _NOUNS
    pairs: Sequence[int] = ()


def gather(data: str | None, candidates: Sequence[str], spec: ImagePreprocess) -> Samples:
    """Samples of the source `data`, else of the first candidate that opens, else generated ones.

    Raises:
        SourceError: `data` does not open, or none of its images decodes.
    """
    if data is not None:
        try:
            return _from_source(open_source(data, words=False), spec)
        except DataError as error:
            raise SourceError(str(error)) from error
    for candidate in candidates:
        try:
            return _from_source(open_source(candidate, words=False), spec)
        except (DataError, SourceError, OSError):
            continue  # a run may have been moved away from its data
    pixels = np.stack(list(itertools.islice(_generated(spec), _GENERATED_IMAGES)))  # (N, H, W, 3)
    return Samples("generated images and built-in captions", pixels, [*_SENTENCES, *prompts(_NOUNS)])


def _from_source(source: Source, spec: ImagePreprocess) -> Samples:
    found = list(itertools.islice(_readable(source, spec), MAX_IMAGES))
    if not found:
        raise SourceError(f"{source.name}: none of its {len(source)} images can be read")
    rows, pixels = zip(*found, strict=True)
    pairs: list[int] = []
    if source.captions is not None:
        captioned = list(itertools.islice(_captions(source.captions, rows), MAX_TEXTS))
        texts, pairs = [text for text, _ in captioned], [image for _, image in captioned]
        pairs = [-1] * len(_SENTENCES) + pairs
    else:
        texts = prompts(source.classes or _NOUNS)[:MAX_TEXTS]
    texts = [*_SENTENCES, *texts]
    built_in = "" if source.captions is not None or source.classes else " built-in"
    origin = f"{source.name}: {len(pixels)} images, {len(texts)}{built_in} texts"
    return Samples(origin, np.stack(pixels), texts, source.classes[:_MAX_LABELS] or _NOUNS, pairs)


def _captions(captions: Sequence[Sequence[str]], rows: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Captions of the chosen images, one of each before the next, then those of all others."""
    for turn in range(max((len(captions[row]) for row in rows), default=0)):
        for image, row in enumerate(rows):
            if turn < len(captions[row]):
                yield captions[row][turn], image
    chosen = set(rows)
    for row, own in enumerate(captions):
        if row not in chosen:
            yield from ((text, -1) for text in own)


def _readable(source: Source, spec: ImagePreprocess) -> Iterator[tuple[int, Pixels]]:
    # Spread over the source: neighbours are often alike.
    step = max(1, len(source) // MAX_IMAGES)
    for row in range(0, len(source), step):
        try:
            yield row, load_pixels(source.images.read(row), spec, ImageLimits())
        except ImageError:
            continue


def _generated(spec: ImagePreprocess) -> Iterator[Pixels]:
    """Images with the falling spectrum of photographs, from nearly flat to nearly noise, of many shapes."""
    rng = np.random.default_rng(20240229)
    while True:
        height, width = rng.integers(80, 400, 2)
        rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
        falloff = np.maximum(np.hypot(rows, columns), 1 / 400) ** rng.uniform(0.5, 2.0)  # (H, W/2+1)
        spectrum = rng.normal(size=(3, *falloff.shape)) + 1j * rng.normal(size=(3, *falloff.shape))
        waves = np.fft.irfft2(spectrum / falloff, s=(height, width)).transpose(1, 2, 0)  # (H, W, 3)
        waves = (waves - waves.mean()) / (waves.std() + 1e-9) * rng.uniform(10, 70) + rng.uniform(60, 200, 3)
        yield preprocess(Image.fromarray(np.clip(waves, 0, 255).astype(np.uint8)), spec)
