"""Which corruptions there are, and how one is applied to uint8 images."""

from collections.abc import Callable

import torch
from torch import Tensor

from nearlight.training.errors import ConfigError
from nearlight.training.probes.corruptions.blurs import defocus_blur, glass_blur, motion_blur, zoom_blur
from nearlight.training.probes.corruptions.digital import elastic_transform, jpeg_compression, pixelate
from nearlight.training.probes.corruptions.pixelwise import (
    brightness,
    contrast,
    gaussian_noise,
    impulse_noise,
    shot_noise,
)
from nearlight.training.probes.corruptions.weather import fog, frost, snow

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]

SEVERITIES = (1, 2, 3, 4, 5)
_BATCH = 256
CORRUPTIONS: dict[str, Corruption] = {
    made.__name__: made
    for made in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        frost,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
    )
}
"""In the order of Hendrycks and Dietterich 2019, with the severities of their CIFAR-10-C; lengths grow with
the side of the images."""


def corrupt(pixels: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Returns corrupted images; image, name, severity and seed decide.

    Args:
        pixels: (N, S, S, 3) uint8, S >= 8.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the draws.

    Raises:
        ConfigError: an unknown corruption or severity, or images that are too small.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"there is no corruption {name!r}; one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ConfigError(f"severity is {severity}; it must be 1 to 5")
    if pixels.shape[1] < 8:
        raise ConfigError(f"images of {pixels.shape[1]} px cannot be corrupted; the least side is 8")
    generator = torch.Generator().manual_seed(seed * 1000 + 10 * list(CORRUPTIONS).index(name) + severity)
    made = []
    for part in torch.split(pixels, _BATCH):
        images = part.permute(0, 3, 1, 2).float() / 255  # (n, 3, S, S)
        worse = CORRUPTIONS[name](images, severity, generator).clamp(0, 1)
        made.append((worse * 255).round().to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(made)
