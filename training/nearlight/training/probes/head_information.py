"""What the features h know and the projection g(h) has forgotten: colour, rotation, corruption, edges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nearlight.training.errors import ConfigError
from nearlight.training.probes.corruptions import corrupt
from nearlight.training.probes.linear import fit_best
from nearlight.training.probes.probed import Answer, Limits, Probed, Task
from nearlight.training.probes.transfer import top1
from nearlight.training.sources import Source, open_source
from nearlight.training.views.colour import to_grey
from nearlight.training.views.edges import sobel

MOST, GREY_SHARE, SEVERITY = 10_000, 0.2, 3


@dataclass(frozen=True, slots=True)
class Quiz:
    """What was done to an image, to be told from its vector."""

    make: Callable[[Tensor, Tensor], Tensor]
    """Images (N, S, S, 3) uint8 and answers (N,) → changed images."""
    shares: tuple[float, ...]
    """How often each answer is right; the largest is chance."""


def head_information(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    """Returns how well a linear probe tells from h and from g(h) what was done to an image.

    Raises:
        ConfigError: the run has no head, or its head gives logits of classes.
    """
    if probed.head is None or probed.is_classifier:
        raise ConfigError(
            f"--task head-information compares an encoder with its projection head; a run of "
            f"{probed.config.method} has none"
        )
    train = open_source(known[0], words=False) if known else source
    bank = probed.features.pixels_of(train, Limits(MOST, seed=limits.seed).rows(train))
    test = probed.features.pixels_of(source, limits.rows(source))
    figures: dict[str, float] = {}
    for name, quiz in QUIZZES.items():
        generator = torch.Generator().manual_seed(limits.seed)
        asked = [_ask(probed, quiz, pixels, generator) for pixels in (bank, test)]
        for place, layer in enumerate(("h", "g(h)")):
            (x, y), (query, truth) = ((vectors[place], answers) for vectors, answers in asked)
            fitted, _ = fit_best(x, y, len(quiz.shares), limits.seed)
            figures[f"{name}_{layer}"] = top1(fitted.logits(query).argmax(dim=1), truth)
        figures[f"{name}_chance"] = 100 * max(quiz.shares)
    return Answer({**figures, "images": float(len(test)), "bank": float(len(bank))})


@torch.no_grad()
def _ask(
    probed: Probed, quiz: Quiz, pixels: Tensor, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Returns (N, D) h and (N, P) g(h) of changed images, and (N,) what was done to them."""
    answers = torch.multinomial(torch.tensor(quiz.shares), len(pixels), True, generator=generator)
    h = probed.features.of_pixels(quiz.make(pixels, answers))
    assert probed.head is not None
    device = next(probed.head.parameters()).device
    g = torch.cat([probed.head(part.to(device)).float().cpu() for part in torch.split(h, 1024)])
    return (h, g), answers


def _turned(pixels: Tensor, answers: Tensor) -> Tensor:
    made = pixels.clone()
    for quarter in (1, 2, 3):
        made[answers == quarter] = pixels[answers == quarter].rot90(quarter, (1, 2))
    return made


def _changed(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a quiz's `make` that changes images of (n, S, S, 3) whose answer is 1."""

    def make(pixels: Tensor, answers: Tensor) -> Tensor:
        made = pixels.clone()
        made[answers == 1] = change(pixels[answers == 1])
        return made

    return make


def _as_floats(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def change(pixels: Tensor) -> Tensor:
        images = operation(pixels.permute(0, 3, 1, 2).float() / 255)
        return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    return change


QUIZZES = {
    "colour_or_grey": Quiz(_changed(_as_floats(to_grey)), (1 - GREY_SHARE, GREY_SHARE)),
    "rotation": Quiz(_turned, (0.25, 0.25, 0.25, 0.25)),
    "original_or_corrupted": Quiz(
        _changed(lambda pixels: corrupt(pixels, "gaussian_noise", SEVERITY)), (0.5, 0.5)
    ),
    "original_or_sobel": Quiz(_changed(_as_floats(sobel)), (0.5, 0.5)),
}

HEAD_INFORMATION = Task(
    "a linear probe (see `linear`) on features before the head (h) and on the projection (g(h)) that tells "
    f"what was done to an image: grey in {GREY_SHARE:.0%} of them, turned by 0, 90, 180 or 270 degrees, "
    f"Gaussian noise of severity {SEVERITY} in half, Sobel edges in half (Chen et al. 2020, table 3); fitted "
    f"on at most {MOST:,} images",
    head_information,
)
