"""Connected components, grown edge by edge: a union-find over arrays.

Every node points straight at the lowest node of its component. Edges come in arrays: the higher root of each
is hooked to the lowest of the roots it meets, until no edge crosses two components. Memory is that of the
nodes, however many edges there are.
"""

import numpy as np

from nearlight.store.points import I64


class Components:
    """The components of nodes 0..n-1, each alone at first."""

    def __init__(self, n: int) -> None:
        self._root = np.arange(n, dtype=np.int64)

    def join(self, left: I64, right: I64) -> None:
        """Connect nodes pairwise.

        Args:
            left: (M,).
            right: (M,).
        """
        root = self._root
        while True:
            left, right = root[left], root[right]  # roots stand for all their nodes
            crosses = left != right
            if not crosses.any():
                return
            left, right = left[crosses], right[crosses]
            np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
            while not np.array_equal(further := root[root], root):
                root[:] = further

    def groups(self) -> list[I64]:
        """The components of at least two nodes, each ascending: largest first, then by their lowest node."""
        order = np.argsort(self._root, kind="stable").astype(np.int64)
        starts = np.flatnonzero(np.diff(self._root[order], prepend=-1))
        found = [part for part in np.split(order, starts[1:]) if len(part) > 1]
        return sorted(found, key=lambda part: (-len(part), int(part[0])))
