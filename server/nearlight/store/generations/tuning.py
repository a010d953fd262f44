"""How hard to search a generation for a recall: measured while it is built, on vectors that it did not hold.

An effort is efSearch of a graph and nprobe of inverted lists. Recall is that of candidates: whatever of the
true best is among them keeps its place, since candidates are scored exactly. Vectors held out of the index
say how queries by image fare; texts lie elsewhere in the space and need more effort, so they are measured
apart, and an effort is chosen that serves both.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nearlight.store.points import F32, I64

GRAPH_EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
LIST_EFFORTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LIMITS = (10, 100)
MIN_SPARE = 22


def n_candidates(wanted: int) -> int:
    """Candidates to take from an index of rounded codes, so that the best `wanted` are among them."""
    return wanted + max(MIN_SPARE, wanted // 2)


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall at one effort.

    Attributes:
        limit: best hits that count.
        effort: efSearch or nprobe.
        image_recall: of vectors held out, 0 to 1.
        text_recall: of text queries, 0 to 1; None where there were none.
    """

    limit: int
    effort: int
    image_recall: float
    text_recall: float | None = None

    @property
    def recall(self) -> float:
        """The worse of both."""
        return self.image_recall if self.text_recall is None else min(self.image_recall, self.text_recall)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured, by limit, then by effort; both ascending."""

    points: tuple[Measured, ...]

    def effort_for(self, wanted: int, recall_target: float) -> tuple[int, float]:
        """The least effort that reaches a recall of the best `wanted`, and its recall; else the highest."""
        limit, rows = self._rows(wanted)
        chosen = next((row for row in rows if row.recall >= recall_target), rows[-1])
        return _scaled(chosen.effort, wanted, limit), chosen.recall

    def recall_of(self, wanted: int, effort: int) -> float:
        """The recall of the best `wanted` at an effort: that of the next lower one measured."""
        limit, rows = self._rows(wanted)
        reached = [row for row in rows if _scaled(row.effort, wanted, limit) <= effort]
        return reached[-1].recall if reached else rows[0].recall * effort / rows[0].effort

    def reaches(self, recall_target: float) -> bool:
        """Whether some effort reaches a recall of the best ten."""
        return any(row.recall >= recall_target for row in self.points if row.limit == LIMITS[0])

    def to_json(self) -> list[dict[str, Any]]:
        """As it is kept beside the index."""
        return [asdict(point) for point in self.points]

    @classmethod
    def from_json(cls, stored: Sequence[dict[str, Any]]) -> "Tuning":
        """Of what `to_json` gave."""
        return cls(tuple(Measured(**point) for point in stored))

    def _rows(self, wanted: int) -> tuple[int, list[Measured]]:
        limit = next((limit for limit in LIMITS if wanted <= limit), LIMITS[-1])
        return limit, [row for row in self.points if row.limit == limit]


class TrueBest:
    """The true nearest rows of some queries, gathered while the rows pass by.

    Args:
        queries: (Q, D) unit length.
        k: how many of the best to keep.
    """

    def __init__(self, queries: F32, k: int) -> None:
        self._queries = queries
        self._scores = np.full((len(queries), k), -np.inf, np.float32)
        self.seqs = np.full((len(queries), k), -1, np.int64)

    def see(self, seqs: I64, vectors: F32) -> None:
        """Take rows (N,), (N, D) into account."""
        if not len(self._queries):
            return
        scores = np.concatenate([self._scores, self._queries @ vectors.T], axis=1)  # (Q, K + N)
        named = np.concatenate([self.seqs, np.broadcast_to(seqs, (len(self.seqs), len(seqs)))], axis=1)
        k = self.seqs.shape[1]
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]  # (Q, K)
        self._scores = np.take_along_axis(scores, best, axis=1)
        self.seqs = np.take_along_axis(named, best, axis=1)

    def best(self, k: int) -> I64:
        """(Q, k) the seqs of the best k, best first, -1 where there are no more."""
        order = np.argsort(-self._scores, axis=1)[:, :k]
        found: I64 = np.take_along_axis(self.seqs, order, axis=1)
        return found


def tune(
    efforts: Sequence[int],
    propose: Callable[[F32, int, int], I64],
    images: tuple[F32, TrueBest],
    texts: tuple[F32, TrueBest] | None,
    recall_target: float,
) -> Tuning:
    """Measure recall at each effort until nothing is gained by more.

    Args:
        efforts: ascending.
        propose: gives seqs (Q, k) for queries (Q, D), k and an effort.
        images: queries like those by image, with their true best.
        texts: text queries, with theirs.
        recall_target: to go well beyond, so that a query may ask for more.
    """
    enough = max(0.995, recall_target)
    points = []
    for limit in LIMITS:
        for effort in efforts:
            k = n_candidates(limit)
            point = Measured(
                limit,
                effort,
                recall_at(propose(images[0], k, effort), images[1].best(limit)),
                None if texts is None else recall_at(propose(texts[0], k, effort), texts[1].best(limit)),
            )
            points.append(point)
            if point.recall >= enough:
                break
    return Tuning(tuple(points))


def recall_at(found: I64, true: I64) -> float:
    """The share of the true best (Q, K) that was found (Q, M); -1 in either is nobody."""
    n_true = int((true >= 0).sum())
    if not n_true:
        return 1.0
    n_found = sum(
        int(np.isin(expected[expected >= 0], row).sum()) for row, expected in zip(found, true, strict=True)
    )
    return n_found / n_true


def _scaled(effort: int, wanted: int, limit: int) -> int:
    """More hits than were measured need so much more effort."""
    return effort if wanted <= limit else -(-effort * wanted // limit)
