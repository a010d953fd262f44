"""Rings of vectors kept between steps."""

import torch
from torch import Tensor
from torch.nn import functional as F


def fresh_rows(count: int, dim: int) -> Tensor:
    """Returns (count, dim) random unit vectors: what a queue or a bank starts with."""
    return F.normalize(torch.randn(count, dim), dim=1)


@torch.no_grad()
def enqueue(queue: Tensor, place: Tensor, rows: Tensor) -> None:
    """Writes rows over the oldest of a queue; any number of rows, whether it divides the queue or not.

    Args:
        queue: (M, D), changed in place.
        place: scalar int64, where the next row goes; moved.
        rows: (N, D); the last M of them if there are more.
    """
    size = len(queue)
    rows = rows[-size:]
    at = (int(place) + torch.arange(len(rows), device=queue.device)) % size
    queue[at] = rows.to(queue)
    place.copy_((place + len(rows)) % size)
