"""MixUp and CutMix: each image with another of the same batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MixPlan:
    """One batch's draw."""

    order: Tensor
    """(B,) int64, the partner of each image."""
    share: float
    """Of each image's own pixels, 0 to 1."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom, right of what CutMix takes from the partner; None: MixUp."""


def draw_mix(count: int, side_px: int, mixup: float, cutmix: float, generator: torch.Generator) -> MixPlan:
    """Returns a draw for a batch: MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), one of them if both.

    Args:
        count: images.
        side_px: of the images.
        mixup: α of Beta(α, α), from which the share is drawn; 0: off.
        cutmix: the same for CutMix.
        generator: CPU generator.
    """
    order = torch.randperm(count, generator=generator)
    cut = cutmix > 0 and (mixup == 0 or bool(torch.rand((), generator=generator) < 0.5))
    alpha = torch.full((2,), cutmix if cut else mixup)
    first, second = torch._standard_gamma(alpha, generator=generator).tolist()
    share = first / max(first + second, 1e-12)
    if not cut:
        return MixPlan(order, share, None)
    half = round(side_px * (1 - share) ** 0.5) / 2
    y, x = (torch.rand(2, generator=generator) * side_px).tolist()
    top, bottom = (int(min(max(edge, 0), side_px)) for edge in (y - half, y + half))
    left, right = (int(min(max(edge, 0), side_px)) for edge in (x - half, x + half))
    share = 1 - (bottom - top) * (right - left) / side_px**2
    return MixPlan(order, share, (top, left, bottom, right))


def mix(images: Tensor, plan: MixPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mixed images (B, 3, S, S), the partners (B,) and the shares (B,) of each image's own label."""
    order = plan.order.to(images.device)
    partner = images[order]
    if plan.box is None:
        mixed = plan.share * images + (1 - plan.share) * partner
    else:
        top, left, bottom, right = plan.box
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = partner[:, :, top:bottom, left:right]
    return mixed, order, torch.full((len(images),), plan.share, device=images.device)
