"""Noise and holes, on (N, C, S, S) floats of 0 to 1."""

import torch
from torch import Tensor


def add_noise(images: Tensor, sigma: Tensor, grain: Tensor) -> Tensor:
    """Returns images with noise, cut to 0 to 1.

    Args:
        images: (N, C, S, S).
        sigma: (N,) >= 0, of values of 0 to 1.
        grain: (N, C, S, S) of unit variance.
    """
    return torch.addcmul(images, sigma[:, None, None, None].to(images), grain.to(images)).clamp(0, 1)


def cutout(images: Tensor, centre: Tensor, side_px: int) -> Tensor:
    """Returns images with a square of mean grey (DeVries and Taylor 2017); what lies outside is cut off.

    Args:
        images: (N, C, S, S).
        centre: (N, 2) int64 row and column, 0 to S - 1.
        side_px: of the square.
    """
    line = torch.arange(images.shape[-1], device=images.device)
    first = centre - side_px // 2  # (N, 2)
    inside = (line[None, None] >= first[..., None]) & (line[None, None] < first[..., None] + side_px)
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]  # (N, S, S)
    return torch.where(hole[:, None], 0.5, images)
