"""Random resized crops: torchvision's boxes and antialiased bilinear sampling, one box an image."""

import math

import torch
from torch import Tensor

TRIES = 10


def draw_boxes(
    count: int,
    side_px: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Returns (count, 4) int64 boxes: top, left, height, width, within square images.

    torchvision's RandomResizedCrop (Szegedy et al. 2015): area uniform, aspect ratio log-uniform, the
    first of ten tries that fits, else the largest centred box; place uniform.

    Args:
        count: images.
        side_px: side of the images.
        scale: least and largest share of the area.
        ratio: least and largest width / height.
        generator: CPU generator.
    """
    shape = (count, TRIES)
    area = torch.rand(shape, generator=generator) * (scale[1] - scale[0]) + scale[0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(torch.rand(shape, generator=generator) * (high - low) + low)
    place = torch.rand(count, 2, generator=generator)
    width = (side_px * (area * aspect).sqrt()).round().long()  # (N, TRIES)
    height = (side_px * (area / aspect).sqrt()).round().long()
    fits = (width > 0) & (width <= side_px) & (height > 0) & (height <= side_px)
    first = fits.int().argmax(dim=1, keepdim=True)  # (N, 1)
    width, height = width.gather(1, first)[:, 0], height.gather(1, first)[:, 0]
    none = ~fits.any(dim=1)
    fallback_width = side_px if ratio[1] >= 1 else round(side_px * ratio[1])
    fallback_height = side_px if ratio[0] <= 1 else round(side_px / ratio[0])
    width = torch.where(none, fallback_width, width)
    height = torch.where(none, fallback_height, height)
    top = (place[:, 0] * (side_px - height + 1)).long()
    left = (place[:, 1] * (side_px - width + 1)).long()
    top = torch.where(none, (side_px - height) // 2, top)
    left = torch.where(none, (side_px - width) // 2, left)
    return torch.stack((top, left, height, width), dim=1)


def sampling_matrix(start: Tensor, length: Tensor, side_in: int, side_out: int) -> Tensor:
    """Returns (N, side_out, side_in): row r says how much of each input pixel makes output pixel r.

    Bilinear with antialiasing: a triangle as wide as the step between samples when shrinking, cut at the
    edges of the box; the weights of torchvision's `resized_crop(..., antialias=True)`.

    Args:
        start: (N,) first pixel of the box.
        length: (N,) pixels of the box, >= 1.
        side_in: pixels of the image.
        side_out: pixels of the view.
    """
    step = length.to(torch.float32)[:, None, None] / side_out  # (N, 1, 1) input pixels an output pixel
    out = torch.arange(side_out, device=start.device, dtype=torch.float32)[None, :, None]
    pixel = torch.arange(side_in, device=start.device, dtype=torch.float32)[None, None, :]
    offset = pixel - start.to(torch.float32)[:, None, None]  # (N, 1, side_in), within the box
    centre = (out + 0.5) * step - 0.5  # (N, side_out, 1)
    weight = (1 - (offset - centre).abs() / step.clamp(min=1)).clamp(min=0)
    inside = (offset >= 0) & (offset < length[:, None, None])
    weight = weight * inside
    return weight / weight.sum(dim=2, keepdim=True)


def crop(images: Tensor, boxes: Tensor, flip: Tensor, side_px: int) -> Tensor:
    """Returns (N, 3, side_px, side_px) float crops of images, mirrored where `flip` says so.

    Args:
        images: (N, H, W, 3) float.
        boxes: (N, 4) int64 top, left, height, width.
        flip: (N,) bool.
        side_px: side of the views.
    """
    n, height, width, channels = images.shape
    down = sampling_matrix(boxes[:, 0], boxes[:, 2], height, side_px)  # (N, s, H)
    across = sampling_matrix(boxes[:, 1], boxes[:, 3], width, side_px)  # (N, s, W)
    across = torch.where(flip[:, None, None], across.flip(1), across)
    rows = torch.bmm(down, images.reshape(n, height, width * channels))  # (N, s, W * 3)
    rows = rows.view(n, side_px, width, channels).permute(0, 2, 1, 3).reshape(n, width, -1)  # (N, W, s * 3)
    views = torch.bmm(across, rows).view(n, side_px, side_px, channels)  # (N, x, y, 3)
    return views.permute(0, 3, 2, 1).contiguous()
