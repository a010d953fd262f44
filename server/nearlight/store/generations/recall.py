"""Recall measured now: the index's answers beside those of an exact search, over one view."""

from dataclasses import dataclass

import numpy as np

from nearlight.store.exact import Found, Scanner, Span
from nearlight.store.generations.search import Search, SearchParams, vectors_of
from nearlight.store.points import F32
from nearlight.store.view import ReadView

_BLOCK = 64


@dataclass(frozen=True, slots=True)
class MeasuredRecall:
    """Recall of the best hits.

    Attributes:
        image: with stored vectors as queries, each left out of its own hits; 0 to 1.
        text: with text queries, None where there were none.
        n_queries: that were compared.
    """

    image: float
    text: float | None
    n_queries: int

    @property
    def recall(self) -> float:
        """Of all queries: the worse of both kinds."""
        return self.image if self.text is None else min(self.image, self.text)


def measure_recall(
    scanner: Scanner, view: ReadView, texts: F32, n_queries: int, limit: int, recall_target: float
) -> MeasuredRecall:
    """Compare searches as a query asks them with exact ones.

    Args:
        scanner: searches exactly.
        view: to search.
        texts: (T, D) text queries, of which at most `n_queries` are used.
        n_queries: stored vectors to search with.
        limit: best hits that count.
        recall_target: of the collection.
    """
    live = np.concatenate([np.empty(0, np.int64), *(chunk.seqs[chunk.live_rows()] for chunk in view.chunks)])
    if not len(live):
        return MeasuredRecall(1.0, None, 0)
    some = np.sort(np.random.default_rng().choice(live, min(n_queries, len(live)), replace=False))
    stored, texts = vectors_of(view, some), texts[:n_queries]
    # One hit more than asked for: a stored vector's best hit is itself.
    image = _compared(scanner, view, stored, Span(limit + 1), recall_target, some.tolist())
    nobody = [-1] * len(texts)
    text = _compared(scanner, view, texts, Span(limit), recall_target, nobody) if len(texts) else None
    return MeasuredRecall(image, text, len(some) + len(texts))


def _compared(
    scanner: Scanner, view: ReadView, queries: F32, span: Span, recall_target: float, left_out: list[int]
) -> float:
    n_true = n_found = 0
    for at in range(0, len(queries), _BLOCK):
        block = np.ascontiguousarray(queries[at : at + _BLOCK])
        as_asked, exactly = (
            Search(scanner, block, span, params, recall_target, False, "vector")(view)
            for params in (SearchParams(), SearchParams(exact=True))
        )
        for seq, one, other in zip(left_out[at : at + _BLOCK], as_asked, exactly, strict=False):
            true = _seqs(other, seq)
            n_true += len(true)
            n_found += len(true & _seqs(one, seq))
    return n_found / n_true if n_true else 1.0


def _seqs(found: Found, left_out: int) -> set[int]:
    return set(found.seqs.tolist()) - {left_out}
