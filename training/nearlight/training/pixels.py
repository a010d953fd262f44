"""Encoded images to uint8 batches: decoded once and held where they fit, else decoded as they are needed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearlight.bundle.errors import ImageError
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.training.errors import DataError
from nearlight.training.sources import Images, Source

Pixels = npt.NDArray[np.uint8]
Report = Callable[[int], None]


class PixelReader:
    """Reads rows of a source as square uint8 images of one size.

    The squares are made by the code that serves. For training they are larger than what the server
    sees, so that random crops have something to crop from.
    A file that cannot be decoded is replaced by a grey square and counted in `broken`.
    """

    def __init__(
        self,
        source: Source,
        spec: ImagePreprocess,
        threads: int,
        keep: bool,
        limits: ImageLimits | None = None,
    ) -> None:
        self._images: Images = source.images
        self._spec = spec
        self._limits = limits or ImageLimits()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._keep = keep
        self._kept: Pixels | None = None
        self.broken: dict[int, str] = {}

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._images)

    def preload(self, report: Report = lambda n: None) -> None:
        """Decodes all rows into memory if this reader keeps them; `report(n)` follows every n rows done."""
        if not self._keep or self._kept is not None:
            return
        side = self._spec.size_px
        kept = np.empty((len(self), side, side, 3), np.uint8)  # (N, S, S, 3)
        for start in range(0, len(self), 256):
            rows = np.arange(start, min(start + 256, len(self)))
            kept[rows] = self._decode(rows)
            report(len(rows))
        self._kept = kept

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Returns (B, S, S, 3) uint8 RGB for B row numbers."""
        return self._kept[rows] if self._kept is not None else self._decode(rows)

    @property
    def kept(self) -> Pixels | None:
        """All rows (N, S, S, 3), if they are held in memory."""
        return self._kept

    def refuse_if_hopeless(self, name: str) -> None:
        """Raises DataError if every row that was decoded is broken."""
        if len(self.broken) == len(self):
            raise DataError(f"{name}: none of {len(self)} images can be decoded; row 0: {self.broken[0]}")

    def close(self) -> None:
        """Stops the decoding threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, rows: npt.NDArray[np.int64]) -> Pixels:
        return np.stack(list(self._pool.map(self._decode_one, rows.tolist())))

    def _decode_one(self, row: int) -> Pixels:
        try:
            return load_pixels(self._images.read(row), self._spec, self._limits)
        except (ImageError, OSError) as error:
            self.broken[row] = str(error)
            return np.full((self._spec.size_px, self._spec.size_px, 3), 128, np.uint8)


def on_device(readers: Sequence[PixelReader], device: torch.device, limit_mb: int) -> Tensor | None:
    """Returns all rows of all sources laid end to end, (N, S, S, 3) uint8 on a device.

    None where a reader keeps nothing, where they do not fit into `limit_mb` MiB together, or where they
    would only be copied from memory to memory.
    """
    parts = [reader.kept for reader in readers]
    whole = [torch.from_numpy(part) for part in parts if part is not None]
    size = sum(part.nbytes for part in whole)
    if len(whole) < len(readers) or size > limit_mb * 2**20 or (device.type == "cpu" and len(whole) > 1):
        return None
    if len(whole) == 1:
        return whole[0].to(device)
    held = torch.empty((sum(map(len, whole)), *whole[0].shape[1:]), dtype=torch.uint8, device=device)
    for place, part in zip(torch.split(held, [len(part) for part in whole]), whole, strict=True):
        place.copy_(part)
    return held


def open_readers(sources: Sequence[Source], side_px: int, threads: int, limit_mb: int) -> list[PixelReader]:
    """Returns one reader a source; they keep decoded pixels if all fit into `limit_mb` MiB together."""
    spec = ImagePreprocess(size_px=side_px)
    need_mb = sum(len(s) for s in sources) * side_px * side_px * 3 / 2**20
    return [PixelReader(s, spec, threads, keep=need_mb <= limit_mb) for s in sources]
