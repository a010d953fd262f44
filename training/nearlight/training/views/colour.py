"""Colour operations on (N, 3, H, W) floats of 0 to 1, as torchvision's, each image with its own strength."""

import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights, those of ITU-R 601-2
JITTER = 4  # operations: brightness, contrast, saturation, hue


def grey_of(images: Tensor) -> Tensor:
    """Returns (N, 1, H, W) luminance."""
    red, green, blue = images.unbind(dim=1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]


def to_grey(images: Tensor) -> Tensor:
    """Returns (N, 3, H, W) of equal channels."""
    return grey_of(images).expand_as(images)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Returns images mixed with black; factor (N,), >= 0, 1 leaves them."""
    return (images * factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Returns images mixed with their mean luminance; factor (N,), >= 0, 1 leaves them."""
    f = factor[:, None, None, None]
    mean = grey_of(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul((1 - f) * mean, images, f).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Returns images mixed with their grey; factor (N,), >= 0, 1 leaves them."""
    f = factor[:, None, None, None]
    return torch.addcmul((1 - f) * grey_of(images), images, f).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Returns images with their hue turned; shift (N,), -0.5 to 0.5 of a full turn.

    Value and saturation stay, so a turned channel is v - c max(0, min(k, 4 - k, 1)) with chroma c and k its
    distance from the hue in sixths of a turn (the closed form of HSV to RGB).
    """
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)  # (N, H, W)
    chroma = value - images.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * shift[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (sixth + n) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def solarise(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Returns images with all values from the threshold on inverted."""
    return torch.where(images >= threshold, 1 - images, images)


_OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def jitter(images: Tensor, strengths: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """Changes brightness, contrast, saturation and hue of the chosen images in place, each in its own order.

    Args:
        images: (N, 3, H, W).
        strengths: (N, 4) on the CPU: factors of the first three, shift of the hue.
        order: (N, 4) int64 on the CPU, a permutation of 0..3 in each row: which comes first.
        chosen: (N,) bool on the CPU.

    Returns:
        The same tensor.
    """
    for place in range(JITTER):
        for kind, operation in enumerate(_OPERATIONS):
            rows = (chosen & (order[:, place] == kind)).nonzero()[:, 0]
            if len(rows):
                at = rows.to(images.device, non_blocking=True)
                strength = strengths[rows, kind].to(images.device, non_blocking=True)
                images[at] = operation(images[at], strength)
    return images
