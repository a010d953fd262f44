"""Random resized crop, flip and light jitter on whole batches, on the device the batch is on."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.config import AugmentSection
from nearlight.training.views import Share


def augment(
    images: Tensor,
    side_px: int,
    section: AugmentSection,
    generator: torch.Generator,
    share: Share | None = None,
) -> Tensor:
    """Returns one random view of each image.

    Crops follow Inception's scheme (Szegedy et al. 2015): area uniform in `crop_scale`, aspect ratio
    log-uniform in `crop_ratio`, place uniform; sampled bilinearly through one affine grid for the batch.

    Args:
        images: (B, 3, S, S) float.
        side_px: side of the views.
        section: ranges and probabilities.
        generator: CPU generator of this step; the same state gives the same views.
        share: the part of a batch these images are; None: all of it.

    Returns:
        (B, 3, side_px, side_px), channels last in memory.
    """
    share, count = share or Share(0, len(images)), len(images)
    boxes = share.take(crop_boxes(share.whole, section, generator), count)  # (B, 4), in [-1, 1] terms
    flip = share.take(torch.rand(share.whole, generator=generator), count) < section.flip
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = torch.where(flip, -boxes[:, 2], boxes[:, 2])
    theta[:, 1, 1] = boxes[:, 3]
    theta[:, 0, 2] = boxes[:, 0]
    theta[:, 1, 2] = boxes[:, 1]
    grid = F.affine_grid(theta.to(images.device), [len(images), 3, side_px, side_px], align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    views = _jitter(views, section, generator, share)
    return views.contiguous(memory_format=torch.channels_last)


def crop_boxes(count: int, section: AugmentSection, generator: torch.Generator) -> Tensor:
    """Returns (count, 4) float: centre x, centre y, half width, half height, where the image is [-1, 1]²."""
    low, high = section.crop_scale
    area = torch.rand(count, generator=generator) * (high - low) + low
    log_low, log_high = math.log(section.crop_ratio[0]), math.log(section.crop_ratio[1])
    ratio = torch.exp(torch.rand(count, generator=generator) * (log_high - log_low) + log_low)
    width = (area * ratio).sqrt().clamp(max=1)  # half width = width share, since the image spans 2
    height = (area / ratio).sqrt().clamp(max=1)
    x = (torch.rand(count, generator=generator) * 2 - 1) * (1 - width)
    y = (torch.rand(count, generator=generator) * 2 - 1) * (1 - height)
    return torch.stack((x, y, width, height), dim=1)


def _jitter(views: Tensor, section: AugmentSection, generator: torch.Generator, share: Share) -> Tensor:
    def draw() -> Tensor:
        drawn = torch.rand(share.whole, 1, 1, 1, generator=generator) * 2 - 1
        return share.take(drawn, len(views))

    if section.contrast:
        gain = 1 + draw() * section.contrast
        mean = views.mean(dim=(1, 2, 3), keepdim=True)
        views = (views - mean) * gain.to(views.device) + mean
    if section.brightness:
        # Views are normalised: one unit is about a quarter of the range of pixel values.
        shift = draw() * section.brightness * 4
        views = views + shift.to(views.device)
    return views


def crop_side(step: int, steps: int, section: AugmentSection, image_px: int) -> int:
    """Returns the side of the views at a step, px: `crop_px` from first to last by 8, or image_px."""
    if section.crop_px is None:
        return image_px
    first, last = section.crop_px
    return round((first + (last - first) * step / max(steps - 1, 1)) / 8) * 8
