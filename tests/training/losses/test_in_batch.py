import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import clip_loss, info_nce, n_pairs, nt_xent


def unit(v: Tensor) -> Tensor:
    return v / math.sqrt(sum(float(x) ** 2 for x in v))


def nt_xent_by_hand(z1: Tensor, z2: Tensor, temperature: float) -> float:
    """The equation of the docstring, one term at a time."""
    z, n = [unit(row) for row in (*z1, *z2)], len(z1)
    total = 0.0
    for i in range(2 * n):
        terms = {k: math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i}
        total -= math.log(terms[(i + n) % (2 * n)] / sum(terms.values()))
    return total / (2 * n)


def info_nce_by_hand(query: Tensor, key: Tensor, temperature: float, queue: Tensor | None) -> float:
    q, k = [unit(row) for row in query], [unit(row) for row in key]
    total = 0.0
    for i in range(len(q)):
        candidates = k if queue is None else [k[i], *(unit(row) for row in queue)]
        terms = [math.exp(float(q[i] @ c) / temperature) for c in candidates]
        total -= math.log(terms[i if queue is None else 0] / sum(terms))
    return total / len(q)


def n_pairs_by_hand(anchor: Tensor, positive: Tensor) -> float:
    total, n = 0.0, len(anchor)
    for i in range(n):
        own = float(anchor[i] @ positive[i])
        others = [math.exp(float(anchor[i] @ positive[j]) - own) for j in range(n) if j != i]
        total += math.log(1 + sum(others))
    return total / n


@pytest.mark.usefixtures("any_tiling")
def test_nt_xent_equals_the_equation(batch: Callable[..., Tensor]) -> None:
    z1, z2 = batch(7, 5).detach(), batch(7, 5, seed=1).detach()
    assert float(nt_xent(z1, z2, 0.2)) == pytest.approx(nt_xent_by_hand(z1, z2, 0.2), rel=1e-9)


@pytest.mark.usefixtures("any_tiling")
@pytest.mark.parametrize("queued", [None, 1, 10])
def test_info_nce_equals_the_equation(batch: Callable[..., Tensor], queued: int | None) -> None:
    query, key = batch(7, 5).detach(), batch(7, 5, seed=1).detach()
    queue = None if queued is None else batch(queued, 5, seed=2).detach()
    expected = info_nce_by_hand(query, key, 0.2, queue)
    assert float(info_nce(query, key, 0.2, queue)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("any_tiling")
def test_n_pairs_equals_the_equation(batch: Callable[..., Tensor]) -> None:
    anchor, positive = batch(7, 5).detach(), batch(7, 5, seed=1).detach()
    assert float(n_pairs(anchor, positive)) == pytest.approx(n_pairs_by_hand(anchor, positive), rel=1e-9)


@pytest.mark.usefixtures("dense_and_tiled")
def test_gradients(batch: Callable[..., Tensor]) -> None:
    a, b, queue = batch(5, 3), batch(5, 3, seed=1), batch(8, 3, seed=2)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nt_xent, (a, b, temperature))
    assert torch.autograd.gradcheck(info_nce, (a, b, temperature))
    assert torch.autograd.gradcheck(info_nce, (a, b, temperature, queue))
    assert torch.autograd.gradcheck(n_pairs, (a, b))


@pytest.mark.usefixtures("dense_and_tiled")
def test_orthogonal_pairs_of_equal_views() -> None:
    """Each anchor sees its other view at cosine 1 and 2N - 2 others at 0."""
    eye = torch.eye(5)
    assert float(nt_xent(eye, eye, 0.5)) == pytest.approx(math.log(1 + 8 * math.exp(-2)), rel=1e-6)
    assert float(info_nce(eye, eye, 0.5)) == pytest.approx(math.log(1 + 4 * math.exp(-2)), rel=1e-6)
    assert float(n_pairs(eye, eye)) == pytest.approx(math.log(1 + 4 * math.exp(-1)), rel=1e-6)


@pytest.mark.usefixtures("dense_and_tiled")
def test_equal_vectors_cost_the_logarithm_of_the_choices() -> None:
    ones = torch.ones(5, 3)
    assert float(nt_xent(ones, ones, 0.1)) == pytest.approx(math.log(9), abs=1e-5)
    assert float(info_nce(ones, ones, 0.1, torch.ones(15, 3))) == pytest.approx(math.log(16), abs=1e-5)


@pytest.mark.usefixtures("dense_and_tiled")
def test_low_temperature_neither_overflows_nor_underflows() -> None:
    """exp(1 / 0.001) is beyond float64; losses without a maximum taken out give inf here."""
    z1, z2 = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    for loss in (nt_xent(z1, z2, 1e-3), info_nce(z1, z2, 1e-3), info_nce(z1, z2, 1e-3, z2)):
        assert 0 < float(loss) < 2001


@pytest.mark.usefixtures("dense_and_tiled")
def test_order_and_lengths_do_not_matter(batch: Callable[..., Tensor]) -> None:
    z1, z2, order = batch(7, 5), batch(7, 5, seed=1), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    expected = nt_xent(z1, z2, 0.2)
    torch.testing.assert_close(nt_xent(z2, z1, 0.2), expected)
    torch.testing.assert_close(nt_xent(z1[order], z2[order], 0.2), expected)
    torch.testing.assert_close(nt_xent(z1 * 9, z2 / 9, 0.2), expected)
    queue = batch(9, 5, seed=2)
    torch.testing.assert_close(info_nce(z1, z2, 0.2, queue.flip(0) * 3), info_nce(z1, z2, 0.2, queue))
    torch.testing.assert_close(n_pairs(z1[order], z2[order]), n_pairs(z1, z2))


def test_both_directions_of_info_nce_are_clip(batch: Callable[..., Tensor]) -> None:
    a, b = batch(7, 5), batch(7, 5, seed=1)
    torch.testing.assert_close((info_nce(a, b, 0.25) + info_nce(b, a, 0.25)) / 2, clip_loss(a, b, 4.0))


def test_other_keys_of_the_batch_are_no_negatives_beside_a_queue(batch: Callable[..., Tensor]) -> None:
    """MoCo: what the loss of one query sees is its own key and the queue."""
    query, key, queue = batch(4, 5), batch(4, 5, seed=1), batch(9, 5, seed=2)
    each = [info_nce(query[i : i + 1], key[i : i + 1], 0.2, queue) for i in range(4)]
    torch.testing.assert_close(info_nce(query, key, 0.2, queue), torch.stack(each).mean())
