"""Who is whose positive, and the sums over them, without a matrix of pairs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows that share a label.

    Args:
        index: (N,) int64, the group of each row, 0 <= index < G.
        sizes: (G,) int64, rows in each group, >= 1.
    """

    index: Tensor
    sizes: Tensor

    def sums(self, rows: Tensor) -> Tensor:
        """Returns (N, D): for each row the sum of the rows of its group, its own included."""
        sums = rows.new_zeros(len(self.sizes), rows.shape[1]).index_add(0, self.index, rows)  # (G, D)
        return sums[self.index]

    @property
    def others(self) -> Tensor:
        """(N,) int64: how many other rows share the group."""
        return self.sizes[self.index] - 1

    def following(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns the next rows of the same group, in the order of the batch, the first after the last.

        Each row is thereby as often a positive as each other row of its group.

        Args:
            count: at most so many for each row.

        Returns:
            (count, N) int64 rows and (count, N) bool, false where a group has no further rows.
        """
        by_group = self.index.argsort(stable=True)  # (N,)
        first = self.sizes.cumsum(0) - self.sizes  # (G,), where a group starts in by_group
        place = torch.empty_like(by_group)
        place[by_group] = torch.arange(len(by_group), device=by_group.device)
        first, size = first[self.index], self.sizes[self.index]  # (N,)
        step = torch.arange(1, count + 1, device=by_group.device)[:, None]  # (count, 1)
        return by_group[first + (place - first + step) % size], step < size


def group(labels: Tensor) -> Groups:
    """Returns the groups of equal labels, (N,) integers."""
    _, index, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    return Groups(index, sizes)


def count_anchors_without_positives(labels: Tensor) -> Tensor:
    """Returns how many rows share their label with no other: `supcon` and `triplet` leave them out.

    Args:
        labels: (N,) integers.

    Returns:
        Scalar int64 on the device of the labels.
    """
    return (group(labels).others == 0).sum()
