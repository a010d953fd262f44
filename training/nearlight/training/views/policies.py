"""RandAugment and AutoAugment in batches: each image draws its own operations, torchvision's tables."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from nearlight.training.views.colour import adjust_brightness, adjust_contrast, adjust_saturation
from nearlight.training.views.geometry import rotate, shear, translate
from nearlight.training.views.tone import (
    adjust_sharpness,
    auto_contrast,
    equalise,
    invert,
    posterise,
    solarise_from,
)

MOST_MAGNITUDE = 30  # RandAugment's magnitudes are 0 to 30


def _zero(amount: Tensor) -> Tensor:
    return torch.zeros_like(amount)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation and what a strength of 0 to 1 means for it."""

    apply: Callable[[Tensor, Tensor], Tensor]
    """Images (N, 3, S, S) and amounts (N,) → images."""
    amount: Callable[[Tensor, int], Tensor]
    """Strengths (N,) of 0 to 1 and the side in pixels → amounts."""
    signed: bool = False
    """Whether half of the amounts turn negative."""


def _linear(most: float) -> Callable[[Tensor, int], Tensor]:
    return lambda strength, side: strength * most


def _pixels(strength: Tensor, side: int) -> Tensor:
    return strength * (150 / 331 * side)


def _bits(strength: Tensor, side: int) -> Tensor:
    return (8 - 4 * strength).round()


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda x, a: x, _linear(0)),
    "ShearX": Operation(lambda x, a: shear(x, a, _zero(a)), _linear(0.3), signed=True),
    "ShearY": Operation(lambda x, a: shear(x, _zero(a), a), _linear(0.3), signed=True),
    "TranslateX": Operation(lambda x, a: translate(x, a.trunc(), _zero(a)), _pixels, signed=True),
    "TranslateY": Operation(lambda x, a: translate(x, _zero(a), a.trunc()), _pixels, signed=True),
    "Rotate": Operation(rotate, _linear(30), signed=True),
    "Brightness": Operation(lambda x, a: adjust_brightness(x, 1 + a), _linear(0.9), signed=True),
    "Color": Operation(lambda x, a: adjust_saturation(x, 1 + a), _linear(0.9), signed=True),
    "Contrast": Operation(lambda x, a: adjust_contrast(x, 1 + a), _linear(0.9), signed=True),
    "Sharpness": Operation(lambda x, a: adjust_sharpness(x, 1 + a), _linear(0.9), signed=True),
    "Posterize": Operation(lambda x, a: posterise(x, a.long()), _bits),
    "Solarize": Operation(solarise_from, lambda strength, side: 1 - strength),
    "AutoContrast": Operation(lambda x, a: auto_contrast(x), _linear(0)),
    "Equalize": Operation(lambda x, a: equalise(x), _linear(0)),
    "Invert": Operation(lambda x, a: invert(x), _linear(0)),
}
NAMES = list(OPERATIONS)
_RANDOM = len(NAMES) - 1  # RandAugment has all but Invert
_SIGNED = torch.tensor([o.signed for o in OPERATIONS.values()])


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done to each image, one operation after the other; all on the CPU."""

    kinds: Tensor
    """(N, K) int64 places in `NAMES`."""
    strengths: Tensor
    """(N, K) of 0 to 1."""
    signs: Tensor
    """(N, K) of -1 or 1."""


def draw_rand_augment(count: int, operations: int, magnitude: float, generator: torch.Generator) -> Steps:
    """Returns RandAugment's draw (Cubuk et al. 2020): so many operations of equal chance and magnitude.

    Args:
        count: images.
        operations: for each image.
        magnitude: 0 to 30.
        generator: on the CPU.
    """
    kinds = torch.randint(_RANDOM, (count, operations), generator=generator)
    return Steps(kinds, torch.full(kinds.shape, magnitude / MOST_MAGNITUDE), _signs(kinds, generator))


def draw_auto_augment(count: int, policy: str, generator: torch.Generator) -> Steps:
    """Returns AutoAugment's draw (Cubuk et al. 2019): one of 25 pairs of operations for each image.

    Args:
        count: images.
        policy: `cifar10`, `imagenet` or `svhn`.
        generator: on the CPU.
    """
    kinds, chances, strengths = _table(policy)
    chosen = torch.randint(len(kinds), (count,), generator=generator)
    done = torch.rand(count, 2, generator=generator) <= chances[chosen]
    kind = torch.where(done, kinds[chosen], NAMES.index("Identity"))
    return Steps(kind, strengths[chosen], _signs(kind, generator))


def apply_steps(images: Tensor, steps: Steps) -> Tensor:
    """Returns images (N, 3, S, S) of 0 to 1 after their steps."""
    images = images.clone()
    for place in range(steps.kinds.shape[1]):
        for kind in torch.unique(steps.kinds[:, place]).tolist():
            operation = OPERATIONS[NAMES[kind]]
            rows = (steps.kinds[:, place] == kind).nonzero()[:, 0]
            amount = operation.amount(steps.strengths[rows, place], images.shape[-1])
            amount = amount * steps.signs[rows, place]
            at = rows.to(images.device, non_blocking=True)
            images[at] = operation.apply(images[at], amount.to(images.device, non_blocking=True))
    return images


def _signs(kinds: Tensor, generator: torch.Generator) -> Tensor:
    negative = (torch.rand(kinds.shape, generator=generator) <= 0.5) & _SIGNED[kinds]
    return torch.where(negative, -1.0, 1.0)


@cache
def _table(policy: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns kinds, chances and strengths, (25, 2) each, of a published policy: torchvision's tables."""
    pairs = AutoAugment(AutoAugmentPolicy(policy)).policies
    kinds = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in pairs])
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
    strengths = torch.tensor([[(level or 0) / 9 for _, _, level in pair] for pair in pairs])
    return kinds, chances, strengths
