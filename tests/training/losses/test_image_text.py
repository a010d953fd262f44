import math

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import clip_loss


def clip_loss_by_hand(image: Tensor, text: Tensor, scale: float, groups: list[int]) -> float:
    """The equation of the docstring, one term at a time."""

    def unit(v: Tensor) -> Tensor:
        return v / math.sqrt(sum(float(x) ** 2 for x in v))

    u, v = [unit(row) for row in image], [unit(row) for row in text]
    total, n = 0.0, len(u)
    for i in range(n):
        positives = [j for j in range(n) if groups[j] == groups[i]]
        for a, others in ((u[i], v), (v[i], u)):
            terms = [math.exp(scale * float(a @ other)) for other in others]
            total -= sum(math.log(terms[j] / sum(terms)) for j in positives) / len(positives)
    return total / (2 * n)


@pytest.mark.parametrize("groups", [None, [0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 0, 1], [0] * 6])
def test_equals_the_equation(groups: list[int] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    found = clip_loss(image, text, torch.tensor(7.5), None if groups is None else torch.tensor(groups))
    assert float(found) == pytest.approx(
        clip_loss_by_hand(image, text, 7.5, groups or list(range(6))), rel=1e-9
    )


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2]])
def test_gradients_in_float64(groups: list[int] | None) -> None:
    generator = torch.Generator().manual_seed(1)
    image, text = (
        torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    chosen = None if groups is None else torch.tensor(groups)
    assert torch.autograd.gradcheck(lambda i, t, s: clip_loss(i, t, s, chosen), (image, text, scale))


def test_length_of_the_inputs_does_not_matter() -> None:
    image, text = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
    scale = torch.tensor(10.0)
    assert torch.allclose(clip_loss(image * 3, text / 7, scale), clip_loss(image, text, scale), atol=1e-6)


def test_perfect_pairs_cost_nothing_and_two_groups_cost_their_entropy() -> None:
    eye = torch.eye(4)
    assert float(clip_loss(eye, eye, torch.tensor(100.0))) < 1e-6
    pairs = torch.eye(2).repeat_interleave(2, dim=0)  # two groups of two equal rows
    loss = clip_loss(pairs, pairs, torch.tensor(100.0), torch.tensor([0, 0, 1, 1]))
    assert float(loss) == pytest.approx(math.log(2), abs=1e-5)


def test_half_precision_inputs_are_scored_in_float32() -> None:
    image, text = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(3))
    exact = clip_loss(image, text, torch.tensor(50.0))
    halved = clip_loss(image.bfloat16(), text.bfloat16(), torch.tensor(50.0))
    assert halved.dtype == torch.float32
    assert float(halved) == pytest.approx(float(exact), rel=0.02)


def test_holds_under_autocast() -> None:
    image, text = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(3))
    exact = clip_loss(image, text, torch.tensor(50.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = clip_loss(image, text, torch.tensor(50.0))
    assert float(found) == pytest.approx(float(exact), rel=1e-6)
