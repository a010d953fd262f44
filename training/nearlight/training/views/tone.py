"""Operations on the curve of tones, as torchvision's, on (N, 3, H, W) floats of 0 to 1."""

import torch
from torch import Tensor
from torch.nn import functional as F


def posterise(images: Tensor, bits: Tensor) -> Tensor:
    """Returns images of which each value keeps its (N,) int64 highest bits of eight."""
    levels = (images * 255).round().to(torch.int64)
    mask = 256 - (1 << (8 - bits))
    return (levels & mask[:, None, None, None]).to(images.dtype) / 255


def solarise_from(images: Tensor, threshold: Tensor) -> Tensor:
    """Returns images with all values from the (N,) threshold on inverted."""
    return torch.where(images >= threshold[:, None, None, None], 1 - images, images)


def invert(images: Tensor) -> Tensor:
    """Returns negatives."""
    return 1 - images


def auto_contrast(images: Tensor) -> Tensor:
    """Returns images of which each channel fills 0 to 1; a flat channel stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    scale = torch.where(flat, 1.0, 1 / torch.where(flat, 1.0, high - low))
    return ((images - torch.where(flat, 0.0, low)) * scale).clamp(0, 1)


def equalise(images: Tensor) -> Tensor:
    """Returns images with even histograms, each channel by itself; in steps of 1/255, as Pillow's."""
    count, channels, height, width = images.shape
    levels = (images * 255).round().to(torch.int64).view(count * channels, -1)  # (N C, H W)
    histogram = torch.zeros(len(levels), 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels))
    last = histogram.gather(1, levels.amax(dim=1, keepdim=True))  # (N C, 1), how many of the highest level
    step = torch.div(height * width - last, 255, rounding_mode="floor")
    below = histogram.cumsum(dim=1) - histogram  # (N C, 256)
    table = torch.div(below + step // 2, step.clamp(min=1), rounding_mode="floor").clamp(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(1, levels).view_as(images).to(images.dtype) / 255


def adjust_sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Returns images mixed with their smoothed selves; factor (N,), >= 0, 1 leaves them."""
    kernel = images.new_tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
    smooth = images.clone()
    inner = F.conv2d(images.flatten(0, 1)[:, None], kernel[None, None])
    smooth[:, :, 1:-1, 1:-1] = inner.view_as(smooth[:, :, 1:-1, 1:-1])
    f = factor[:, None, None, None]
    return torch.addcmul((1 - f) * smooth, images, f).clamp_(0, 1)
