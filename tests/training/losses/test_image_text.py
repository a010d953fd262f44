import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.losses import clip_loss, siglip_loss, tiling


def unit(v: Tensor) -> Tensor:
    return v / math.sqrt(sum(float(x) ** 2 for x in v))


def clip_loss_by_hand(image: Tensor, text: Tensor, scale: float, groups: list[int]) -> float:
    """The equation of the docstring, one term at a time."""
    u, v = [unit(row) for row in image], [unit(row) for row in text]
    total, n = 0.0, len(u)
    for i in range(n):
        positives = [j for j in range(n) if groups[j] == groups[i]]
        for a, others in ((u[i], v), (v[i], u)):
            terms = [math.exp(scale * float(a @ other)) for other in others]
            total -= sum(math.log(terms[j] / sum(terms)) for j in positives) / len(positives)
    return total / (2 * n)


def siglip_loss_by_hand(image: Tensor, text: Tensor, scale: float, bias: float) -> float:
    u, v = [unit(row) for row in image], [unit(row) for row in text]
    total = 0.0
    for i in range(len(u)):
        for j in range(len(v)):
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * (scale * float(u[i] @ v[j]) + bias)))
    return total / len(u)


@pytest.mark.usefixtures("any_tiling")
@pytest.mark.parametrize("groups", [None, [0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 0, 1, 9], [0] * 7])
def test_clip_equals_the_equation(batch: Callable[..., Tensor], groups: list[int] | None) -> None:
    image, text = batch(7, 5), batch(7, 5, seed=1)
    found = clip_loss(image, text, torch.tensor(7.5), None if groups is None else torch.tensor(groups))
    expected = clip_loss_by_hand(image.detach(), text.detach(), 7.5, groups or list(range(7)))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("any_tiling")
def test_siglip_equals_the_equation(batch: Callable[..., Tensor]) -> None:
    image, text = batch(7, 5), batch(7, 5, seed=1)
    found = siglip_loss(image, text, torch.tensor(7.5), -3.0)
    expected = siglip_loss_by_hand(image.detach(), text.detach(), 7.5, -3.0)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2, 2]])
def test_clip_gradients(batch: Callable[..., Tensor], groups: list[int] | None) -> None:
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    chosen = None if groups is None else torch.tensor(groups)
    inputs = (batch(5, 3), batch(5, 3, seed=1), scale)
    assert torch.autograd.gradcheck(lambda i, t, s: clip_loss(i, t, s, chosen), inputs)


@pytest.mark.usefixtures("dense_and_tiled")
def test_siglip_gradients(batch: Callable[..., Tensor]) -> None:
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (4.0, -2.0))
    assert torch.autograd.gradcheck(siglip_loss, (batch(5, 3), batch(5, 3, seed=1), scale, bias))


def test_clip_gradients_equal_those_of_two_cross_entropies(batch: Callable[..., Tensor]) -> None:
    """What open_clip computes, for a batch of several tiles."""
    image, text = batch(50, 8), batch(50, 8, seed=1)
    scale = torch.tensor(30.0, dtype=torch.float64, requires_grad=True)
    logits = scale * F.normalize(image) @ F.normalize(text).T
    index = torch.arange(50)
    plain = (F.cross_entropy(logits, index) + F.cross_entropy(logits.T, index)) / 2
    with tiling(0, 16):
        tiled = clip_loss(image, text, scale)
    torch.testing.assert_close(tiled, plain, rtol=1e-12, atol=1e-12)
    found, expected = (torch.autograd.grad(loss, (image, text, scale)) for loss in (tiled, plain))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("dense_and_tiled")
def test_length_of_the_inputs_does_not_matter() -> None:
    image, text = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
    scale = torch.tensor(10.0)
    assert torch.allclose(clip_loss(image * 3, text / 7, scale), clip_loss(image, text, scale), atol=1e-6)
    assert torch.allclose(
        siglip_loss(image * 3, text / 7, scale, -1), siglip_loss(image, text, scale, -1), atol=1e-6
    )


@pytest.mark.usefixtures("dense_and_tiled")
def test_order_of_the_pairs_and_of_the_modalities_does_not_matter(batch: Callable[..., Tensor]) -> None:
    image, text, order = batch(7, 5), batch(7, 5, seed=1), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    groups = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    expected = clip_loss(image, text, 5.0, groups)
    torch.testing.assert_close(clip_loss(image[order], text[order], 5.0, groups[order]), expected)
    torch.testing.assert_close(clip_loss(text, image, 5.0, groups), expected)
    torch.testing.assert_close(
        siglip_loss(image[order], text[order], 5.0, -2.0), siglip_loss(text, image, 5.0, -2.0)
    )


@pytest.mark.usefixtures("dense_and_tiled")
def test_perfect_pairs_cost_nothing_and_two_groups_cost_their_entropy() -> None:
    eye = torch.eye(4)
    assert float(clip_loss(eye, eye, torch.tensor(100.0))) < 1e-6
    assert float(siglip_loss(eye, eye, 200.0, -100.0)) < 1e-6
    pairs = torch.eye(2).repeat_interleave(2, dim=0)  # two groups of two equal rows
    loss = clip_loss(pairs, pairs, torch.tensor(100.0), torch.tensor([0, 0, 1, 1]))
    assert float(loss) == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.usefixtures("dense_and_tiled")
def test_equal_vectors_cost_the_logarithm_of_their_number() -> None:
    ones = torch.ones(6, 3)
    assert float(clip_loss(ones, ones, 10.0)) == pytest.approx(math.log(6), abs=1e-5)
    assert float(siglip_loss(ones, ones, 10.0, -10.0)) == pytest.approx(6 * math.log(2), abs=1e-5)
