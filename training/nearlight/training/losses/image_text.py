"""Losses of paired images and texts."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nearlight.training.losses.inputs import (
    check_labels,
    check_rows,
    check_same_shape,
    check_scalar,
    in_full_precision,
    unit,
)
from nearlight.training.losses.log_sum_exp import (
    Kept,
    is_dense,
    row_and_column_log_sum_exp,
    softplus,
    tile_side,
    tiles,
)
from nearlight.training.losses.positives import group

NEGATIVES = Kept(without_diagonals=(0,))  # image i's own text is column i


@in_full_precision
def clip_loss(
    image: Tensor, text: Tensor, logit_scale: float | Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Returns the symmetric InfoNCE of paired images and texts over in-batch negatives.

    With s = logit_scale, u and v the unit vectors of images and texts, and q the targets,

    $$ L = -\frac{1}{2N} \sum_i \sum_j q_{ij} \left( \log \frac{e^{s u_i v_j}}{\sum_k e^{s u_i v_k}}
          + \log \frac{e^{s v_i u_j}}{\sum_k e^{s v_i u_k}} \right) $$

    Without `groups`, q is the identity: Radford et al. 2021, "Learning Transferable Visual Models From
    Natural Language Supervision", figure 3. With `groups`, rows of one group are positives of one
    another and q is uniform over them, as in Khosla et al. 2020, "Supervised Contrastive Learning"
    (the sum outside the logarithm), and Yang et al. 2022, "Unified Contrastive Learning" (UniCL).

    Args:
        image: (N, D), any length, N >= 2; normalised here.
        text: (N, D), row i is the caption of image i; normalised here.
        logit_scale: scalar, > 0, the multiplier itself: 1 / temperature.
        groups: (N,) integers; equal numbers share positives. None: each row is its own group.

    Returns:
        Scalar in nats, the mean over the 2N anchors of both directions. Above `Tiling.dense_elements`
        pairs it is made of tiles, in memory O(N D).

    Raises:
        LossInputError: shapes differ, N < 2, groups of another length, logit_scale not a scalar.
    """
    _check_pairs(image, text, logit_scale)
    u, v = unit(image, text)
    rows = logit_scale * u  # (N, D)
    by_image, by_text = row_and_column_log_sum_exp(rows, v, NEGATIVES)  # (N,), (N,)
    own = (rows * v).sum(dim=1)  # (N,), the logit of each pair
    loss = (softplus(by_image - own) + softplus(by_text - own)).mean() / 2
    if groups is None:
        return loss
    check_labels("groups", groups, len(image))
    same = group(groups)
    centre = same.sums(v) / (same.others + 1)[:, None]  # (N, D), the mean of a row's positives
    # Σ_ij q_ij l_ij is the same number in both directions, as q is symmetric.
    return loss + (rows * (v - centre)).sum(dim=1).mean()


@in_full_precision
def siglip_loss(
    image: Tensor, text: Tensor, logit_scale: float | Tensor, logit_bias: float | Tensor
) -> Tensor:
    r"""Returns the pairwise sigmoid loss of images and texts.

    With s = logit_scale, b = logit_bias, u and v unit vectors, y_ij = 1 where i = j and -1 elsewhere,

    $$ L = -\frac{1}{N} \sum_i \sum_j \log \sigma(y_{ij} (s\, u_i v_j + b)) $$

    Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", which starts at s = 10, b = -10.

    Args:
        image: (N, D), any length, N >= 2; normalised here.
        text: (N, D), row i is the caption of image i; normalised here.
        logit_scale: scalar, > 0, the multiplier itself, not its logarithm.
        logit_bias: scalar.

    Returns:
        Scalar in nats: the sum over the N² pairs, divided by N (not N²). Above `Tiling.dense_elements`
        pairs it is made of tiles, in memory O(N D).

    Raises:
        LossInputError: shapes differ, N < 2, logit_scale or logit_bias not a scalar.
    """
    _check_pairs(image, text, logit_scale)
    check_scalar("logit_bias", logit_bias)
    u, v = unit(image, text)
    one = torch.ones_like(u[:, :1])  # (N, 1)
    # The bias as one more dimension keeps the logits bilinear.
    rows = torch.cat([logit_scale * u, logit_bias * one], dim=1)  # (N, D + 1)
    columns = torch.cat([v, one], dim=1)  # (N, D + 1)
    own = (rows * columns).sum(dim=1)  # (N,)
    if is_dense(len(rows), len(columns)):
        logits = rows @ columns.T  # (N, N)
        NEGATIVES.hide(logits, range(len(rows)), range(len(rows)), torch.finfo(logits.dtype).min)
        pushed = softplus(logits).sum(dim=1)  # (N,)
    else:
        pushed = _TiledSoftplus.apply(rows, columns, tile_side(rows.device))
    return (pushed + softplus(-own)).mean()


class _TiledSoftplus(torch.autograd.Function):
    """Σ_j softplus(r_i · c_j) over j != i, for (N, D) rows and columns, as `log_sum_exp` tiles its sums."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, side: int) -> Tensor:
        sums = rows.new_zeros(len(rows))
        for at_rows, at_columns in tiles(len(rows), len(columns), side):
            r, c = slice(at_rows.start, at_rows.stop), slice(at_columns.start, at_columns.stop)
            tile = rows[r] @ columns[c].T  # (R, C)
            NEGATIVES.hide(tile, at_rows, at_columns, torch.finfo(tile.dtype).min)
            sums[r] += softplus(tile).sum(dim=1)
        ctx.save_for_backward(rows, columns)
        ctx.side = side
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = ctx.saved_tensors
        for_rows, for_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        with torch.autocast(rows.device.type, enabled=False):
            for at_rows, at_columns in tiles(len(rows), len(columns), ctx.side):
                r, c = slice(at_rows.start, at_rows.stop), slice(at_columns.start, at_columns.stop)
                slope = (rows[r] @ columns[c].T).sigmoid_().mul_(gradient[r, None])  # (R, C)
                NEGATIVES.hide(slope, at_rows, at_columns, 0.0)
                for_rows[r].addmm_(slope, columns[c])
                for_columns[c].addmm_(slope.T, rows[r])
        return for_rows, for_columns, None


def _check_pairs(image: Tensor, text: Tensor, logit_scale: float | Tensor) -> None:
    check_rows("image", image, at_least=2)
    check_rows("text", text)
    check_same_shape("text", text, "image", image)
    check_scalar("logit_scale", logit_scale)
