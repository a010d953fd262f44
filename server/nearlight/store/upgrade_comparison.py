"""How two spaces answer the same queries."""

import time
from dataclasses import dataclass

import numpy as np

from nearlight.store.exact import Scanner, Span
from nearlight.store.points import F32, I64
from nearlight.store.verifying import vectors_of
from nearlight.store.view import ReadView

N_HITS = 10
_TIMED = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the old and the new space answer the same queries.

    Attributes:
        n_points: points used as queries.
        point_overlap: mean share of the ten best hits both agree on, the point itself left out, 0 to 1; None
            without a query.
        n_texts: texts used as queries.
        text_overlap: the same for them.
        old_ms: median milliseconds of one search in the old space.
        new_ms: in the new one.
    """

    n_points: int
    point_overlap: float | None
    n_texts: int
    text_overlap: float | None
    old_ms: float
    new_ms: float


def compare(
    old: ReadView, new: ReadView, scanner: Scanner, texts: tuple[F32, F32] | None, n_points: int
) -> Comparison:
    """Let both spaces answer the same queries.

    Args:
        old: the points in the old space.
        new: in the new space; points of one space alone are hits, not queries.
        scanner: searches.
        texts: vectors (T, D) and (T, D2) of the same texts, None for none.
        n_points: at most so many points, drawn the same each time.
    """
    seqs = new.alive_among(_seqs_of(old))  # (N,)
    if len(seqs) > n_points:
        seqs = np.sort(np.random.default_rng(len(seqs)).choice(seqs, n_points, replace=False))
    if len(seqs) < 2:
        seqs = seqs[:0]
    queries = vectors_of(old, seqs), vectors_of(new, seqs)  # (N, D), (N, D2)
    text_overlap = None
    if texts is not None and len(texts[0]):
        text_overlap = _overlap(old, new, scanner, texts, None)
    timed = texts if texts is not None and len(texts[0]) else queries
    return Comparison(
        n_points=len(seqs),
        point_overlap=_overlap(old, new, scanner, queries, seqs) if len(seqs) else None,
        n_texts=0 if texts is None else len(texts[0]),
        text_overlap=text_overlap,
        old_ms=_median_ms(old, scanner, timed[0]),
        new_ms=_median_ms(new, scanner, timed[1]),
    )


def _overlap(
    old: ReadView, new: ReadView, scanner: Scanner, queries: tuple[F32, F32], own: I64 | None
) -> float:
    """Mean share of the best hits that both spaces have; `own`: the seq (N,) of each query, no hit of it."""
    span = Span(N_HITS + (own is not None))
    found = [scanner.search(view, rows, span) for view, rows in zip((old, new), queries, strict=True)]
    shares = []
    for i, (one, other) in enumerate(zip(*found, strict=True)):
        left_out = set() if own is None else {int(own[i])}
        hits, others = (
            [seq for seq in answer.seqs.tolist() if seq not in left_out][:N_HITS] for answer in (one, other)
        )
        shares.append(len(set(hits) & set(others)) / max(len(hits), len(others), 1))
    return float(np.mean(shares))


def _median_ms(view: ReadView, scanner: Scanner, queries: F32) -> float:
    times = []
    for row in queries[:_TIMED]:
        start = time.perf_counter()
        scanner.search(view, row[np.newaxis], Span(N_HITS))
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times)) if times else 0.0


def _seqs_of(view: ReadView) -> I64:
    parts = [chunk.seqs[chunk.live_rows()] for chunk in view.chunks]
    return np.concatenate([np.empty(0, np.int64), *parts])
