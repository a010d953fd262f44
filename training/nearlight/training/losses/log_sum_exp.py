r"""Log-sum-exp over rows and columns of a matrix of logits that need not exist as a whole.

Every softmax contrastive loss is such a sum minus terms of its positives that cost O(N D). The logits are
bilinear, l_ij = r_i · c_j; a scale or a temperature belongs to the rows, so that autograd carries its
gradient. Below `Tiling.dense_elements` logits the matrix is built and left to autograd. Above, it is made
tile by tile, with a running maximum and a running sum (Milakov and Gimelshein 2018, "Online normalizer
calculation for softmax"), thrown away, and made again in the backward pass: memory O(N D + tile²), one
product more. The tiled path cannot be differentiated twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Tiling:
    """When and how logits are tiled.

    Args:
        dense_elements: the most logits that are built as one matrix. The default, 2²², is 16 MiB in
            float32: 2,048 x 2,048 pairs.
        side: rows and columns of a tile. None: 1,024 on a CPU, where a tile should stay in the cache,
            4,096 elsewhere, where it should fill the device.
    """

    dense_elements: int = 2**22
    side: int | None = None

    def side_on(self, device: torch.device) -> int:
        """Returns rows and columns of a tile on a device."""
        return self.side or (1024 if device.type == "cpu" else 4096)


_TILING: ContextVar[Tiling] = ContextVar("tiling", default=Tiling())  # noqa: B039 (frozen)


@contextmanager
def tiling(dense_elements: int = 2**22, side: int | None = None) -> Iterator[None]:
    """Sets `Tiling` for the losses computed inside; their backward pass may come later.

    Args:
        dense_elements: the most logits that are built as one matrix; 0 tiles always.
        side: rows and columns of a tile, >= 1; None leaves it to the device.
    """
    token = _TILING.set(Tiling(dense_elements, side))
    try:
        yield
    finally:
        _TILING.reset(token)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Which logits (i, j) are summed.

    A lone positive is best left out: with m the log-sum-exp of the negatives alone and l⁺ the positive's
    logit, the loss is softplus(m - l⁺), which keeps its digits, and its gradient's, where pairs are told
    apart and the difference of the whole sum and l⁺ would be rounding.

    Args:
        without_diagonals: offsets o: those with j - i = o are left out; 0 is each row itself.
        groups: (N,) integers: only those with groups[i] = groups[j]; None keeps all.
    """

    without_diagonals: tuple[int, ...] = ()
    groups: Tensor | None = None

    def hide(self, tile: Tensor, rows: range, columns: range, value: float) -> None:
        """Writes a value where a logit is left out.

        Args:
            tile: (len(rows), len(columns)), of these rows and columns.
            rows: not empty.
            columns: not empty.
            value: instead of the logit.
        """
        if self.groups is not None:
            row_groups, column_groups = self.groups[_span(rows)], self.groups[_span(columns)]
            tile.masked_fill_(row_groups[:, None] != column_groups[None, :], value)
        for offset in self.without_diagonals:
            here = offset + rows.start - columns.start
            if -len(rows) < here < len(columns):
                tile.diagonal(here).fill_(value)


ALL = Kept()


def row_log_sum_exp(rows: Tensor, columns: Tensor, kept: Kept = ALL) -> Tensor:
    """Returns log Σ_j exp(r_i · c_j) over the kept j.

    Args:
        rows: (N, D).
        columns: (M, D), of the same dtype.
        kept: what counts; a row of which nothing counts gives the least finite number, without gradient.

    Returns:
        (N,) in nats.
    """
    return _sums(rows, columns, kept, with_columns=False)[0]


def row_and_column_log_sum_exp(rows: Tensor, columns: Tensor, kept: Kept = ALL) -> tuple[Tensor, Tensor]:
    """Returns (N,) log Σ_j exp(r_i · c_j) and (M,) log Σ_i exp(r_i · c_j), each logit made once for both.

    Args:
        rows: (N, D).
        columns: (M, D), of the same dtype.
        kept: what counts, as in `row_log_sum_exp`.
    """
    by_row, by_column = _sums(rows, columns, kept, with_columns=True)
    return by_row, by_column


def softplus(x: Tensor) -> Tensor:
    """Returns log(1 + exp(x)); torch's own rounds to x from 20 on, which is 2e-9 away in float64."""
    return F.softplus(x, threshold=40)


def is_dense(n_rows: int, n_columns: int) -> bool:
    """Says whether a matrix of logits is built as a whole."""
    return n_rows * n_columns <= _TILING.get().dense_elements


def tile_side(device: torch.device) -> int:
    """Returns rows and columns of a tile."""
    return _TILING.get().side_on(device)


def tiles(n_rows: int, n_columns: int, side: int) -> Iterator[tuple[range, range]]:
    """Yields the rows and columns of each tile."""
    for first_row in range(0, n_rows, side):
        for first_column in range(0, n_columns, side):
            yield (
                range(first_row, min(first_row + side, n_rows)),
                range(first_column, min(first_column + side, n_columns)),
            )


def _sums(rows: Tensor, columns: Tensor, kept: Kept, *, with_columns: bool) -> tuple[Tensor, ...]:
    if is_dense(len(rows), len(columns)):
        logits = rows @ columns.T  # (N, M)
        kept.hide(logits, range(len(rows)), range(len(columns)), torch.finfo(logits.dtype).min)
        return tuple(_dense_log_sum_exp(logits, dim) for dim in ((1, 0) if with_columns else (1,)))
    side = tile_side(rows.device)
    return _Tiled.apply(rows, columns, kept, side, with_columns)  # type: ignore[no-any-return]


def _dense_log_sum_exp(logits: Tensor, dim: int) -> Tensor:
    # torch.logsumexp forgets the maximum before its backward pass: exp(logit - sum) is then off by
    # 4e-6 at logits of 100. With the maximum taken out first it is exact to the last bits.
    top = logits.detach().amax(dim, keepdim=True)
    return (logits - top).logsumexp(dim) + top.squeeze(dim)


class _Running:
    """Log-sum-exp along one side of a matrix that comes in tiles.

    Args:
        like: gives dtype and device.
        length: of the side.
        dim: of a tile that is summed away: 1 for rows, 0 for columns.
    """

    def __init__(self, like: Tensor, length: int, dim: int) -> None:
        self.dim = dim
        self.top = like.new_full((length,), torch.finfo(like.dtype).min)
        self.total = like.new_zeros(length)

    def add(self, tile: Tensor, at: range) -> None:
        """Adds a tile to the sums at the given places."""
        span = _span(at)
        top = torch.maximum(self.top[span], tile.amax(self.dim))
        more = (tile - top.unsqueeze(self.dim)).exp_().sum(self.dim)
        self.total[span] = self.total[span] * (self.top[span] - top).exp() + more
        self.top[span] = top

    def parts(self) -> tuple[Tensor, Tensor]:
        """Returns maximum and logarithm of the rest; added up they would lose the small one's digits."""
        return self.top, self.total.log()


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, kept: Kept, side: int, with_columns: bool
    ) -> tuple[Tensor, ...]:
        sums = [_Running(rows, len(rows), dim=1)]
        if with_columns:
            sums.append(_Running(rows, len(columns), dim=0))
        for at_rows, at_columns in tiles(len(rows), len(columns), side):
            tile = rows[_span(at_rows)] @ columns[_span(at_columns)].T  # (R, C)
            kept.hide(tile, at_rows, at_columns, torch.finfo(tile.dtype).min)
            for one in sums:
                one.add(tile, at_rows if one.dim == 1 else at_columns)
        parts = [one.parts() for one in sums]
        ctx.save_for_backward(rows, columns, *(part for pair in parts for part in pair))
        ctx.kept, ctx.side = kept, side
        return tuple(top + rest for top, rest in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, *parts = ctx.saved_tensors
        for_rows = torch.zeros_like(rows) if ctx.needs_input_grad[0] else None
        for_columns = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None
        # Someone may call backward() under autocast, which would round the logits made again.
        with torch.autocast(rows.device.type, enabled=False):
            for at_rows, at_columns in tiles(len(rows), len(columns), ctx.side):
                r, c = _span(at_rows), _span(at_columns)
                tile = rows[r] @ columns[c].T  # (R, C)
                ctx.kept.hide(tile, at_rows, at_columns, torch.finfo(tile.dtype).min)
                slope = _softmax(tile, parts[0][r], parts[1][r], gradients[0][r], dim=1)
                if len(parts) == 4:
                    slope += _softmax(tile, parts[2][c], parts[3][c], gradients[1][c], dim=0)
                ctx.kept.hide(slope, at_rows, at_columns, 0.0)
                if for_rows is not None:
                    for_rows[r].addmm_(slope, columns[c])
                if for_columns is not None:
                    for_columns[c].addmm_(slope.T, rows[r])
        return for_rows, for_columns, None, None, None


def _softmax(tile: Tensor, top: Tensor, rest: Tensor, gradient: Tensor, dim: int) -> Tensor:
    """Returns the tile of a softmax along `dim`, times the gradient of its sums."""
    shifted = (tile - top.unsqueeze(dim)).sub_(rest.unsqueeze(dim))  # (R, C)
    return shifted.exp_().mul_(gradient.unsqueeze(dim))


def _span(at: range) -> slice:
    return slice(at.start, at.stop)
