import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.losses import nt_xent, supcon, tiling

LABELS = [0, 1, 0, 2, 0, 1, 0]  # four, two and one of a class
Variant = Literal["out", "in"]


def positives(labels: list[int], i: int, cap: int | None) -> list[int]:
    """The rows after i with its label, beginning again at the first."""
    n = len(labels)
    return [j % n for j in range(i + 1, i + n) if labels[j % n] == labels[i]][:cap]


def supcon_by_hand(z: Tensor, labels: list[int], t: float, variant: str, cap: int | None) -> float:
    """The equations of the docstring, one term at a time."""
    u = [row / math.sqrt(sum(float(x) ** 2 for x in row)) for row in z]
    losses = []
    for i in range(len(u)):
        terms = {a: math.exp(float(u[i] @ u[a]) / t) for a in range(len(u)) if a != i}
        shares = [terms[p] / sum(terms.values()) for p in positives(labels, i, cap)]
        if not shares:
            continue
        if variant == "out":
            losses.append(-sum(math.log(share) for share in shares) / len(shares))
        else:
            losses.append(-math.log(sum(shares) / len(shares)))
    return sum(losses) / len(losses)


@pytest.mark.usefixtures("any_tiling")
@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("cap", [None, 1, 2, 50])
def test_equals_the_equation(batch: Callable[..., Tensor], variant: Variant, cap: int | None) -> None:
    z = batch(7, 5).detach()
    expected = supcon_by_hand(z, LABELS, 0.2, variant, cap)
    assert float(supcon(z, torch.tensor(LABELS), 0.2, variant, cap)) == pytest.approx(expected, rel=1e-9)


def test_variants_and_caps_differ(batch: Callable[..., Tensor]) -> None:
    """Or the test above could not tell them apart."""
    z, labels = batch(7, 5).detach(), torch.tensor(LABELS)
    found = {float(supcon(z, labels, 0.2, v, cap)) for v in ("out", "in") for cap in (None, 2)}
    assert len(found) == 4


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("variant", ["out", "in"])
@pytest.mark.parametrize("cap", [None, 2])
def test_gradients(batch: Callable[..., Tensor], variant: Variant, cap: int | None) -> None:
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(
        lambda z, t: supcon(z, labels, t, variant, cap), (batch(7, 3), temperature)
    )


def weight_of(u: Tensor, i: int, a: int, labels: list[int], t: float, variant: str) -> float:
    """P_ia - X_ia for a positive a of anchor i, P_ia for a negative."""
    shares = {b: math.exp(float(u[i] @ u[b]) / t) for b in range(len(u)) if b != i}
    same = [b for b in shares if labels[b] == labels[i]]
    weight = shares[a] / sum(shares.values())
    if a not in same:
        return weight
    return weight - (shares[a] / sum(shares[p] for p in same) if variant == "in" else 1 / len(same))


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("variant", ["out", "in"])
def test_gradient_is_the_closed_form(batch: Callable[..., Tensor], variant: Variant) -> None:
    """Khosla et al.: dL_i/dz_i = (Σ_p z_p (P_ip - X_ip) + Σ_n z_n P_in) / τ.

    z_a is a key of L_i too, with the same weight: dL_i/dz_a = z_i (P_ia - X_ia) / τ.
    """
    t = 0.3
    u = F.normalize(batch(7, 5).detach())
    anchors = [i for i in range(7) if LABELS.count(LABELS[i]) > 1]
    expected = torch.zeros_like(u)
    for i in anchors:
        for a in range(7):
            if a != i:
                weight = weight_of(u, i, a, LABELS, t, variant) / t / len(anchors)
                expected[i] += weight * u[a]
                expected[a] += weight * u[i]
    # dL/dw for z = w / |w|, at |w| = 1: only what is tangent to the sphere gets through.
    expected -= (expected * u).sum(dim=1, keepdim=True) * u
    leaf = u.clone().requires_grad_()
    supcon(leaf, torch.tensor(LABELS), t, variant).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("variant", ["out", "in"])
def test_two_views_of_each_image_are_nt_xent(batch: Callable[..., Tensor], variant: Variant) -> None:
    z1, z2 = batch(5, 4), batch(5, 4, seed=1)
    labels = torch.arange(5).repeat(2)
    torch.testing.assert_close(supcon(torch.cat([z1, z2]), labels, 0.2, variant), nt_xent(z1, z2, 0.2))


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("cap", [None, 2])
@pytest.mark.parametrize("variant", ["out", "in"])
def test_a_lonely_row_is_a_negative_but_no_anchor(
    batch: Callable[..., Tensor], variant: Variant, cap: int | None
) -> None:
    z = batch(7, 5)
    labels = torch.tensor(LABELS)
    alone = LABELS.index(2)
    supcon(z, labels, 0.2, variant, cap).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert float(z.grad[alone].abs().max()) > 0
    # Many rows more without a positive, far from all: the mean does not dilute.
    far = torch.cat([torch.cat([z.detach(), torch.zeros(7, 3)], 1), torch.zeros(3, 8)])
    far[7:, 5:] = torch.eye(3)
    wide = supcon(far, torch.tensor([*LABELS, 7, 8, 9]), 0.02, variant, cap)
    narrow = supcon(z, labels, 0.02, variant, cap)
    assert float(wide.detach()) == pytest.approx(float(narrow.detach()), rel=0.02)


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("cap", [None, 2])
@pytest.mark.parametrize("variant", ["out", "in"])
def test_no_positives_at_all_cost_nothing(
    batch: Callable[..., Tensor], variant: Variant, cap: int | None
) -> None:
    z = batch(5, 4)
    loss = supcon(z, torch.arange(5), 0.2, variant, cap)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("variant", ["out", "in"])
def test_order_names_of_labels_and_lengths_do_not_matter(
    batch: Callable[..., Tensor], variant: Variant
) -> None:
    z, labels, order = batch(7, 5), torch.tensor(LABELS), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    expected = supcon(z, labels, 0.2, variant)
    torch.testing.assert_close(supcon(z[order], labels[order], 0.2, variant), expected)
    torch.testing.assert_close(supcon(z * 5, labels * -100 + 3, 0.2, variant), expected)


def test_in_is_never_above_out(batch: Callable[..., Tensor]) -> None:
    """Jensen: the logarithm of a mean is at least the mean of logarithms."""
    for seed in range(5):
        z, labels = batch(7, 5, seed=seed), torch.tensor(LABELS)
        with tiling(0, 3):
            assert float(supcon(z, labels, 0.2, "in").detach()) <= float(supcon(z, labels, 0.2).detach())
