import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.losses import byol_loss, dino_centre, dino_loss, simsiam_loss


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def softmax(logits: list[float]) -> list[float]:
    terms = [math.exp(x - max(logits)) for x in logits]
    return [term / sum(terms) for term in terms]


def dino_by_hand(student: Tensor, teacher: Tensor, centre: Tensor, ts: float, tt: float) -> float:
    """The equation of the docstring, one term at a time."""
    costs = []
    for t in range(len(teacher)):
        for s in range(len(student)):
            if t == s:
                continue
            for i in range(student.shape[1]):
                target = softmax(
                    [(float(x) - float(c)) / tt for x, c in zip(teacher[t, i], centre, strict=True)]
                )
                guess = softmax([float(x) / ts for x in student[s, i]])
                costs.append(-sum(q * math.log(p) for q, p in zip(target, guess, strict=True)))
    return sum(costs) / len(costs)


def test_cosine_losses_equal_their_equations(batch: Callable[..., Tensor]) -> None:
    p, t = batch(6, 4).detach(), batch(6, 4, seed=1).detach()
    mean = sum(cosine(a, b) for a, b in zip(p, t, strict=True)) / 6
    assert float(byol_loss(p, t)) == pytest.approx(2 - 2 * mean, rel=1e-9)
    assert float(simsiam_loss(p, t)) == pytest.approx(-mean, rel=1e-9)
    distances = [float((a / a.norm() - b / b.norm()).square().sum()) for a, b in zip(p, t, strict=True)]
    assert float(byol_loss(p, t)) == pytest.approx(sum(distances) / 6, rel=1e-9)


@pytest.mark.parametrize(("views", "taught"), [(2, 1), (2, 2), (5, 2)])
def test_dino_equals_the_equation(batch: Callable[..., Tensor], views: int, taught: int) -> None:
    student, teacher = batch(views, 3, 6).detach(), batch(taught, 3, 6, seed=1).detach()
    centre = batch(6, seed=2).detach()
    expected = dino_by_hand(student, teacher, centre, 0.1, 0.04)
    assert float(dino_loss(student, teacher, centre, 0.1, 0.04)) == pytest.approx(expected, rel=1e-9)


def test_gradients(batch: Callable[..., Tensor]) -> None:
    p, t = batch(6, 4), batch(6, 4, seed=1).detach()
    assert torch.autograd.gradcheck(lambda a: byol_loss(a, t), (p,))
    assert torch.autograd.gradcheck(lambda a: simsiam_loss(a, t), (p,))
    student, teacher, centre = batch(4, 3, 5), batch(2, 3, 5, seed=1).detach(), batch(5, seed=2).detach()
    assert torch.autograd.gradcheck(lambda s: dino_loss(s, teacher, centre, 0.3, 0.2), (student,))


def test_targets_get_no_gradient(batch: Callable[..., Tensor]) -> None:
    p, t = batch(6, 4), batch(6, 4, seed=1)
    student, teacher, centre = batch(4, 3, 5), batch(2, 3, 5, seed=1), batch(5, seed=2)
    loss = byol_loss(p, t) + simsiam_loss(p, t) + dino_loss(student, teacher, centre, 0.1, 0.04)
    loss.backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert student.grad is not None
    assert t.grad is None
    assert teacher.grad is None
    assert centre.grad is None


def test_known_values() -> None:
    eye = torch.eye(3)
    assert float(byol_loss(eye, 5 * eye)) == pytest.approx(0, abs=1e-6)
    assert float(byol_loss(eye, -eye)) == pytest.approx(4)
    assert float(simsiam_loss(eye, eye.roll(1, 0))) == pytest.approx(0, abs=1e-6)
    assert float(simsiam_loss(eye, eye)) == pytest.approx(-1)


def test_dino_collapse_shows_as_its_docstring_says() -> None:
    uniform = torch.zeros(2, 3, 4096)
    assert float(dino_loss(uniform, uniform, torch.zeros(4096), 0.1, 0.04)) == pytest.approx(8.3178, abs=1e-4)
    one_hot = torch.nn.functional.one_hot(torch.zeros(2, 3, dtype=torch.long), 16) * 100.0
    assert float(dino_loss(one_hot, one_hot, torch.zeros(16), 0.1, 0.04)) == pytest.approx(0, abs=1e-6)


def test_dino_centre_is_taken_from_the_teacher_before_it_is_sharpened(batch: Callable[..., Tensor]) -> None:
    """A constant added to every teacher logit of an output is undone by the centre."""
    student, teacher, shift = batch(3, 4, 5), batch(2, 4, 5, seed=1), 7 * batch(5, seed=2)
    plain = dino_loss(student, teacher, torch.zeros(5), 0.1, 0.04)
    torch.testing.assert_close(dino_loss(student, teacher + shift, shift, 0.1, 0.04), plain)


def test_dino_centre_moves_to_the_mean(batch: Callable[..., Tensor]) -> None:
    teacher, centre = batch(2, 4, 5), batch(5, seed=1)
    found = dino_centre(centre, teacher, momentum=0.75)
    assert not found.requires_grad
    for k in range(5):
        mean = sum(float(teacher[t, i, k].detach()) for t in range(2) for i in range(4)) / 8
        assert float(found[k]) == pytest.approx(0.75 * float(centre[k].detach()) + 0.25 * mean, rel=1e-9)


def test_order_of_the_images_does_not_matter(batch: Callable[..., Tensor]) -> None:
    student, teacher, centre, order = batch(3, 4, 5), batch(2, 4, 5, seed=1), batch(5, seed=2), [2, 0, 3, 1]
    torch.testing.assert_close(
        dino_loss(student[:, order], teacher[:, order], centre, 0.1, 0.04),
        dino_loss(student, teacher, centre, 0.1, 0.04),
    )
    p, t = batch(4, 3), batch(4, 3, seed=1)
    torch.testing.assert_close(byol_loss(p[order] * 3, t[order]), byol_loss(p, t))
