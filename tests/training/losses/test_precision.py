"""Half precision and autocast: the inputs are rounded, the loss is not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import (
    byol_loss,
    clip_loss,
    dino_loss,
    info_nce,
    instance_nce,
    max_margin,
    n_pairs,
    nt_xent,
    siglip_loss,
    simsiam_loss,
    supcon,
    tiling,
    triplet,
)

LABELS = torch.arange(32) % 5
SAME = LABELS == 2
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "byol": byol_loss,
    "clip": lambda a, b: clip_loss(a, b, 50.0),
    "clip-groups": lambda a, b: clip_loss(a, b, 50.0, LABELS),
    "dino": lambda a, b: dino_loss(a.reshape(2, 16, -1), b.reshape(2, 16, -1), b[0], 0.1, 0.04),
    "info-nce": lambda a, b: info_nce(a, b, 0.02),
    "info-nce-queue": lambda a, b: info_nce(a[:9], b[:9], 0.02, b[9:]),
    "instance": lambda a, b: instance_nce(a, LABELS, b, 0.02),
    "instance-nce": lambda a, b: instance_nce(a, LABELS, b, 0.1, LABELS[:, None], 40.0),
    "max-margin": lambda a, b: max_margin(a, b, SAME, 30.0),
    "n-pairs": lambda a, b: n_pairs(a / 4, b / 4),
    "nt-xent": lambda a, b: nt_xent(a, b, 0.02),
    "siglip": lambda a, b: siglip_loss(a, b, 50.0, -10.0),
    "simsiam": simsiam_loss,
    "supcon-in": lambda a, b: supcon(a, LABELS, 0.02, "in"),
    "supcon-out": lambda a, b: supcon(a, LABELS, 0.02),
    "triplet": lambda a, b: triplet(a, LABELS, 0.5),
}


def pair(seed: int = 3) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(seed))
    return a, b


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_is_the_float64_loss_of_the_rounded_inputs(name: str, dtype: torch.dtype) -> None:
    """Value within 1e-5; gradient, which has the dtype of its input, within that dtype's last bit."""
    loss = LOSSES[name]
    a, b = (x.to(dtype).requires_grad_() for x in pair())
    exact_a, exact_b = (x.detach().double().requires_grad_() for x in (a, b))
    found, exact = loss(a, b), loss(exact_a, exact_b)
    assert found.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert float(found.detach()) == pytest.approx(float(exact.detach()), rel=1e-5, abs=1e-6)
    (gradient,), (expected,) = torch.autograd.grad(found, a), torch.autograd.grad(exact, exact_a)
    assert gradient.dtype == dtype
    bound = max(torch.finfo(dtype).eps, 2e-5) * float(expected.abs().max())
    # Gradients of float16 below 6e-5 have fewer bits: the distance of two such numbers.
    bound += torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert float((gradient.double() - expected).abs().max()) <= bound


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["clip", "nt-xent", "info-nce", "supcon-out", "siglip"])
def test_rounding_the_inputs_costs_no_more_than_it_must(name: str, dtype: torch.dtype) -> None:
    # Rounding to u = eps / 2 turns a vector by at most u, moves a logit by at most 2 u s and the
    # difference of two logits, which is what a softmax loss is made of, by at most 4 u s.
    a, b = pair()
    moved = abs(float(LOSSES[name](a.to(dtype), b.to(dtype))) - float(LOSSES[name](a, b)))
    bound = 4 * torch.finfo(dtype).eps / 2 * 50
    assert moved <= bound * (32 if name == "siglip" else 1)  # siglip adds up 32 pairs a row


SOLVED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{name: LOSSES[name] for name in ("clip", "info-nce", "info-nce-queue", "nt-xent")},
    "n-pairs": n_pairs,
    "siglip": lambda a, b: siglip_loss(a, b, 100.0, -65.0),
}


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("name", SOLVED)
def test_pairs_that_are_told_apart_keep_the_digits_of_their_gradient(name: str) -> None:
    """Where the loss is near 0, sums that hold the positive lose them: what is left of 1 - p is rounding."""
    a, noise = pair()
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = a.detach().clone().to(dtype).requires_grad_()
        loss = SOLVED[name](leaf, (a + noise / 3).to(dtype))
        assert float(loss.detach()) < 1e-5
        gradients.append(torch.autograd.grad(loss, leaf)[0].double())
    found, exact = gradients
    assert float((found - exact).abs().max()) <= 3e-5 * float(exact.abs().max())


@pytest.mark.usefixtures("dense_and_tiled")
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(name: str) -> None:
    """Neither of the loss nor, with backward() inside it too, of the gradients."""
    results = []
    for enabled in (False, True):
        a, b = (x.requires_grad_() for x in pair())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = LOSSES[name](a, b)
        loss.backward()  # type: ignore[no-untyped-call]
        results.append((loss.detach(), a.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_the_tiled_backward_is_outside_autocast_itself() -> None:
    gradients = []
    for enabled in (False, True):
        a, b = (x.requires_grad_() for x in pair())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), tiling(0, 8):
            (clip_loss(a, b, 50.0) + siglip_loss(a, b, 50.0, -10.0)).backward()  # type: ignore[no-untyped-call]
        gradients.append(a.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


def test_tensors_of_two_dtypes_are_taken_together() -> None:
    a, b = pair()
    torch.testing.assert_close(nt_xent(a.bfloat16(), b, 0.1), nt_xent(a.bfloat16().float(), b, 0.1))
    assert nt_xent(a.double(), b, 0.1).dtype == torch.float64
