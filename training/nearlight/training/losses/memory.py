"""Instance discrimination against a memory bank."""

import math

import torch
from torch import Tensor

from nearlight.training.errors import LossInputError
from nearlight.training.losses.inputs import (
    check_above_zero,
    check_labels,
    check_rows,
    check_width,
    in_full_precision,
    unit,
)
from nearlight.training.losses.log_sum_exp import row_log_sum_exp, softplus


@in_full_precision
def instance_nce(
    z: Tensor,
    index: Tensor,
    bank: Tensor,
    temperature: float | Tensor,
    negatives: Tensor | None = None,
    constant: float | Tensor | None = None,
) -> Tensor:
    r"""Returns the loss of telling each image from all others by a bank of n stored vectors.

    With unit vectors z and v, without negatives the full softmax over the bank,

    $$ L = -\frac1N \sum_i \log P(i), \quad
       P(i) = \frac{e^{v_i z_i / \tau}}{\sum_{j=1}^n e^{v_j z_i / \tau}} $$

    With m negatives per image, noise-contrastive estimation with the constant Z in place of the sum,

    $$ L = -\frac1N \sum_i \left( \log h(i, z_i) + \sum_{k=1}^m \log (1 - h(n_{ik}, z_i)) \right), \quad
       h(j, z) = \frac{P(j)}{P(j) + m / n}, \quad P(j) = \frac{e^{v_j z / \tau}}{Z} $$

    Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", equations
    2, 5, 6 and 7. Negatives are drawn uniformly from the bank and may hit the positive, as there.

    Args:
        z: (N, D), features of this step; normalised here.
        index: (N,) int64, the row of each image in the bank.
        bank: (n, D), a constant here, without gradient; normalised here. Update it after the step.
        temperature: scalar, > 0; divides the cosines.
        negatives: (N, m) int64 rows of the bank, m >= 1; None: full softmax.
        constant: Z, > 0: `instance_constant` of the first batch, then kept. Only with negatives.

    Returns:
        Scalar in nats, the mean over the N images. The full softmax is made of tiles above
        `Tiling.dense_elements` logits; NCE takes O(N m D).

    Raises:
        LossInputError: shapes that do not fit, temperature <= 0, constant <= 0, or one of negatives and
            constant without the other.
    """
    v, stored = _check(z, index, bank, temperature, negatives)
    positive = (v * stored[index]).sum(dim=1) / temperature  # (N,)
    if (negatives is None) != (constant is None):
        present, absent = ("constant", "negatives") if negatives is None else ("negatives", "constant")
        raise LossInputError(f"{present} is given without {absent}; NCE needs both, full softmax neither")
    if negatives is None or constant is None:
        return (row_log_sum_exp(v / temperature, stored) - positive).mean()
    check_above_zero("constant", constant)
    noise = torch.einsum("nd,nmd->nm", v, stored[negatives]) / temperature  # (N, m)
    # log P(j) - log(m / n); then log h = -softplus(-x) and log(1 - h) = -softplus(x).
    offset = math.log(negatives.shape[1] / len(stored)) + torch.as_tensor(constant).log().to(v)
    return (softplus(offset - positive) + softplus(noise - offset).sum(dim=1)).mean()


@torch.no_grad()
@in_full_precision
def instance_constant(z: Tensor, bank: Tensor, temperature: float | Tensor, negatives: Tensor) -> Tensor:
    r"""Returns the constant Z of `instance_nce`, to be estimated once and kept with the checkpoint.

    $$ Z = \frac{n}{N m} \sum_i \sum_{k=1}^m e^{v_{n_{ik}} z_i / \tau} $$

    Wu et al. 2018, equation 8.

    Args:
        z: (N, D); normalised here.
        bank: (n, D); normalised here.
        temperature: scalar, > 0.
        negatives: (N, m) int64 rows of the bank, drawn uniformly.

    Returns:
        Scalar, > 0, without gradient.

    Raises:
        LossInputError: shapes that do not fit, temperature <= 0.
    """
    v, stored = _check(z, None, bank, temperature, negatives)
    logits = torch.einsum("nd,nmd->nm", v, stored[negatives]) / temperature  # (N, m)
    return logits.exp().mean() * len(stored)


def _check(
    z: Tensor, index: Tensor | None, bank: Tensor, temperature: float | Tensor, negatives: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns unit z and unit bank, the latter without gradient."""
    check_rows("z", z)
    check_rows("bank", bank, at_least=2)
    check_width("bank", bank, "z", z)
    check_above_zero("temperature", temperature)
    if index is not None:
        check_labels("index", index, len(z))
    if negatives is not None and (negatives.ndim != 2 or len(negatives) != len(z) or not negatives.shape[1]):
        shape = tuple(negatives.shape)
        raise LossInputError(f"negatives has shape {shape}; it must be ({len(z)}, m) with m >= 1")
    v, stored = unit(z, bank.detach())
    return v, stored
