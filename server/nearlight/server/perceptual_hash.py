"""A 64-bit fingerprint of what an image looks like: its copies of other sizes and qualities nearly share it.

pHash by the discrete cosine transform (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions", section 3.2): 32 x 32 grey values, the 8 x 8 lowest frequencies, each compared with their median.
Chosen by measurement over dHash (Krawetz 2013) and over pHash without its first row and column, on 500
photographs of Flickr8k: it moves least when an image is saved as JPEG of quality 20, halved, brightened or
cropped by 1 % (95 % of these by at most 8 bits), while two different photographs were never closer than 12.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32
LOW = 8
# Grey values whose standard deviation is below this are one plain colour: noise would decide every bit.
FLAT = 1.0
# Above so many times the side the image is shrunk by whole steps first, which is much faster.
_SHRINK = 2

_ROWS = np.arange(LOW)[:, np.newaxis]  # (8, 1)
_BASIS = np.cos(np.pi * (2 * np.arange(SIDE) + 1) * _ROWS / (2 * SIDE))  # (8, 32), DCT-II but for its scale
_BASIS[0] /= np.sqrt(2)
_WEIGHTS = np.uint64(1) << np.arange(64, dtype=np.uint64)  # (64,)


def perceptual_hash(image: Image.Image) -> int | None:
    """The fingerprint of an image, 0 to 2^64-1; None for one of a single plain colour.

    Args:
        image: RGB, upright, as `nearlight.bundle.image.decode` returns it.
    """
    step = min(image.size) // (_SHRINK * SIDE)
    small = image.reduce(step) if step > 1 else image
    grey = np.asarray(small.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)  # (32, 32)
    if grey.std() < FLAT:
        return None
    return _bits(_BASIS @ grey @ _BASIS.T)


def _bits(low: npt.NDArray[np.float64]) -> int:
    """One bit for each frequency (8, 8): above the median of all but the mean grey, lowest bit first."""
    values = low.ravel()  # (64,)
    return int(_WEIGHTS[values > np.median(values[1:])].sum(dtype=np.uint64))
