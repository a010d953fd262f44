"""Views of a batch as the configuration describes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nearlight.training.sections import EncoderSection, ViewSection
from nearlight.training.views.blur import blur, kernel_px
from nearlight.training.views.colour import JITTER, jitter, solarise, to_grey
from nearlight.training.views.crop import crop, draw_boxes
from nearlight.training.views.degrade import add_noise, cutout
from nearlight.training.views.edges import sobel
from nearlight.training.views.geometry import draw_knots, turn, warp
from nearlight.training.views.policies import Steps, apply_steps, draw_auto_augment, draw_rand_augment


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
    share = share or Share(0, len(pixels))
    views = []
    for section in sections:
        for _ in range(section.count):
            view = make_view(images, section, section.side_px or encoder.image_px, generator, share)
            views.append(normalised(view, encoder))
    return views


def normalised(view: Tensor, encoder: EncoderSection) -> Tensor:
    """Returns what an encoder takes of a view (B, 3, s, s) of 0 to 1; channels last in memory."""
    mean = torch.tensor(encoder.mean, device=view.device)[:, None, None]
    std = torch.tensor(encoder.std, device=view.device)[:, None, None]
    return ((view - mean) / std).contiguous(memory_format=torch.channels_last)


def make_view(
    images: Tensor, section: ViewSection, side_px: int, generator: torch.Generator, share: Share
) -> Tensor:
    """Returns one view of each image (B, S, S, 3) of 0 to 1, as (B, 3, side_px, side_px) of 0 to 1."""
    count, device = len(images), images.device

    def coin(probability: float) -> Tensor:
        return share.take(torch.rand(share.whole, generator=generator) < probability, count)

    boxes = draw_boxes(share.whole, images.shape[1], section.crop_scale, section.crop_ratio, generator)
    view = crop(images, share.take(boxes, count).to(device), coin(section.flip).to(device), side_px)
    if section.turn:
        quarters = share.take(torch.randint(1, 4, (share.whole,), generator=generator), count)
        view = turn(view, (quarters * coin(section.turn)).to(device))
    if section.policy != "none":
        view = apply_steps(view, _draw_steps(section, share, count, generator))
    if section.jitter:
        strengths, order = _draw_jitter(share.whole, section, generator)
        view = jitter(view, share.take(strengths, count), share.take(order, count), coin(section.jitter))
    if section.grey:
        rows = _rows(coin(section.grey), device)
        view[rows] = to_grey(view[rows])
    if section.warp:
        knots = share.take(draw_knots(share.whole, section.warp_reach * side_px, generator), count)
        view = _on(view, coin(section.warp), lambda part, at: warp(part, knots[at].to(part)))
    if section.blur:
        sigma = share.take(_uniform(share.whole, section.blur_sigma, generator), count)
        width = kernel_px(side_px)
        view = _on(view, coin(section.blur), lambda part, at: blur(part, sigma[at].to(device), width))
    if section.solarise:
        view = _on(view, coin(section.solarise), lambda part, at: solarise(part))
    return _degrade(view, section, share, generator) if _degrades(section) else view


def _degrades(section: ViewSection) -> bool:
    return bool(section.noise or section.sobel or section.cutout)


def _degrade(view: Tensor, section: ViewSection, share: Share, generator: torch.Generator) -> Tensor:
    """Returns the view with noise, as edges, and with a hole, each as often as the section says."""
    count, side_px = len(view), view.shape[-1]

    def coin(probability: float) -> Tensor:
        return share.take(torch.rand(share.whole, generator=generator) < probability, count)

    if section.noise:
        sigma = share.take(_uniform(share.whole, section.noise_sigma, generator), count)
        grain = share.take(torch.randn((share.whole, *view.shape[1:]), generator=generator), count)
        view = _on(view, coin(section.noise), lambda part, at: add_noise(part, sigma[at], grain[at]))
    if section.sobel:
        view = _on(view, coin(section.sobel), lambda part, at: sobel(part))
    if section.cutout:
        centre = share.take(torch.randint(side_px, (share.whole, 2), generator=generator), count).to(
            view.device
        )
        hole = max(round(section.cutout_side * side_px), 1)
        view = _on(view, coin(section.cutout), lambda part, at: cutout(part, centre[at], hole))
    return view


def _on(view: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Returns the view with the chosen images, (N,) bool on the CPU, changed in place.

    Args:
        view: (N, 3, S, S).
        chosen: which.
        change: of these images and their rows, on the CPU.
    """
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        at = rows.to(view.device, non_blocking=True)
        view[at] = change(view[at], rows)
    return view


def _uniform(count: int, reach: tuple[float, float], generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (reach[1] - reach[0]) + reach[0]


def _draw_steps(section: ViewSection, share: Share, count: int, generator: torch.Generator) -> Steps:
    if section.policy == "randaugment":
        drawn = draw_rand_augment(share.whole, section.policy_operations, section.policy_magnitude, generator)
    else:
        table = "imagenet" if section.policy == "autoaugment-imagenet" else "cifar10"
        drawn = draw_auto_augment(share.whole, table, generator)
    return Steps(*(share.take(part, count) for part in (drawn.kinds, drawn.strengths, drawn.signs)))


def _draw_jitter(count: int, section: ViewSection, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns (count, 4) strengths and (count, 4) orders of brightness, contrast, saturation and hue."""
    reach = torch.tensor([section.brightness, section.contrast, section.saturation, section.hue])
    strengths = (torch.rand(count, JITTER, generator=generator) * 2 - 1) * reach
    strengths[:, :3] = (strengths[:, :3] + 1).clamp(min=0)
    return strengths, torch.rand(count, JITTER, generator=generator).argsort(dim=1)


def _rows(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.nonzero()[:, 0].to(device, non_blocking=True)
