"""Features of whole sources, made by a frozen encoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearlight.bundle.manifest import ImagePreprocess
from nearlight.training.encoders import normalise_pixels
from nearlight.training.errors import DataError
from nearlight.training.pixels import PixelReader
from nearlight.training.sections import EncoderSection
from nearlight.training.sources import Source

_BATCH = 256


class Features(Protocol):
    """Whatever turns images into features."""

    def of(self, source: Source) -> Tensor:
        """Returns (N, D) float32 features of all images of a source, not normalised, on the CPU."""


class Remembered:
    """Features of sources that several probes look at, made once."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._known: dict[int, tuple[Source, Tensor]] = {}

    def of(self, source: Source) -> Tensor:
        """Returns (N, D) float32 features of all images of a source."""
        if id(source) not in self._known:
            self._known[id(source)] = (source, self._features.of(source))
        return self._known[id(source)][1]


@dataclass(frozen=True, slots=True)
class EncoderFeatures:
    """A torch encoder, on images preprocessed as the server does."""

    encoder: nn.Module
    section: EncoderSection
    decode_threads: int = 2

    @torch.no_grad()
    def of(self, source: Source) -> Tensor:
        """Returns (N, D) float32 features of all images of a source, not normalised, on the CPU."""
        return torch.cat([self._encode(pixels) for pixels in self._batches(source, np.arange(len(source)))])

    @torch.no_grad()
    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Returns (N, D) float32 features of images (N, S, S, 3) uint8, on the CPU."""
        return torch.cat([self._encode(part) for part in torch.split(pixels, _BATCH)])

    def pixels(self, source: Source, most: int) -> Tensor:
        """Returns (N, S, S, 3) uint8 of the first images of a source, `most` of them at most."""
        return self.pixels_of(source, torch.arange(min(most, len(source))))

    def pixels_of(self, source: Source, rows: Tensor) -> Tensor:
        """Returns (N, S, S, 3) uint8 of the images in (N,) rows of a source."""
        return torch.cat(list(self._batches(source, rows.numpy())))

    def _encode(self, pixels: Tensor) -> Tensor:
        device = next(self.encoder.parameters()).device
        features: Tensor = self.encoder(normalise_pixels(pixels.to(device), self.section))
        return features.float().cpu()

    def _batches(self, source: Source, rows: npt.NDArray[np.int64]) -> Iterator[Tensor]:
        spec = ImagePreprocess(size_px=self.section.image_px)
        reader = PixelReader(source, spec, self.decode_threads, keep=False)
        for start in range(0, len(rows), _BATCH):
            yield torch.from_numpy(reader.read(rows[start : start + _BATCH]))
        reader.close()


def labels_of(source: Source, classes: Sequence[str]) -> Tensor:
    """Returns (N,) int64 places in the classes.

    Raises:
        DataError: the source has no class names, or one that is not among the classes.
    """
    if source.label_names is None:
        raise DataError(f"{source.name}: a label_name is needed for each image")
    number = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(source.label_names) - set(number))
    if unknown:
        raise DataError(f"{source.name} has the class {unknown[0]!r}, which the training data has not")
    return torch.tensor([number[name] for name in source.label_names])
