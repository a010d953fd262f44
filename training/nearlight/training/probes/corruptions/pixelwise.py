"""Noise and light: corruptions in which no pixel sees another."""

import torch
from torch import Tensor


def gaussian_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images with additive noise of a sensor in low light."""
    size = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + size * torch.randn(images.shape, generator=generator).to(images)


def shot_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images counted photon by photon, so many at full light."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (torch.poisson(images.cpu().float() * photons, generator=generator) / photons).to(images)


def impulse_noise(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images with a share of their values at either end: salt and pepper."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    draw = torch.rand(images.shape, generator=generator).to(images.device)
    dark = torch.where(draw < share / 2, 0.0, images)
    return torch.where(draw >= 1 - share / 2, 1.0, dark)


def brightness(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images of higher value (HSV); hue and saturation stay."""
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = images.amax(dim=1, keepdim=True)
    risen = (value + more).clamp(max=1)
    return torch.where(value > 0, images * (risen / value.clamp(min=1e-6)), risen)


def contrast(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images drawn towards the mean of each channel."""
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * factor + mean
