import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import max_margin, triplet
from nearlight.training.losses.margin import Mining

LABELS = [0, 1, 0, 2, 0, 1, 0, 3]  # two rows without a positive
DETERMINISTIC: list[Mining] = ["all", "batch-hard", "semi-hard"]


def squared(a: Tensor, b: Tensor) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def triplet_by_hand(z: Tensor, labels: list[int], margin: float, mining: str) -> float:
    """The mean over the triplets that the docstring names, found one by one."""
    n = range(len(z))
    d = [[squared(a, b) for b in z] for a in z]
    costs = []
    for a in n:
        same = [p for p in n if p != a and labels[p] == labels[a]]
        other = [q for q in n if labels[q] != labels[a]]
        if not same or not other:
            continue
        if mining == "all":
            costs += [d[a][p] - d[a][q] + margin for p, q in itertools.product(same, other)]
        elif mining == "batch-hard":
            costs.append(max(d[a][p] for p in same) - min(d[a][q] for q in other) + margin)
        else:
            for p in same:
                farther = [d[a][q] for q in other if d[a][q] > d[a][p]]
                costs.append(d[a][p] - (min(farther) if farther else max(d[a][q] for q in other)) + margin)
    return sum(max(0.0, cost) for cost in costs) / len(costs)


@pytest.mark.parametrize("mining", DETERMINISTIC)
@pytest.mark.parametrize("margin", [0.0, 0.5, 20.0])
def test_equals_the_triplets_one_by_one(batch: Callable[..., Tensor], mining: Mining, margin: float) -> None:
    for seed in range(5):
        z = batch(8, 3, seed=seed).detach()
        expected = triplet_by_hand(z, LABELS, margin, mining)
        assert float(triplet(z, torch.tensor(LABELS), margin, mining)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mining", [*DETERMINISTIC, "distance-weighted"])
def test_gradients(batch: Callable[..., Tensor], mining: Mining) -> None:
    labels = torch.tensor(LABELS)

    def loss(z: Tensor) -> Tensor:
        return triplet(z, labels, 0.7, mining, torch.Generator().manual_seed(3))

    assert torch.autograd.gradcheck(loss, (batch(8, 3),))


@pytest.mark.parametrize("mining", [*DETERMINISTIC, "distance-weighted"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]])
def test_a_batch_without_triplets_costs_nothing(
    batch: Callable[..., Tensor], mining: Mining, labels: list[int]
) -> None:
    z = batch(4, 3)
    loss = triplet(z, torch.tensor(labels), 0.5, mining)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize("mining", [*DETERMINISTIC, "distance-weighted"])
def test_equal_vectors_cost_the_margin_and_have_finite_gradients(mining: Mining) -> None:
    z = torch.ones(6, 4, requires_grad=True)
    loss = triplet(z, torch.tensor([0, 0, 1, 1, 2, 2]), 0.3, mining)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0.3)
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("mining", DETERMINISTIC)
def test_order_does_not_matter_but_length_does(batch: Callable[..., Tensor], mining: Mining) -> None:
    z, labels, order = batch(8, 3), torch.tensor(LABELS), torch.tensor([3, 0, 6, 2, 5, 1, 4, 7])
    expected = triplet(z, labels, 0.5, mining)
    torch.testing.assert_close(triplet(z[order], labels[order], 0.5, mining), expected)
    assert abs(float((triplet(2 * z, labels, 0.5, mining) - expected).detach())) > 0.1


def test_near_vectors_keep_their_distances() -> None:
    """|a|² + |b|² - 2ab would round these distances of 1e-6 to 0 or to noise."""
    z = torch.tensor([[30.0, 40.0], [30.0, 40.001], [30.001, 40.0], [30.001, 40.001]])
    expected = triplet_by_hand(z, [0, 0, 1, 1], 0.0, "all")
    assert float(triplet(z, torch.tensor([0, 0, 1, 1]), 0.0, "all")) == pytest.approx(expected, rel=1e-3)


def test_distance_weighted_draws_as_the_density_says() -> None:
    """One anchor and positive, three negatives at known distances of the sphere in four dimensions."""
    angles = torch.tensor([0.0, 0.1, 0.2, 0.8, 1.2, 2.5], dtype=torch.float64)
    z = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], dim=1)
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    generator = torch.Generator().manual_seed(0)
    d = [float((z[0] - z[i]).norm()) for i in range(6)]

    def weight(distance: float) -> float:
        x = max(distance, 0.5)
        return 1 / (x**2 * math.sqrt(1 - x * x / 4))  # q(d) in four dimensions

    # The fifth, at 1.9, is beyond 1.4 and never drawn; the first is weighed as if at 0.5.
    drawn = {i: weight(d[i]) for i in (2, 3, 4)}
    mean = sum(w * (d[1] ** 2 - d[i] ** 2) for i, w in drawn.items()) / sum(drawn.values())
    # Row 1 draws on its own: take row 0's part away by its symmetric twin.
    e = [float((z[1] - z[i]).norm()) for i in range(6)]
    twin = {i: weight(e[i]) for i in (2, 3, 4) if e[i] < 1.4}
    other = sum(w * (e[0] ** 2 - e[i] ** 2) for i, w in twin.items()) / sum(twin.values())
    draws = [float(triplet(z, labels, 10.0, "distance-weighted", generator)) - 10 for _ in range(3000)]
    assert sum(draws) / len(draws) == pytest.approx((mean + other) / 2, abs=0.02)
    assert min(draws) >= d[1] ** 2 - max(d[4], e[4]) ** 2 - 1e-9


def test_far_negatives_are_drawn_where_no_nearer_ones_are() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    loss = triplet(z, torch.tensor([0, 0, 1]), 10.0, "distance-weighted")
    assert float(loss) == pytest.approx(10 + (0.01 - 4 + 0.01 - 4.01) / 2, rel=1e-5)


def max_margin_by_hand(z1: Tensor, z2: Tensor, same: list[bool], margin: float) -> float:
    total = 0.0
    for a, b, alike in zip(z1, z2, same, strict=True):
        d = squared(a, b) ** 0.5
        total += d**2 / 2 if alike else max(0.0, margin - d) ** 2 / 2
    return total / len(z1)


@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_max_margin_equals_the_equation_and_its_gradient(batch: Callable[..., Tensor], margin: float) -> None:
    z1, z2, same = batch(7, 3), batch(7, 3, seed=1), [True, False, False, True, False, True, False]
    expected = max_margin_by_hand(z1.detach(), z2.detach(), same, margin)
    found = max_margin(z1, z2, torch.tensor(same), margin)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda a, b: max_margin(a, b, torch.tensor(same), margin), (z1, z2))


def test_equal_vectors_of_two_classes_have_a_finite_gradient() -> None:
    z = torch.ones(2, 3, requires_grad=True)
    loss = max_margin(z, torch.ones(2, 3), torch.tensor([False, True]), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0.25)
    assert z.grad is not None
    assert not z.grad.any()


def test_a_semi_hard_negative_is_farther_than_the_positive_not_as_far() -> None:
    """From row 0 the positive and the first negative are both at 1, the second at 4."""
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    labels = [0, 0, 1, 2]
    expected = triplet_by_hand(z, labels, 3.5, "semi-hard")
    assert float(triplet(z, torch.tensor(labels), 3.5, "semi-hard")) == pytest.approx(expected)
