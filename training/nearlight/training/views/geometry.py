"""Turns, affine maps and warps, on (N, C, S, S) floats; each image with its own."""

import torch
from torch import Tensor
from torch.nn import functional as F

_KNOTS = 4  # of a warp, along each side


def turn(images: Tensor, quarters: Tensor) -> Tensor:
    """Returns square images turned counter-clockwise by so many quarters, (N,) int64 of 0 to 3."""
    made = images.clone()
    for count in (1, 2, 3):
        rows = (quarters == count).nonzero()[:, 0]
        made[rows] = images[rows].rot90(count, (2, 3))
    return made


def affine(images: Tensor, back: Tensor) -> Tensor:
    """Returns images under affine maps, bilinear, black outside; torchvision's `affine`.

    Args:
        images: (N, C, S, S).
        back: (N, 2, 3): from places of the result to places of the image, in pixels from the middle.
    """
    side = images.shape[-1]
    line = torch.arange(side, device=images.device, dtype=images.dtype) - (side - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    still = torch.stack((x, y, torch.ones_like(x)), dim=-1).view(1, -1, 3)  # (1, S², 3)
    grid = (still @ back.transpose(1, 2)).view(len(images), side, side, 2) / (side / 2)
    return F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)


def shear(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns images whose rows (columns) slide by x (y) pixels for each pixel from the upper left corner."""
    back, half = _still(images), images.shape[-1] / 2
    back[:, 0, 1], back[:, 0, 2] = x, x * half
    back[:, 1, 0], back[:, 1, 2] = y, y * half
    return affine(images, back)


def translate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns images moved to the right by (N,) x and down by (N,) y pixels."""
    back = _still(images)
    back[:, 0, 2], back[:, 1, 2] = -x, -y
    return affine(images, back)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Returns images turned counter-clockwise by (N,) degrees around the middle."""
    back = _still(images)
    angle = torch.deg2rad(degrees)
    back[:, 0, 0], back[:, 0, 1] = angle.cos(), -angle.sin()
    back[:, 1, 0], back[:, 1, 1] = angle.sin(), angle.cos()
    return affine(images, back)


def warp(images: Tensor, knots: Tensor) -> Tensor:
    """Returns images bent smoothly: each pixel is read where the knots' shifts, bicubic between them, say.

    Args:
        images: (N, C, S, S); mirrored beyond the edges.
        knots: (N, 2, K, K) shifts in x and y in pixels, on a regular grid from edge to edge.
    """
    side = images.shape[-1]
    shift = F.interpolate(knots, (side, side), mode="bicubic", align_corners=True)  # (N, 2, S, S)
    line = torch.arange(side, device=images.device, dtype=images.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack((x + shift[:, 0], y + shift[:, 1]), dim=-1) * (2 / (side - 1)) - 1
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=True)


def draw_knots(count: int, reach_px: float, generator: torch.Generator) -> Tensor:
    """Returns (count, 2, 4, 4) shifts, uniform up to `reach_px` pixels either way."""
    return (torch.rand(count, 2, _KNOTS, _KNOTS, generator=generator) * 2 - 1) * reach_px


def _still(images: Tensor) -> Tensor:
    return torch.eye(2, 3, device=images.device, dtype=images.dtype).repeat(len(images), 1, 1)
