"""InfoNCE between views, with negatives from the batch or from a queue."""

import torch
from torch import Tensor

from nearlight.training.losses.inputs import (
    check_above_zero,
    check_rows,
    check_same_shape,
    check_width,
    full,
    in_full_precision,
    unit,
)
from nearlight.training.losses.log_sum_exp import Kept, row_log_sum_exp, softplus

NEGATIVES = Kept(without_diagonals=(0,))  # row i's positive is column i


@in_full_precision
def info_nce(query: Tensor, key: Tensor, temperature: float | Tensor, queue: Tensor | None = None) -> Tensor:
    r"""Returns the InfoNCE of queries and their keys, in one direction.

    With unit vectors q, k and n, and the positive of q_i being k_i,

    $$ L = -\frac{1}{N} \sum_i \log \frac{e^{q_i k_i / \tau}}{\sum_{c \in C(i)} e^{q_i c / \tau}} $$

    Without a queue C(i) is all keys of the batch: van den Oord et al. 2018, "Representation Learning
    with Contrastive Predictive Coding"; Chen, Xie and He 2021 (MoCo v3), who multiply it by 2 τ. With a
    queue C(i) is k_i and the whole queue, no other key of the batch: He et al. 2020, "Momentum Contrast
    for Unsupervised Visual Representation Learning", algorithm 1. Enqueue the keys of this batch only
    afterwards, or each positive is a negative too.

    Args:
        query: (N, D); N >= 2 without a queue; normalised here.
        key: (N, D), not detached here; normalised here.
        temperature: scalar, > 0; divides the cosines.
        queue: (M, D), M >= 1; normalised here.

    Returns:
        Scalar in nats, the mean over the N queries. Above `Tiling.dense_elements` pairs it is made of
        tiles, in memory O((N + M) D).

    Raises:
        LossInputError: shapes differ, too few rows, temperature <= 0.
    """
    check_rows("query", query, at_least=2 if queue is None else 1)
    check_rows("key", key)
    check_same_shape("key", key, "query", query)
    check_above_zero("temperature", temperature)
    if queue is None:
        q, k = unit(query, key)
        rows = q / temperature
        positive = (rows * k).sum(dim=1)  # (N,)
        negative = row_log_sum_exp(rows, k, NEGATIVES)  # (N,)
        return softplus(negative - positive).mean()
    check_rows("queue", queue)
    check_width("queue", queue, "query", query)
    q, k, negatives = unit(query, key, queue)
    rows = q / temperature
    positive = (rows * k).sum(dim=1)  # (N,)
    return softplus(row_log_sum_exp(rows, negatives) - positive).mean()


@in_full_precision
def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Returns the normalised, temperature-scaled cross entropy of SimCLR.

    With z the 2N unit vectors of both views and p(i) the other view of i,

    $$ L = -\frac{1}{2N} \sum_{i=1}^{2N} \log
           \frac{e^{z_i z_{p(i)} / \tau}}{\sum_{k \ne i} e^{z_i z_k / \tau}} $$

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", equation 1.
    The denominator leaves out the anchor alone; the positive stays in. The published code adds the two
    directions instead of averaging them: twice this number.

    Args:
        z1: (N, D), N >= 2; normalised here.
        z2: (N, D), row i is the other view of z1[i]; normalised here.
        temperature: scalar, > 0; divides the cosines.

    Returns:
        Scalar in nats, the mean over the 2N anchors. Above `Tiling.dense_elements` pairs it is made of
        tiles, in memory O(N D).

    Raises:
        LossInputError: shapes differ, N < 2, temperature <= 0.
    """
    check_rows("z1", z1, at_least=2)
    check_rows("z2", z2)
    check_same_shape("z2", z2, "z1", z1)
    check_above_zero("temperature", temperature)
    u1, u2 = unit(z1, z2)
    z = torch.cat([u1, u2])  # (2N, D)
    rows = z / temperature
    positive = (rows[: len(u1)] * u2).sum(dim=1)  # (N,), the same for both views
    n = len(u1)
    negative = row_log_sum_exp(rows, z, Kept((0, n, -n)))  # (2N,), neither the anchor nor its other view
    return softplus(negative - positive.repeat(2)).mean()


@in_full_precision
def n_pairs(anchor: Tensor, positive: Tensor) -> Tensor:
    r"""Returns the multi-class N-pair loss.

    $$ L = \frac{1}{N} \sum_i \log \left( 1 + \sum_{j \ne i} e^{a_i p_j - a_i p_i} \right) $$

    Sohn 2016, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", equation 6. Inner
    products as they are: neither normalised nor scaled. The paper adds an L2 penalty on the vectors,
    which is the caller's to add. Each pair must be of a class of its own.

    Args:
        anchor: (N, D), N >= 2.
        positive: (N, D), row i is of the class of anchor[i].

    Returns:
        Scalar in nats, the mean over the N anchors. Above `Tiling.dense_elements` pairs it is made of
        tiles, in memory O(N D).

    Raises:
        LossInputError: shapes differ, N < 2.
    """
    check_rows("anchor", anchor, at_least=2)
    check_rows("positive", positive)
    check_same_shape("positive", positive, "anchor", anchor)
    a, p = full(anchor, positive)
    return softplus(row_log_sum_exp(a, p, NEGATIVES) - (a * p).sum(dim=1)).mean()
