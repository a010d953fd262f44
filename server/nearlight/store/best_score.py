"""Exact search by the best of several examples, away from others."""

import numpy as np

from nearlight.store.exact import Found, Span
from nearlight.store.points import F32, I64
from nearlight.store.view import ChunkView, ReadView

_BLOCK_ROWS = 8192  # with 256 examples 8 MiB of scores


def best_scores(view: ReadView, positive: F32, negative: F32, span: Span, with_vectors: bool) -> Found:
    """Rank rows by their best score with a positive example; those nearer to a negative one come last.

    Args:
        view: the state to search.
        positive: (P, D) unit length, P at least 1.
        negative: (N, D) unit length.
        span: which of the ordered rows to return; its threshold is for the best positive score.
        with_vectors: return the rows' vectors too.

    Returns:
        Rows not behind first, each part by best positive score descending, then seq ascending.
    """
    n_best = span.offset + span.limit
    kept = [
        _best_of(chunk, rows, positive, negative, n_best)
        for chunk in view.chunks
        for rows in _blocks(chunk.live_rows())
    ]
    behind = np.concatenate([np.empty(0, bool), *(one[0] for one in kept)])  # (M,)
    scores = np.concatenate([np.empty(0, np.float32), *(one[1] for one in kept)])  # (M,)
    seqs = np.concatenate([np.empty(0, np.int64), *(one[2] for one in kept)])  # (M,)
    vectors = np.concatenate([np.empty((0, view.dim), np.float32), *(one[3] for one in kept)])  # (M, D)
    order = np.lexsort((seqs, -scores, behind))  # the last key is the first to be sorted by
    if span.score_threshold is not None:
        order = order[scores[order] >= np.float32(span.score_threshold)]
    order = order[span.offset : n_best]
    return Found(seqs[order], scores[order], vectors[order] if with_vectors else None)


def _blocks(rows: I64) -> list[I64]:
    return [rows[at : at + _BLOCK_ROWS] for at in range(0, len(rows), _BLOCK_ROWS)]


def _best_of(
    chunk: ChunkView, rows: I64, positive: F32, negative: F32, n_best: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], F32, I64, F32]:
    """Whether behind, score, seq and vector of the best of some rows; ties at the end are all kept."""
    vectors, seqs = chunk.vectors[rows], chunk.seqs[rows]  # (M, D), (M,)
    scores = np.clip((vectors @ positive.T).max(axis=1), -1, 1)  # (M,)
    behind = np.zeros(len(rows), bool)
    if len(negative):
        behind = (vectors @ negative.T).max(axis=1) > scores
    if n_best < len(rows):
        rank = scores - 4 * behind  # a score is at most 1, so whatever is behind stays below what is not
        best = rank >= np.partition(rank, len(rank) - n_best)[len(rank) - n_best]
        vectors, seqs, scores, behind = vectors[best], seqs[best], scores[best], behind[best]
    return behind, scores, seqs, vectors
