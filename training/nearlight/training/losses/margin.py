"""Losses of distances and margins; vectors are taken as they are, not normalised."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.errors import LossInputError
from nearlight.training.losses.inputs import (
    check_labels,
    check_margin,
    check_rows,
    check_same_shape,
    full,
    in_full_precision,
)

Mining = Literal["all", "batch-hard", "semi-hard", "distance-weighted"]

# Wu et al. 2017: weights are cut below a distance of 0.5; beyond 1.4 a negative costs nothing.
NEAREST_WEIGHED, FARTHEST_DRAWN = 0.5, 1.4


@in_full_precision
def max_margin(z1: Tensor, z2: Tensor, same: Tensor, margin: float) -> Tensor:
    r"""Returns the contrastive loss of pairs.

    With D_i the Euclidean distance of z1[i] and z2[i],

    $$ L = \frac{1}{N} \sum_i \tfrac12 [same_i]\, D_i^2 + \tfrac12 [\neg same_i] \max(0, m - D_i)^2 $$

    Hadsell, Chopra and LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping",
    equation 4 (whose Y = 0 is `same`).

    Args:
        z1: (N, D); not normalised.
        z2: (N, D); not normalised.
        same: (N,) bool, true where the pair is of one class.
        margin: the distance beyond which a pair of two classes costs nothing, >= 0.

    Returns:
        Scalar, the mean over the pairs.

    Raises:
        LossInputError: shapes differ, margin < 0.
    """
    check_rows("z1", z1)
    check_rows("z2", z2)
    check_same_shape("z2", z2, "z1", z1)
    check_labels("same", same, len(z1))
    check_margin(margin)
    a, b = full(z1, z2)
    squared = (a - b).square().sum(dim=1)  # (N,)
    # The root has no slope at 0; two equal vectors of two classes get gradient 0 instead of NaN.
    distance = torch.where(squared > 0, squared, 1).sqrt() * (squared > 0)
    return torch.where(same.bool(), squared, F.relu(margin - distance).square()).mean() / 2


@in_full_precision
def triplet(
    z: Tensor,
    labels: Tensor,
    margin: float,
    mining: Mining = "batch-hard",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Returns the triplet loss over triplets (anchor, positive, negative) found in the batch.

    $$ L = \frac{1}{|T|} \sum_{(a, p, n) \in T}
           \max(0, \lVert z_a - z_p \rVert^2 - \lVert z_a - z_n \rVert^2 + m) $$

    Schroff et al. 2015, "FaceNet", equation 2: squared Euclidean distances for every kind of mining.
    T, the mean being over all of it, triplets without loss included:

    - all: every triplet of the batch. Sorted distances and prefix sums: memory O(N²), not O(N³).
    - batch-hard: for each anchor its farthest positive and its nearest negative (Hermans et al. 2017,
      "In Defense of the Triplet Loss", who do not square).
    - semi-hard: for each anchor and positive the nearest negative that is farther than the positive, or
      the farthest negative if none is (FaceNet §3.2).
    - distance-weighted: for each anchor and positive one negative drawn with weight
      min(1/q(d), 1/q(0.5)), q the density of distances on the unit sphere, among those nearer than 1.4 if
      any (Wu et al. 2017, "Sampling Matters in Deep Embedding Learning"). d is of the directions.

    Anchors without a positive (`count_anchors_without_positives`) or without a negative have no triplet.
    Where there is none at all the loss is 0, and so are its gradients.

    Args:
        z: (N, D), N >= 2; not normalised.
        labels: (N,) integers.
        margin: >= 0, in squared distance.
        mining: which triplets.
        generator: on the device of z, draws the negatives of "distance-weighted"; None: torch's own.

    Returns:
        Scalar, the mean over the triplets.

    Raises:
        LossInputError: N < 2, labels of another length, margin < 0, unknown mining.
    """
    check_rows("z", z, at_least=2)
    check_labels("labels", labels, len(z))
    check_margin(margin)
    if mining not in ("all", "batch-hard", "semi-hard", "distance-weighted"):
        limit = "all, batch-hard, semi-hard or distance-weighted"
        raise LossInputError(f"mining is {mining!r}; it must be {limit}")
    (z,) = full(z)
    squared = _squared_distances(z)  # (N, N)
    same = labels[:, None] == labels[None, :]  # (N, N)
    positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)  # (N, N)
    if mining == "all":
        return _all(squared, positive, ~same, margin)
    if mining == "batch-hard":
        used = positive.any(dim=1) & (~same).any(dim=1)  # (N,)
        farthest = squared.where(positive, -1).amax(dim=1)  # (N,)
        nearest = squared.where(~same, torch.inf).amin(dim=1)  # (N,)
        return _mean(F.relu(farthest - torch.where(used, nearest, 0) + margin), used)
    used = positive & (~same).any(dim=1, keepdim=True)  # (N, N), anchors and positives
    if mining == "semi-hard":
        negatives = _semi_hard(squared.detach(), ~same)
    else:
        negatives = _distance_weighted(z.detach(), ~same, generator)
    chosen = squared.gather(1, negatives)  # (N, N)
    return _mean(F.relu(squared - chosen + margin), used)


def _squared_distances(z: Tensor) -> Tensor:
    # From differences: |a|² + |b|² - 2ab would round the distance of near vectors to noise, or below 0.
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()  # (N, N)


def _mean(values: Tensor, used: Tensor) -> Tensor:
    return torch.where(used, values, 0).sum() / used.sum().clamp(min=1)


def _all(squared: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Returns the mean over all triplets in O(N² log N): a pair's cost is a count and a prefix sum."""
    near_first = squared.where(negative, torch.inf).sort(dim=1).values  # (N, N), negatives, then inf
    prefix = F.pad(near_first.where(near_first.isfinite(), 0).cumsum(dim=1), (1, 0))  # (N, N + 1)
    reach = squared + margin  # (N, N), of anchor and positive: nearer negatives cost something
    nearer = torch.searchsorted(near_first.detach(), reach.detach())  # (N, N)
    costs = nearer * reach - prefix.gather(1, nearer)  # (N, N), sums over the negatives
    triplets = (positive.sum(dim=1) * negative.sum(dim=1)).sum()
    return torch.where(positive, costs, 0).sum() / triplets.clamp(min=1)


def _semi_hard(squared: Tensor, negative: Tensor) -> Tensor:
    """Returns (N, N): for anchor a and positive p, the index of their negative."""
    near_first, order = squared.where(negative, torch.inf).sort(dim=1)  # (N, N)
    farther = torch.searchsorted(near_first, squared.contiguous(), right=True)  # (N, N)
    last = negative.sum(dim=1, keepdim=True) - 1  # (N, 1)
    return order.gather(1, farther.minimum(last).clamp(min=0))


def _distance_weighted(z: Tensor, negative: Tensor, generator: torch.Generator | None) -> Tensor:
    """Returns (N, N): for anchor a and positive p, the index of a drawn negative."""
    dim = z.shape[1]
    squared = _squared_distances(F.normalize(z, dim=1))  # (N, N), 0 to 4
    d2 = squared.clamp(NEAREST_WEIGHED**2, 3.99)
    log_weight = -((dim - 2) / 2 * d2.log() + (dim - 3) / 2 * (1 - d2 / 4).log())  # (N, N)
    near = negative & (squared < FARTHEST_DRAWN**2)
    allowed = torch.where(near.any(dim=1, keepdim=True), near, negative)
    allowed = allowed | ~negative.any(dim=1, keepdim=True)  # no negative: whatever is drawn is not used
    log_weight = log_weight.where(allowed, -torch.inf)
    weight = (log_weight - log_weight.amax(dim=1, keepdim=True)).exp()
    return weight.multinomial(len(z), replacement=True, generator=generator)
