"""Supervised contrastive loss."""

from typing import Literal

import torch
from torch import Tensor

from nearlight.training.errors import LossInputError
from nearlight.training.losses.inputs import (
    check_above_zero,
    check_labels,
    check_rows,
    in_full_precision,
    unit,
)
from nearlight.training.losses.log_sum_exp import Kept, row_log_sum_exp
from nearlight.training.losses.positives import Groups, group

OTHERS = Kept(without_diagonals=(0,))


@in_full_precision
def supcon(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    variant: Literal["out", "in"] = "out",
    max_positives: int | None = None,
) -> Tensor:
    r"""Returns the supervised contrastive loss, the mean over the anchors that have positives.

    With unit vectors z, A(i) all rows but i, P(i) those of A(i) with the label of i,

    $$ L^{out}_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
         \frac{e^{z_i z_p / \tau}}{\sum_{a \in A(i)} e^{z_i z_a / \tau}} \qquad
       L^{in}_i = -\log \left( \frac{1}{|P(i)|} \sum_{p \in P(i)}
         \frac{e^{z_i z_p / \tau}}{\sum_{a \in A(i)} e^{z_i z_a / \tau}} \right) $$

    Khosla et al. 2020, "Supervised Contrastive Learning", equations 2 and 3, without the factor
    τ / τ_base of the published code. "out" is the better one (78.7 against 67.4 % on ImageNet).

    Anchors without positives are left out of the mean; `count_anchors_without_positives(labels)` counts
    them. Where no anchor has one the loss is 0, and so are its gradients.

    Args:
        z: (N, D), N >= 2, the views of all images, each with its label; normalised here.
        labels: (N,) integers.
        temperature: scalar, > 0; divides the cosines.
        variant: "out" or "in": where the sum over positives stands, outside or inside the logarithm.
        max_positives: at most so many positives for each anchor, >= 1: the next rows of its class in the
            order of the batch, the first after the last. The others stay in the denominator.

    Returns:
        Scalar in nats. Above `Tiling.dense_elements` pairs it is made of tiles, in memory O(N D), or
        O(N D max_positives) with a cap and "in".

    Raises:
        LossInputError: N < 2, labels of another length, temperature <= 0, max_positives < 1, an unknown
            variant.
    """
    check_rows("z", z, at_least=2)
    check_labels("labels", labels, len(z))
    check_above_zero("temperature", temperature)
    if variant not in ("out", "in"):
        raise LossInputError(f'variant is {variant!r}; it must be "out" or "in"')
    if max_positives is not None and max_positives < 1:
        raise LossInputError(f"max_positives is {max_positives}; it must be >= 1, or None for all")
    (u,) = unit(z)
    rows = u / temperature  # (N, D)
    groups = group(labels)
    count = groups.others if max_positives is None else groups.others.clamp(max=max_positives)  # (N,)
    attracted = (_mean_logit if variant == "out" else _log_mean_exp)(rows, u, groups, count, max_positives)
    each = row_log_sum_exp(rows, u, OTHERS) - attracted  # (N,)
    has_positive = count > 0
    return torch.where(has_positive, each, 0).sum() / has_positive.sum().clamp(min=1)


def _mean_logit(rows: Tensor, z: Tensor, groups: Groups, count: Tensor, cap: int | None) -> Tensor:
    """Returns (N,) means of the positives' logits."""
    if cap is None:
        sums = groups.sums(z) - z  # (N, D)
    else:
        sums = torch.zeros_like(z)
        for positive, exists in zip(*groups.following(cap), strict=True):
            sums = sums + z[positive] * exists[:, None]
    return (rows * sums).sum(dim=1) / count.clamp(min=1)


def _log_mean_exp(rows: Tensor, z: Tensor, groups: Groups, count: Tensor, cap: int | None) -> Tensor:
    """Returns (N,) logarithms of the mean of exp of the positives' logits."""
    if cap is None:
        sums = row_log_sum_exp(rows, z, Kept((0,), groups.index))
    else:
        least = torch.finfo(z.dtype).min  # not -inf, whose gradient would be NaN where no positive is
        each = [
            torch.where(exists, (rows * z[positive]).sum(dim=1), least)
            for positive, exists in zip(*groups.following(cap), strict=True)
        ]
        sums = torch.stack(each).logsumexp(dim=0)
    return sums - count.clamp(min=1).to(sums.dtype).log()
