"""Views of a batch as the configuration describes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nearlight.training.sections import EncoderSection, ViewSection
from nearlight.training.views.blur import blur, kernel_px
from nearlight.training.views.colour import JITTER, jitter, solarise, to_grey
from nearlight.training.views.crop import crop, draw_boxes


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch one process has: rows start to start + count of `whole`."""

    start: int
    whole: int

    def take(self, draws: Tensor, count: int) -> Tensor:
        """Returns this part of what was drawn for the whole batch."""
        return draws[self.start : self.start + count]


def make_views(
    pixels: Tensor,
    sections: Sequence[ViewSection],
    encoder: EncoderSection,
    generator: torch.Generator,
    share: Share | None = None,
) -> list[Tensor]:
    """Returns the views of a batch, each (B, 3, s, s) float32, normalised, channels last in memory.

    Args:
        pixels: (B, S, S, 3) uint8.
        sections: one for each kind of view; a kind gives `count` views.
        encoder: the side and the mean and std of what it takes.
        generator: CPU generator of the step; the same state gives the same views on every device, and each
            process of many its part of the same views.
        share: the part of the batch `pixels` is; None: all of it.
    """
    images = pixels.to(torch.float32) / 255  # (B, S, S, 3)
    mean = torch.tensor(encoder.mean, device=pixels.device)[:, None, None]
    std = torch.tensor(encoder.std, device=pixels.device)[:, None, None]
    share = share or Share(0, len(pixels))
    views = []
    for section in sections:
        for _ in range(section.count):
            view = make_view(images, section, section.side_px or encoder.image_px, generator, share)
            views.append(((view - mean) / std).contiguous(memory_format=torch.channels_last))
    return views


def make_view(
    images: Tensor, section: ViewSection, side_px: int, generator: torch.Generator, share: Share
) -> Tensor:
    """Returns one view of each image (B, S, S, 3) of 0 to 1, as (B, 3, side_px, side_px) of 0 to 1."""
    count, device = len(images), images.device

    def coin(probability: float) -> Tensor:
        return share.take(torch.rand(share.whole, generator=generator) < probability, count)

    boxes = draw_boxes(share.whole, images.shape[1], section.crop_scale, section.crop_ratio, generator)
    view = crop(images, share.take(boxes, count).to(device), coin(section.flip).to(device), side_px)
    if section.jitter:
        strengths, order = _draw_jitter(share.whole, section, generator)
        view = jitter(view, share.take(strengths, count), share.take(order, count), coin(section.jitter))
    if section.grey:
        rows = _rows(coin(section.grey), device)
        view[rows] = to_grey(view[rows])
    if section.blur:
        low, high = section.blur_sigma
        sigma = share.take(torch.rand(share.whole, generator=generator) * (high - low) + low, count)
        chosen = coin(section.blur)
        if bool(chosen.any()):
            rows = _rows(chosen, device)
            view[rows] = blur(view[rows], sigma[chosen].to(device), kernel_px(side_px))
    if section.solarise:
        rows = _rows(coin(section.solarise), device)
        view[rows] = solarise(view[rows])
    return view


def _draw_jitter(count: int, section: ViewSection, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns (count, 4) strengths and (count, 4) orders of brightness, contrast, saturation and hue."""
    reach = torch.tensor([section.brightness, section.contrast, section.saturation, section.hue])
    strengths = (torch.rand(count, JITTER, generator=generator) * 2 - 1) * reach
    strengths[:, :3] = (strengths[:, :3] + 1).clamp(min=0)
    return strengths, torch.rand(count, JITTER, generator=generator).argsort(dim=1)


def _rows(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.nonzero()[:, 0].to(device, non_blocking=True)
