"""Exact search over a read view.

FAISS proposes, float64 disposes. FAISS scans each chunk for more rows than asked; its float32 scores depend
in their last bits on the batch and on a row's place, so the best rows are scored again in float64, one way
for every batch size. Results are sorted by score, then by seq: the same view gives the same answer, ties
included. A scan that might have missed a row (many near-equal scores, many dead rows) is seen by its bound
and repeated wider.

Two scans, by measurement (FAISS 1.15, 2 cores, 100k x 512): up to 4 queries the sequential scan with a bitmap
selector (7 ms per query against 15 to 40 without selector), beyond it the matrix product (45 ms for 64
queries against 250). The matrix product knows no selector: dead rows are dropped after it.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from nearlight.store.points import F32, I64
from nearlight.store.view import ChunkView, ReadView

# As shipped (128000) batches never reach the matrix product and run ten times slower.
faiss.cvar.distance_compute_blas_threshold = 20

_MAX_SCAN_QUERIES = 4
_QUERY_BLOCK = 256
_PROPOSALS_AT_ONCE = 2**22
_RESCORE_BLOCK = 4096
_WIDEN = 4

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """Which of a query's ordered rows to return.

    Attributes:
        limit: at most so many, at least 1.
        offset: best rows to skip.
        score_threshold: lowest score of a row; it applies before the offset.
    """

    limit: int
    offset: int = 0
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best rows for one query, best first.

    Attributes:
        seqs: (K,).
        scores: (K,) cosine similarity in [-1, 1].
        vectors: (K, D), or None when not asked for.
    """

    seqs: I64
    scores: F32
    vectors: F32 | None


@dataclass(slots=True, eq=False)
class _Proposals:
    """What one chunk proposed for the queries of a block, sorted by falling approximate score.

    Attributes:
        scores: (Q, K'), -inf where there is nothing, or only a dead row.
        rows: (Q, K').
        bound: (Q,) no row that was not proposed has a higher approximate score; -inf when there is none.
    """

    scores: F32
    rows: I64
    bound: F32


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Rows with exact scores, in no order; each array is (C,).

    Attributes:
        owners: the query's place in the block.
        chunks: the chunk's place in the view.
        rows: the row in the chunk.
        seqs: its seq.
        scores: its score.
    """

    owners: I64
    chunks: I64
    rows: I64
    seqs: I64
    scores: F32


def search(view: ReadView, queries: F32, span: Span, *, with_vectors: bool = False) -> list[Found]:
    """Find the nearest rows by cosine similarity.

    Args:
        view: the state to search.
        queries: (Q, D) unit length.
        span: which of the ordered rows to return.
        with_vectors: return the rows' vectors too.

    Returns:
        One `Found` per query, of rows ordered by score descending, then seq ascending.
    """
    wanted = min(span.offset + span.limit, view.n_alive)
    if wanted <= span.offset:
        return [_nothing(view.dim, with_vectors) for _ in queries]
    n_at_once = max(1, min(_QUERY_BLOCK, _PROPOSALS_AT_ONCE // (wanted * len(view.chunks))))
    found: list[Found] = []
    for at in range(0, len(queries), n_at_once):
        block = np.ascontiguousarray(queries[at : at + n_at_once])
        floor, proposals = _propose_all(view, block, wanted, span.score_threshold)
        candidates = _rescored(view, block, proposals, floor)
        found += _cut(view, candidates, len(block), wanted, span, with_vectors)
    return found


def _propose_all(
    view: ReadView, queries: F32, wanted: int, score_threshold: float | None
) -> tuple[F64, list[_Proposals]]:
    """Proposals that surely hold the best `wanted` rows, and the least approximate score these have."""
    n_queries, dim = queries.shape
    # A float32 dot product of unit vectors errs by at most dim * 2^-24 in any order of summation; twice, and
    # rounding.
    tolerance = 2 * (dim + 2) * 2.0**-24
    k = wanted + max(16, wanted // 4)
    proposals = [_propose(chunk, queries, k, select=n_queries <= _MAX_SCAN_QUERIES) for chunk in view.chunks]
    while True:
        floor = _kth_best(np.concatenate([p.scores for p in proposals], axis=1), wanted) - tolerance  # (Q,)
        if score_threshold is not None:
            floor = np.maximum(floor, score_threshold - tolerance)
        unsure = [np.flatnonzero((p.bound >= floor) & (p.bound > -np.inf)) for p in proposals]
        if not any(len(some) for some in unsure):
            return floor, proposals
        k *= _WIDEN
        for chunk, proposed, some in zip(view.chunks, proposals, unsure, strict=True):
            if len(some):
                _replace(proposed, some, _propose(chunk, queries[some], k, select=True))


def _propose(chunk: ChunkView, queries: F32, k: int, *, select: bool) -> _Proposals:
    """Scan one chunk for its k best rows per query: live rows one by one, or all rows by matrix product."""
    n_queries, dim = queries.shape
    k = min(k, chunk.n_rows)
    scores = np.empty((n_queries, k), np.float32)
    rows = np.empty((n_queries, k), np.int64)
    selector = faiss.IDSelectorBitmap(len(chunk.alive), faiss.swig_ptr(chunk.alive)) if select else None
    x, y, best, labels = (faiss.swig_ptr(array) for array in (queries, chunk.vectors, scores, rows))
    faiss.knn_inner_product(x, y, dim, n_queries, chunk.n_rows, k, best, labels, selector)
    n_candidates = chunk.n_rows - chunk.n_dead if select else chunk.n_rows
    bound = scores[:, -1].copy() if k < n_candidates else np.full(n_queries, -np.inf, np.float32)
    missing = rows < 0
    rows[missing] = 0
    scores[missing | ~chunk.is_alive(rows)] = -np.inf
    return _Proposals(scores, rows, bound)


def _replace(old: _Proposals, queries: I64, new: _Proposals) -> None:
    """Put a wider scan of some queries in the place of the narrower one."""
    extra = new.scores.shape[1] - old.scores.shape[1]
    if extra > 0:
        old.scores = np.pad(old.scores, ((0, 0), (0, extra)), constant_values=-np.inf)
        old.rows = np.pad(old.rows, ((0, 0), (0, extra)))
    old.scores[queries] = new.scores
    old.rows[queries] = new.rows
    old.bound[queries] = new.bound


def _kth_best(scores: F32, k: int) -> F64:
    """(Q,) the k-th highest of each row of (Q, M), -inf when there are fewer."""
    if scores.shape[1] < k:
        return np.full(len(scores), -np.inf)
    return np.partition(scores, scores.shape[1] - k, axis=1)[:, -k].astype(np.float64)


def _rescored(view: ReadView, queries: F32, proposals: list[_Proposals], floor: F64) -> _Candidates:
    """The proposals that may be among the best, with their exact scores."""
    parts: list[_Candidates] = []
    for number, (chunk, proposed) in enumerate(zip(view.chunks, proposals, strict=True)):
        owners, columns = np.nonzero((proposed.scores >= floor[:, None]) & (proposed.scores > -np.inf))
        rows = proposed.rows[owners, columns]  # (C,)
        scores = np.empty(len(rows), np.float32)  # (C,)
        for at in range(0, len(rows), _RESCORE_BLOCK):
            some = slice(at, at + _RESCORE_BLOCK)
            wide, query = (
                chunk.vectors[rows[some]].astype(np.float64),
                queries[owners[some]].astype(np.float64),
            )
            # A product and a sum per row, not a matrix product: a score cannot depend on the other rows.
            scores[some] = np.clip(np.einsum("cd,cd->c", wide, query), -1, 1)
        parts.append(_Candidates(owners, np.full(len(rows), number), rows, chunk.seqs[rows], scores))
    return _Candidates(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in _Candidates.__slots__)
    )


def _cut(
    view: ReadView, candidates: _Candidates, n_queries: int, wanted: int, span: Span, with_vectors: bool
) -> list[Found]:
    """Sort the candidates of each query and keep those of the span."""
    order = np.lexsort((candidates.seqs, -candidates.scores, candidates.owners))
    if span.score_threshold is not None:
        order = order[candidates.scores[order] >= span.score_threshold]
    bounds = np.searchsorted(candidates.owners[order], np.arange(n_queries + 1))
    found = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        kept = order[start:stop][span.offset : wanted]
        vectors = np.empty((len(kept), view.dim), np.float32) if with_vectors else None  # (K, D)
        if vectors is not None:
            for i, (chunk, row) in enumerate(
                zip(candidates.chunks[kept], candidates.rows[kept], strict=True)
            ):
                vectors[i] = view.chunks[chunk].vectors[row]
        found.append(Found(candidates.seqs[kept], candidates.scores[kept], vectors))
    return found


def _nothing(dim: int, with_vectors: bool) -> Found:
    empty = np.empty((0, dim), np.float32)
    return Found(np.empty(0, np.int64), np.empty(0, np.float32), empty if with_vectors else None)
