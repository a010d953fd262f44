"""Smoothing and moving pixels: what blurs, weather and warps are made of. Images are (N, C, S, S) floats."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian(images: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Returns images smoothed with a Gaussian cut at `truncate` sigmas; edges repeat, sigma in pixels."""
    reach = int(truncate * sigma + 0.5)
    if not reach:
        return images
    offset = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = kernel / kernel.sum()  # (k,)
    flat = images.flatten(0, 1)[:, None]  # (N C, 1, S, S)
    wide = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel[None, None, None]), kernel[None, None, :, None]).view_as(images)


def take(images: Tensor, x: Tensor, y: Tensor, edge: str) -> Tensor:
    """Returns images read at places between pixels, bilinear.

    Args:
        images: (N, C, S, S).
        x: (N, S, S) columns, in pixels.
        y: (N, S, S) rows.
        edge: what lies outside: `border` repeats the last pixel, `reflection` mirrors around its centre.
    """
    side = images.shape[-1]
    grid = torch.stack((x, y), dim=-1) * (2 / (side - 1)) - 1
    return F.grid_sample(images, grid.to(images.dtype), "bilinear", edge, align_corners=True)


def places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the column and the row of each pixel, (1, S, S) each."""
    line = torch.arange(images.shape[-1], device=images.device, dtype=images.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def zoom(images: Tensor, factor: float) -> Tensor:
    """Returns images magnified around their centre, of the same side."""
    x, y = places(images)
    middle = (images.shape[-1] - 1) / 2
    x, y = ((p - middle) / factor + middle for p in (x, y))
    return take(images, x.expand(len(images), -1, -1), y.expand(len(images), -1, -1), "border")


def smear(images: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """Returns images drawn out along a line: weights of half a Gaussian over 2 · radius + 1 pixels.

    Args:
        images: (N, C, S, S).
        radius: in pixels, rounded up.
        sigma: in pixels.
        degrees: (N,) directions.
    """
    taps = torch.arange(2 * math.ceil(radius) + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (taps / sigma) ** 2)
    weights = weights / weights.sum()
    angle = torch.deg2rad(degrees.to(images))[:, None, None]
    x, y = places(images)
    total = torch.zeros_like(images)
    for tap, weight in zip(taps, weights, strict=True):
        total += weight * take(images, x + tap * angle.cos(), y + tap * angle.sin(), "border")
    return total


def plasma(count: int, side: int, decay: float, generator: torch.Generator) -> Tensor:
    """Returns (count, side, side) clouds of 0 to 1 by the diamond-square algorithm on a torus.

    Args:
        count: clouds.
        side: in pixels; made in the next power of two and cut.
        decay: by how much the roughness falls from one scale to the next, > 1.
        generator: on the CPU.
    """
    size = 1 << max(side - 1, 1).bit_length()
    cloud = torch.zeros(count, size, size)
    step, rough = size, 100.0

    def middle(sums: Tensor) -> Tensor:
        noise = torch.rand(sums.shape, generator=generator) * 2 - 1
        return sums / 4 + rough**2 * noise

    while step >= 2:
        half = step // 2
        corner = cloud[:, ::step, ::step]
        pairs = corner + corner.roll(-1, 1)
        cloud[:, half::step, half::step] = middle(pairs + pairs.roll(-1, 2))
        centre, corner = cloud[:, half::step, half::step], cloud[:, ::step, ::step]
        top = centre + centre.roll(1, 1) + corner + corner.roll(-1, 2)
        left = centre + centre.roll(1, 2) + corner + corner.roll(-1, 1)
        cloud[:, ::step, half::step] = middle(top)
        cloud[:, half::step, ::step] = middle(left)
        step, rough = half, rough / decay
    cloud = cloud - cloud.amin(dim=(1, 2), keepdim=True)
    return (cloud / cloud.amax(dim=(1, 2), keepdim=True))[:, :side, :side]
