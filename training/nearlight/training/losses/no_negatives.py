"""Losses without negatives: one branch predicts the other, which gets no gradient."""

import torch
from torch import Tensor

from nearlight.training.errors import LossInputError
from nearlight.training.losses.inputs import (
    check_above_zero,
    check_rows,
    check_same_shape,
    full,
    in_full_precision,
    unit,
)


@in_full_precision
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Returns the squared distance of unit vectors, in one direction.

    $$ L = \frac1N \sum_i \lVert \bar p_i - \bar t_i \rVert^2 = \frac1N \sum_i (2 - 2 \cos(p_i, t_i)) $$

    Grill et al. 2020, "Bootstrap Your Own Latent", equation 2. The paper adds the two directions:
    byol_loss(p1, t2) + byol_loss(p2, t1).

    Args:
        prediction: (N, D), of the online network's predictor; normalised here.
        target: (N, D), of the target network; normalised and detached here.

    Returns:
        Scalar, 0 to 4, the mean over the rows.

    Raises:
        LossInputError: shapes differ.
    """
    return 2 - 2 * _mean_cosine(prediction, target)


@in_full_precision
def simsiam_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Returns the negative cosine, in one direction.

    $$ L = -\frac1N \sum_i \cos(p_i, z_i) $$

    Chen and He 2021, "Exploring Simple Siamese Representation Learning", equation 1. The paper averages
    the two directions: (simsiam_loss(p1, z2) + simsiam_loss(p2, z1)) / 2.

    Args:
        prediction: (N, D), of the predictor; normalised here.
        target: (N, D), of the projector; normalised and detached here.

    Returns:
        Scalar, -1 to 1, the mean over the rows.

    Raises:
        LossInputError: shapes differ.
    """
    return -_mean_cosine(prediction, target)


@in_full_precision
def dino_loss(
    student: Tensor,
    teacher: Tensor,
    centre: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    r"""Returns the cross entropy between the teacher's and the student's distributions of other views.

    With t and s running over the views of teacher and student, c the centre,

    $$ L = -\frac{1}{N |\{t \ne s\}|} \sum_{t \ne s} \sum_i
           \mathrm{softmax}\left(\frac{g_{ti} - c}{\tau_t}\right) \cdot
           \log \mathrm{softmax}\left(\frac{f_{si}}{\tau_s}\right) $$

    Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", equation 3 and
    algorithm 1: centring keeps one output from winning, the low τ_t (sharpening) keeps the teacher from
    becoming uniform. Collapse shows as a loss of ln K (uniform) or 0 (one output).

    Args:
        student: (S, N, K) logits, the teacher's views first; not normalised.
        teacher: (T, N, K) logits, T <= S, S >= 2; detached here; not normalised.
        centre: (K,), the running mean of the teacher's logits: `dino_centre`, after the step.
        student_temperature: > 0; the paper's is 0.1.
        teacher_temperature: > 0; the paper's rises from 0.04 to 0.07.

    Returns:
        Scalar in nats, the mean over images and pairs of two views.

    Raises:
        LossInputError: shapes that do not fit, temperature <= 0.
    """
    if student.ndim != 3 or len(student) < 2 or student.shape[1] < 1:
        raise LossInputError(f"student has shape {tuple(student.shape)}; it must be (S >= 2, N >= 1, K)")
    if teacher.ndim != 3 or teacher.shape[1:] != student.shape[1:] or not 1 <= len(teacher) <= len(student):
        views, n, k = student.shape
        shape = tuple(teacher.shape)
        raise LossInputError(f"teacher has shape {shape}; it must be (1 to {views}, {n}, {k}), as student")
    if centre.shape != student.shape[2:]:
        raise LossInputError(f"centre has shape {tuple(centre.shape)}; it must be ({student.shape[2]},)")
    check_above_zero("student_temperature", student_temperature)
    check_above_zero("teacher_temperature", teacher_temperature)
    f, g, c = full(student, teacher.detach(), centre.detach())
    targets = ((g - c) / teacher_temperature).softmax(dim=-1)  # (T, N, K)
    guesses = (f / student_temperature).log_softmax(dim=-1)  # (S, N, K)
    # Sums of products, not a matrix product: that adds up thousands of outputs with less care.
    costs = [
        -(target * guess).sum(dim=-1).mean()
        for t, target in enumerate(targets)
        for s, guess in enumerate(guesses)
        if s != t
    ]
    return torch.stack(costs).mean()


@torch.no_grad()
@in_full_precision
def dino_centre(centre: Tensor, teacher: Tensor, momentum: float = 0.9) -> Tensor:
    """Returns the next centre: m c + (1 - m) times the mean of the teacher's logits.

    Caron et al. 2021, equation 4. Call it after `dino_loss`, never before.

    Args:
        centre: (K,).
        teacher: (T, N, K) raw logits.
        momentum: 0 to 1.

    Returns:
        (K,), without gradient.

    Raises:
        LossInputError: shapes that do not fit, momentum outside 0 to 1.
    """
    if teacher.ndim != 3 or centre.shape != teacher.shape[2:]:
        shapes = f"{tuple(centre.shape)} and {tuple(teacher.shape)}"
        raise LossInputError(f"centre and teacher have shapes {shapes}; they must be (K,) and (T, N, K)")
    if not 0 <= momentum <= 1:
        raise LossInputError(f"momentum is {momentum}; it must be 0 to 1")
    old, logits = full(centre, teacher)
    return momentum * old + (1 - momentum) * logits.mean(dim=(0, 1))


def _mean_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    check_rows("prediction", prediction)
    check_rows("target", target)
    check_same_shape("target", target, "prediction", prediction)
    p, t = unit(prediction, target.detach())
    return (p * t).sum(dim=1).mean()
