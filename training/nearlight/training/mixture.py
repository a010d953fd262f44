"""Which samples make up a step: a pure function of seed and step, so that a resume needs no state."""

from collections.abc import Sequence

import numpy as np


class Mixture:
    """Fixed shares of several sources in every batch, each source shuffled anew every epoch of its own.

    Step t of a source with share b takes places [t·b, (t+1)·b) of the endless row of its epochs: each
    sample is seen once before any is seen again, whatever the weights.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], batch_size: int, seed: int) -> None:
        self._sizes = list(sizes)
        self._seed = seed
        self.shares = split_batch(weights, batch_size)
        self._epochs: dict[tuple[int, int], np.ndarray] = {}

    def rows(self, step: int) -> list[np.ndarray]:
        """Returns the row numbers taken of each source at a step (0-based), (share,) int64 each."""
        return [self._take(s, step * share, share) for s, share in enumerate(self.shares)]

    def _take(self, source: int, start: int, count: int) -> np.ndarray:
        size = self._sizes[source]
        parts = []
        while count > 0:
            epoch, offset = divmod(start, size)
            part = self._order(source, epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _order(self, source: int, epoch: int) -> np.ndarray:
        key = (source, epoch)
        if key not in self._epochs:
            self._epochs.pop((source, epoch - 2), None)  # only neighbours are asked for again
            rng = np.random.default_rng([self._seed, 1, source, epoch])
            self._epochs[key] = rng.permutation(self._sizes[source]).astype(np.int64)
        return self._epochs[key]


def split_batch(weights: Sequence[float], batch_size: int) -> list[int]:
    """Returns how many samples of a batch each source gives: largest remainder, at least one each.

    Raises:
        ValueError: more sources than places.
    """
    if len(weights) > batch_size:
        raise ValueError(
            f"batch_size is {batch_size}; it must be at least the number of sources, {len(weights)}"
        )
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * batch_size
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while shares.sum() > batch_size:
        shares[int(np.argmax(np.where(shares > 1, shares - exact, -np.inf)))] -= 1
    while shares.sum() < batch_size:
        shares[int(np.argmax(exact - shares))] += 1
    return [int(share) for share in shares]
