"""Gaussian blur with one sigma an image."""

import torch
from torch import Tensor


def kernel_px(side_px: int) -> int:
    """Returns the odd width of the kernel for views of a side: a tenth of it, 3 at least (SimCLR)."""
    return max(3, side_px // 10 // 2 * 2 + 1)


def blur(images: Tensor, sigma: Tensor, width: int) -> Tensor:
    """Returns blurred images, as torchvision's `gaussian_blur`: edges mirrored, rows and columns apart.

    Args:
        images: (N, 3, S, S).
        sigma: (N,) > 0, in pixels.
        width: of the kernel, odd, less than 2 S.
    """
    n, channels, height, side = images.shape
    reach = width // 2
    offset = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)  # (k,)
    kernel = torch.exp(-0.5 * (offset[None] / sigma[:, None]) ** 2)  # (N, k)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    down, across = _matrix(kernel, height), _matrix(kernel, side)
    rows = torch.matmul(images, across.transpose(1, 2)[:, None])  # (N, 3, H, S)
    return torch.matmul(down[:, None], rows).view(n, channels, height, side)


def _matrix(kernel: Tensor, side: int) -> Tensor:
    """Returns (N, side, side) whose row i holds the kernel around i, folded back at the edges."""
    reach = kernel.shape[1] // 2
    place = torch.arange(side, device=kernel.device)[:, None] + torch.arange(
        -reach, reach + 1, device=kernel.device
    )  # (side, k)
    place = place.abs()
    place = torch.where(place >= side, 2 * (side - 1) - place, place)
    matrix = kernel.new_zeros(len(kernel), side, side)
    return matrix.scatter_add_(
        2, place[None].expand(len(kernel), -1, -1), kernel[:, None].expand(-1, side, -1)
    )
