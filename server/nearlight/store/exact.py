"""Exact search over a read view.

FAISS scans each chunk for more rows than asked, then scores what it found once more, row by row: the scan's
float32 scores depend in their last bits on the batch and on a row's place, these do not. Results are sorted
by score, then by seq, so the same view gives the same answer in every batch, ties included. A scan that might
have missed a row (many near-equal scores, many dead rows) is seen by its bound and repeated wider.

Two scans, by measurement (FAISS 1.15, 2 cores, 100k x 512): up to 4 queries row by row with a bitmap selector
(7 ms per query against 15 to 40 without selector), beyond it the matrix product (45 ms for 64 queries against
250). The matrix product knows no selector: dead rows are dropped after it, and before it where many.

Chunks are scanned by threads of our own, in each of which OpenMP has one thread: OpenMP's workers spin while
they wait, and beside another busy process that made a search 10 to 30 times slower.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import faiss
import numpy as np

from nearlight.store.points import F32, I64
from nearlight.store.view import ChunkView, ReadView

Result = TypeVar("Result")

# As shipped (128000) batches never reach the matrix product and run ten times slower.
faiss.cvar.distance_compute_blas_threshold = 20

_MAX_SCAN_QUERIES = 4
_QUERY_BLOCK = 256
_PROPOSALS_AT_ONCE = 2**22
_WIDEN = 4
# A filter leaves few rows alive. Where they are few, or would waste the matrix product, they are copied.
_SPARSE = 16
_MAX_WASTE = 0.25


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
    """What one chunk proposed for the queries of a block, in no order.

    Attributes:
        scores: (Q, K), -inf where there is nothing, or only a dead row.
        rows: (Q, K).
        bound: (Q,) no row that was not proposed was scanned with a higher score; -inf when there is none.
    """

    scores: F32
    rows: I64
    bound: F32


class Scanner:
    """The threads that scan; one serves all collections of a store, and any thread may call `search`."""

    def __init__(self, n_threads: int | None = None) -> None:
        """Start with this many threads, by default one per CPU of the process."""
        self._n_threads = n_threads or len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(
            self._n_threads,
            thread_name_prefix="nearlight-store-scan",
            initializer=faiss.omp_set_num_threads,
            initargs=(1,),  # OpenMP keeps this setting per thread
        )

    def in_parts(self, work: Callable[[F32], Result], queries: F32) -> list[Result]:
        """Work on queries (Q, D) in as many parts as there are threads; one query is worked on right here."""
        n_parts = min(self._n_threads, len(queries))
        if n_parts <= 1:
            return [_without_openmp(work, queries)]
        parts = [np.ascontiguousarray(part) for part in np.array_split(queries, n_parts)]
        return list(self._threads.map(work, parts))

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown()

    def search(self, view: ReadView, queries: F32, span: Span, *, with_vectors: bool = False) -> list[Found]:
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
            block = np.ascontiguousarray(queries[at : at + n_at_once])  # (Q, D)
            proposals = self._propose_all(view, block, wanted, span.score_threshold)
            found += _best(view, proposals, wanted, span, with_vectors)
        return found

    def _propose_all(
        self, view: ReadView, queries: F32, wanted: int, score_threshold: float | None
    ) -> list[_Proposals]:
        """Proposals of every chunk that surely hold the best `wanted` rows above the threshold."""
        # A float32 dot product of unit vectors errs by at most dim * 2^-24 in any order of summation; the
        # scan's
        # score and ours may differ by twice that.
        tolerance = np.float32(2 * (view.dim + 2) * 2.0**-24)
        k = wanted + max(16, wanted // 4)
        select = len(queries) <= _MAX_SCAN_QUERIES
        tasks = [self._threads.submit(_propose, chunk, queries, k, select=select) for chunk in view.chunks]
        proposals = [task.result() for task in tasks]
        while True:
            floor = _kth_best(proposals, wanted)  # (Q,)
            if score_threshold is not None:
                floor = np.maximum(floor, np.float32(score_threshold))
            unsure = [np.flatnonzero((p.bound >= floor - tolerance) & (p.bound > -np.inf)) for p in proposals]
            again = [i for i, some in enumerate(unsure) if len(some)]
            if not again:
                return proposals
            k *= _WIDEN
            tasks = [
                self._threads.submit(_propose, view.chunks[i], queries[unsure[i]], k, select=True)
                for i in again
            ]
            for i, task in zip(again, tasks, strict=True):
                _replace(proposals[i], unsure[i], task.result())


def _without_openmp(work: Callable[[F32], Result], queries: F32) -> Result:
    """Work in this thread, which is the caller's: it gets its number of OpenMP threads back."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        return work(queries)
    finally:
        faiss.omp_set_num_threads(n_threads)


def _propose(chunk: ChunkView, queries: F32, k: int, *, select: bool) -> _Proposals:
    """Scan one chunk for its k best rows per query: live rows one by one, or all rows by matrix product."""
    if select and chunk.n_rows > _SPARSE * (chunk.n_rows - chunk.n_dead):
        return _propose_gathered(chunk, queries, k)
    if not select and chunk.n_dead > _MAX_WASTE * chunk.n_rows:
        return _propose_gathered(chunk, queries, k)
    n_queries, dim = queries.shape
    k = min(k, chunk.n_rows)
    scanned = np.empty((n_queries, k), np.float32)
    rows = np.empty((n_queries, k), np.int64)
    x, y, best, labels = (faiss.swig_ptr(array) for array in (queries, chunk.vectors, scanned, rows))
    selector = faiss.IDSelectorBitmap(len(chunk.alive), faiss.swig_ptr(chunk.alive)) if select else None
    faiss.knn_inner_product(x, y, dim, n_queries, chunk.n_rows, k, best, labels, selector)
    n_candidates = chunk.n_rows - chunk.n_dead if select else chunk.n_rows
    bound = scanned[:, -1] if k < n_candidates else np.full(n_queries, -np.inf, np.float32)
    missing = rows < 0  # a selector may leave fewer than k
    rows[missing] = 0
    scores = np.empty((n_queries, k), np.float32)
    score_rows = faiss.fvec_inner_products_by_idx  # type: ignore[attr-defined]  # its stubs lack it
    score_rows(faiss.swig_ptr(scores), x, y, labels, dim, n_queries, k)
    np.clip(scores, -1, 1, out=scores)
    scores[missing | ~chunk.is_alive(rows)] = -np.inf
    return _Proposals(scores, rows, bound)


def _propose_gathered(chunk: ChunkView, queries: F32, k: int) -> _Proposals:
    """Scan copies of the live rows of a chunk in which most are dead, as after a filter."""
    rows = chunk.live_rows()  # (M,)
    if not len(rows):
        nothing = np.empty((len(queries), 0))
        bound = np.full(len(queries), -np.inf, np.float32)
        return _Proposals(nothing.astype(np.float32), nothing.astype(np.int64), bound)
    everyone = np.full((len(rows) + 7) // 8, 255, np.uint8)
    gathered = ChunkView(chunk.vectors[rows], chunk.seqs[rows], len(rows), everyone, 0)
    proposals = _propose(gathered, queries, k, select=len(queries) <= _MAX_SCAN_QUERIES)
    proposals.rows = rows[proposals.rows]
    return proposals


def _replace(old: _Proposals, queries: I64, new: _Proposals) -> None:
    """Put a wider scan of some queries in the place of the narrower one."""
    extra = new.scores.shape[1] - old.scores.shape[1]
    if extra > 0:
        old.scores = np.pad(old.scores, ((0, 0), (0, extra)), constant_values=-np.inf)
        old.rows = np.pad(old.rows, ((0, 0), (0, extra)))
    old.scores[queries] = new.scores
    old.rows[queries] = new.rows
    old.bound[queries] = new.bound


def _kth_best(proposals: Sequence[_Proposals], k: int) -> F32:
    """(Q,) the k-th highest score of each query over all chunks, -inf when there are fewer."""
    scores = np.concatenate([p.scores for p in proposals], axis=1)  # (Q, M)
    if scores.shape[1] < k:
        return np.full(len(scores), -np.inf, np.float32)
    return np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]


def _best(
    view: ReadView, proposals: Sequence[_Proposals], wanted: int, span: Span, with_vectors: bool
) -> list[Found]:
    """Sort the proposals of each query and keep those of the span."""
    scores = np.concatenate([p.scores for p in proposals], axis=1)  # (Q, M)
    rows = np.concatenate([p.rows for p in proposals], axis=1)  # (Q, M)
    chunks = np.repeat(np.arange(len(proposals)), [p.scores.shape[1] for p in proposals])  # (M,)
    seqs = np.concatenate(
        [c.seqs[p.rows] for c, p in zip(view.chunks, proposals, strict=True)], axis=1
    )  # (Q, M)
    lowest = _kth_best(proposals, wanted)  # (Q,)
    if span.score_threshold is not None:
        lowest = np.maximum(lowest, np.float32(span.score_threshold))
    kept = (scores >= lowest[:, None]) & (scores > -np.inf)  # (Q, M)
    found = []
    for query in range(len(scores)):
        some = np.flatnonzero(kept[query])
        order = some[np.lexsort((seqs[query, some], -scores[query, some]))][span.offset : wanted]  # (K,)
        vectors = np.empty((len(order), view.dim), np.float32) if with_vectors else None  # (K, D)
        if vectors is not None:
            for i, place in enumerate(order):
                vectors[i] = view.chunks[chunks[place]].vectors[rows[query, place]]
        found.append(Found(seqs[query, order], scores[query, order], vectors))
    return found


def _nothing(dim: int, with_vectors: bool) -> Found:
    empty = np.empty((0, dim), np.float32)
    return Found(np.empty(0, np.int64), np.empty(0, np.float32), empty if with_vectors else None)
