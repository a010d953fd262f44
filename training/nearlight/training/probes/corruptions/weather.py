"""Snow, frost and fog."""

import torch
from torch import Tensor

from nearlight.training.probes.corruptions.sampling import plasma, smear, zoom
from nearlight.training.views.colour import grey_of


def snow(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns whitened images with flakes that fall in a direction of their own."""
    mean, spread, size, least, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    count, _, side, _ = images.shape
    noise = torch.randn(count, 1, side, side, generator=generator)
    degrees = torch.rand(count, generator=generator) * 90 - 135
    flakes = zoom((noise * spread + mean).to(images), size)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    scale = side / 32
    flakes = smear(flakes, radius * scale, sigma * scale, degrees)
    white = torch.maximum(images, grey_of(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * white + flakes + flakes.rot90(2, (2, 3))


def frost(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns dimmed images behind ice.

    The photographs of frost of the original may not be passed on, so the ice is drawn: the ridges of a
    cloud, white with a tinge of blue. Figures of `frost` are therefore our own.
    """
    kept, ice = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    cloud = plasma(len(images), images.shape[-1], 1.6, generator).to(images)
    ridges = 1 - (2 * cloud - 1).abs()  # (N, S, S)
    tinge = images.new_tensor([0.86, 0.93, 1.0])[:, None, None]
    return kept * images + ice * ridges[:, None] * tinge


def fog(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images with a cloud in front, dimmed to the light they had."""
    dense, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    cloud = plasma(len(images), images.shape[-1], decay, generator).to(images)
    most = images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + dense * cloud[:, None]) * most / (most + dense)
