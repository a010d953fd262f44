"""Blurs: out of focus, through frosted glass, in motion, while zooming. Lengths are of 32 px, and scale."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.probes.corruptions.sampling import gaussian, smear, zoom


def defocus_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images through a disk whose edge is softened."""
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    kernel = disk(radius * images.shape[-1] / 32, soft).to(images)
    reach = kernel.shape[-1] // 2
    wide = F.pad(images.flatten(0, 1)[:, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(wide, kernel[None, None]).view_as(images)


def disk(radius: float, soft: float) -> Tensor:
    """Returns the odd square kernel of a disk, smoothed by three pixels of a Gaussian of sigma `soft`."""
    reach = math.floor(radius) + 1  # the smoothing reaches one further
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    inside = (line[:, None] ** 2 + line[None, :] ** 2 <= radius**2).float()
    taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / soft) ** 2)
    taps = taps / taps.sum()
    plain = (inside / inside.sum())[None, None]
    return F.conv2d(plain, (taps[:, None] * taps[None, :])[None, None], padding=1)[0, 0]


def glass_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns smoothed images whose pixels change places with a near one, and are smoothed again.

    From the last pixel to the first, each is exchanged with that up to `reach` rows above and columns to
    the left (or at the same place), the draw of each image its own.
    """
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    side = images.shape[-1]
    sigma, reach = sigma * side / 32, max(round(reach * side / 32), 1)
    pixels = gaussian(images, sigma).permute(2, 3, 0, 1).contiguous()  # (S, S, N, 3)
    each = torch.arange(len(images), device=images.device)
    inner = range(side - reach, reach, -1)
    for _ in range(rounds):
        draw = torch.randint(-reach, reach, (2, len(inner), len(inner), len(images)), generator=generator)
        draw = draw.to(images.device)
        for i, row in enumerate(inner):
            for j, column in enumerate(inner):
                other_row, other_column = row + draw[0, i, j], column + draw[1, i, j]  # (N,)
                here = pixels[row, column].clone()
                pixels[row, column] = pixels[other_row, other_column, each]
                pixels[other_row, other_column, each] = here
    return gaussian(pixels.permute(2, 3, 0, 1), sigma)


def motion_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images drawn out in a direction of -45 to 45 degrees."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    degrees = torch.rand(len(images), generator=generator) * 90 - 45
    scale = images.shape[-1] / 32
    return smear(images, radius * scale, sigma * scale, degrees)


def zoom_blur(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns the mean of an image and its magnifications, in steps of one percent."""
    steps = (6, 11, 16, 21, 26)[severity - 1]
    total = images.clone()
    for step in range(steps):
        total += zoom(images, 1 + step / 100)
    return total / (steps + 1)
