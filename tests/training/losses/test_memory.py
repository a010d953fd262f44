import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import instance_constant, instance_nce

INDEX = torch.tensor([8, 0, 3, 3])
NEGATIVES = torch.tensor([[0, 1, 8], [5, 5, 2], [3, 7, 1], [4, 6, 2]])


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def softmax_by_hand(z: Tensor, bank: Tensor, t: float) -> float:
    total = 0.0
    for row, i in zip(z, INDEX.tolist(), strict=True):
        terms = [math.exp(cosine(row, stored) / t) for stored in bank]
        total -= math.log(terms[i] / sum(terms))
    return total / len(z)


def nce_by_hand(z: Tensor, bank: Tensor, t: float, constant: float) -> float:
    """The equation of the docstring, one term at a time."""
    n, m, total = len(bank), NEGATIVES.shape[1], 0.0
    for i, row in enumerate(z):

        def h(j: int, row: Tensor = row) -> float:
            p = math.exp(cosine(row, bank[j]) / t) / constant
            return p / (p + m / n)

        total -= math.log(h(int(INDEX[i]))) + sum(math.log(1 - h(j)) for j in NEGATIVES[i].tolist())
    return total / len(z)


@pytest.mark.usefixtures("any_tiling")
def test_full_softmax_equals_the_equation(batch: Callable[..., Tensor]) -> None:
    z, bank = batch(4, 5).detach(), batch(9, 5, seed=1).detach()
    assert float(instance_nce(z, INDEX, bank, 0.2)) == pytest.approx(softmax_by_hand(z, bank, 0.2), rel=1e-9)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_nce_equals_the_equation(batch: Callable[..., Tensor], as_tensor: bool) -> None:
    z, bank = batch(4, 5).detach(), batch(9, 5, seed=1).detach()
    constant = torch.tensor(31.0, dtype=torch.float64) if as_tensor else 31.0
    found = instance_nce(z, INDEX, bank, 0.2, NEGATIVES, constant)
    assert float(found) == pytest.approx(nce_by_hand(z, bank, 0.2, 31.0), rel=1e-9)


@pytest.mark.usefixtures("dense_and_tiled")
def test_gradients(batch: Callable[..., Tensor]) -> None:
    z, bank = batch(4, 3), batch(9, 3, seed=1)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, t: instance_nce(v, INDEX, bank.detach(), t), (z, temperature))
    assert torch.autograd.gradcheck(
        lambda v, t: instance_nce(v, INDEX, bank.detach(), t, NEGATIVES, 31.0), (z, temperature)
    )


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("negatives", [None, NEGATIVES])
def test_the_bank_gets_no_gradient(batch: Callable[..., Tensor], negatives: Tensor | None) -> None:
    z, bank = batch(4, 3), batch(9, 3, seed=1)
    constant = None if negatives is None else 5.0
    instance_nce(z, INDEX, bank, 0.4, negatives, constant).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert bank.grad is None


def test_constant_is_the_mean_of_the_sums(batch: Callable[..., Tensor]) -> None:
    z, bank = batch(4, 5), batch(9, 5, seed=1)
    terms = [
        math.exp(cosine(z[i].detach(), bank[j].detach()) / 0.2)
        for i in range(4)
        for j in NEGATIVES[i].tolist()
    ]
    found = instance_constant(z, bank, 0.2, NEGATIVES)
    assert not found.requires_grad
    assert float(found) == pytest.approx(9 * sum(terms) / len(terms), rel=1e-9)


def test_nce_approaches_the_gradient_of_the_softmax(batch: Callable[..., Tensor]) -> None:
    """With Z the true sum and many negatives (Gutmann and Hyvärinen 2010): the seeds' claim."""
    z, bank = batch(1, 3), batch(9, 3, seed=1)
    sums = (torch.nn.functional.normalize(z) @ torch.nn.functional.normalize(bank).T / 0.5).exp().sum()
    negatives = torch.arange(9).repeat(2000)[None, :]  # each as often as chance would have it
    index = torch.tensor([4])
    nce = instance_nce(z, index, bank, 0.5, negatives, sums.detach())
    full = instance_nce(z, index, bank, 0.5)
    (found,), (expected,) = (torch.autograd.grad(loss, z) for loss in (nce, full))
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-4)


def test_extreme_logits_stay_finite() -> None:
    """The published code adds 1e-7 under the logarithm; a softplus needs no such help."""
    bank = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    for z in (bank[:1], bank[1:]):
        loss = instance_nce(z, torch.tensor([0]), bank, 0.005, torch.tensor([[0, 1]]), 1.0)
        assert loss.isfinite()
