"""What a bench sends: images and texts of the user's own, or made up."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from nearlight.client.bench.results import Raw
from nearlight.client.errors import InvalidInput
from nearlight.client.sources import SourceError, open_source

MADE_UP_IMAGES = 32
# As many inputs as are kept in memory: 1000 photographs are some 100 MB.
MAX_IMAGES = 1000

TEXTS = (
    "a dog",
    "a brown dog runs along the beach",
    "two children play football in a park on a sunny day",
    "a red car",
    "an old man sits on a wooden bench and reads the newspaper",
    "snow on the mountains behind a lake",
    "a woman in a yellow raincoat walks her bicycle across the bridge",
    "a plate of pasta with tomatoes and basil on a checked tablecloth",
    "three people",
    "a cat sleeps on the keyboard of a laptop",
    "a crowd of spectators watches a cyclist climb a steep road in the rain",
    "the city at night seen from a hill, with the lights of cars on the motorway",
    "a black and white photograph of a railway station",
    "a girl blows out the candles of her birthday cake while her family sings",
    "a sailing boat",
    "a climber hangs from an overhanging rock by one hand and looks down",
    "a market stall full of oranges, lemons and melons",
    "a football player in a blue shirt jumps to head the ball",
    "an empty street",
    "a bird on a branch",
    "a group of hikers with large backpacks rests beside a mountain stream",
    "a man in a white coat looks through a microscope",
    "horses graze in a field in front of a farmhouse",
    "a child in a red jacket throws a snowball at the photographer",
)


def made_up_images(count: int = MADE_UP_IMAGES) -> list[bytes]:
    """Returns JPEG files of 640 x 480 with the detail and size of photographs, each different.

    Raises:
        InvalidInput: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InvalidInput(
            "there are no images to send: give --images FOLDER, or pip install pillow"
        ) from None
    import numpy as np

    numbers = np.random.default_rng(0)
    images = []
    for _ in range(count):
        # Smooth shapes with noise on several scales compress to about the size of a photograph.
        layers = [
            np.asarray(
                Image.fromarray(numbers.integers(0, 256, (side * 3, side * 4, 3), np.uint8)).resize(
                    (640, 480)
                )
            ).astype(np.float32)
            for side in (2, 8, 40, 160)
        ]
        pixels = sum(layer * share for layer, share in zip(layers, (0.4, 0.3, 0.2, 0.1), strict=True))
        file = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return images


def images_of(source: Path | None) -> list[bytes]:
    """Returns the images of a folder or parquet file, 1000 at most; made-up ones where none is named.

    Raises:
        InvalidInput: there is none, or it cannot be read.
    """
    if source is None:
        return made_up_images()
    try:
        found = open_source(str(source), "image", None)
        images = [candidate.read()[0] for candidate in itertools.islice(found, MAX_IMAGES)]
    except (SourceError, OSError, ImportError) as error:
        raise InvalidInput(f"cannot read images from {source}: {error}") from None
    if not images:
        raise InvalidInput(f"there are no images in {source}")
    return images


def texts_of(file: Path | None) -> list[str]:
    """Returns the lines of a file, without empty ones; captions of our own where none is named.

    Raises:
        InvalidInput: there is none, or it cannot be read.
    """
    if file is None:
        return list(TEXTS)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read texts from {file}: {error}") from None
    texts = [line for line in lines if line]
    if not texts:
        raise InvalidInput(f"there are no texts in {file}")
    return texts


def mixed(images: Sequence[bytes], texts: Sequence[str], text_share: float) -> list[Raw]:
    """Returns images and texts, spread evenly, so that a share of them is texts.

    Args:
        images: each is taken once where the share allows.
        texts: taken round and round.
        text_share: 0 to 1.
    """
    if text_share <= 0:
        return list(images)
    if text_share >= 1:
        return list(texts)
    endless_images, endless_texts = itertools.cycle(images), itertools.cycle(texts)
    count = max(len(images), round(len(images) / (1 - text_share)))
    made: list[Raw] = []
    n_texts = 0
    for position in range(1, count + 1):
        if n_texts < round(position * text_share):
            made.append(next(endless_texts))
            n_texts += 1
        else:
            made.append(next(endless_images))
    return made
