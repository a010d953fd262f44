"""All pairs that are close, block by block: by cosine, and by the number of differing bits.

A block's pairs are handed on before the next is begun, so that memory stays small however many there are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from nearlight.store.points import F32, I64
from nearlight.store.view import ReadView

U64 = npt.NDArray[np.uint64]

_LEFT_ROWS, _RIGHT_ROWS = 256, 16_384  # at most 4 million pairs in a block: some 200 MB
_LEFT_HASHES, _RIGHT_HASHES = 512, 8192


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Some pairs of rows: both (M,), and what makes them close, (M,)."""

    left: I64
    right: I64
    closeness: npt.NDArray[Any]


class Rows:
    """The live rows of a view, numbered 0..N-1 in ascending seq; nothing is copied where none is dead."""

    def __init__(self, view: ReadView) -> None:
        self._chunks = view.chunks
        self._live = [None if chunk.n_dead == 0 else chunk.live_rows() for chunk in view.chunks]
        counts = [chunk.n_rows - chunk.n_dead for chunk in view.chunks]
        self._starts = np.cumsum([0, *counts])  # (chunks + 1,)
        self.dim = view.dim

    def __len__(self) -> int:
        return int(self._starts[-1])

    def chunk(self, i: int) -> tuple[int, F32]:
        """The number of the first row of a chunk, and its rows (N, D)."""
        chunk, live = self._chunks[i], self._live[i]
        vectors = chunk.vectors[: chunk.n_rows] if live is None else chunk.vectors[live]
        return int(self._starts[i]), np.ascontiguousarray(vectors)

    def chunks(self) -> Iterator[tuple[int, F32]]:
        """Every chunk."""
        return (self.chunk(i) for i in range(len(self._chunks)))

    def take(self, rows: I64) -> F32:
        """The vectors (M, D) of these rows."""
        vectors = np.empty((len(rows), self.dim), np.float32)
        for at, row in enumerate(rows.tolist()):
            vectors[at] = self._vector(row)
        return vectors

    def seqs(self) -> I64:
        """(N,) of all rows."""
        parts = [
            chunk.seqs[: chunk.n_rows] if live is None else chunk.seqs[live]
            for chunk, live in zip(self._chunks, self._live, strict=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _vector(self, row: int) -> F32:
        i = int(np.searchsorted(self._starts, row, "right")) - 1
        place, live = row - int(self._starts[i]), self._live[i]
        vector: F32 = self._chunks[i].vectors[place if live is None else live[place]]
        return vector


def similar(rows: Rows, min_score: float, go_on: Callable[[], None]) -> Iterator[Pairs]:
    """Every pair of rows whose cosine is at least `min_score`, each once, left before right.

    Args:
        rows: to compare, all with all: N² / 2 products of vectors.
        min_score: judged in float64; the scan in float32 only proposes.
        go_on: called between blocks; what it raises ends the search.
    """
    faiss.omp_set_num_threads(1)  # of this thread: the others serve
    for right_at, right in _blocks(rows, _RIGHT_ROWS):
        for left_at, left in _blocks(rows, _LEFT_ROWS):
            if left_at >= right_at + len(right):
                break
            go_on()
            yield _scan(left, left_at, right, right_at, min_score)


def _blocks(rows: Rows, n_rows: int) -> Iterator[tuple[int, F32]]:
    """The number of the first row of each block, and its rows, at most so many."""
    for start, chunk in rows.chunks():
        for at in range(0, len(chunk), n_rows):
            yield start + at, chunk[at : at + n_rows]


def _scan(left: F32, left_at: int, right: F32, right_at: int, min_score: float) -> Pairs:
    dim = left.shape[1]
    tolerance = 2 * (dim + 2) * 2.0**-24  # see `Scanner`
    found = faiss.RangeSearchResult(len(left))
    x, y = faiss.swig_ptr(left), faiss.swig_ptr(right)
    faiss.range_search_inner_product(x, y, dim, len(left), len(right), min_score - tolerance, found)
    rows, columns, scores = _arrays(found, len(left), np.float32)
    later = right_at + columns > left_at + rows
    rows, columns, scores = rows[later], columns[later], scores[later]
    unsure = np.flatnonzero(scores < min_score + tolerance)
    exact = np.einsum("ij,ij->i", left[rows[unsure]].astype(np.float64), right[columns[unsure]])
    kept = np.ones(len(rows), bool)
    kept[unsure] = exact >= min_score
    return Pairs(left_at + rows[kept], right_at + columns[kept], scores[kept])


def alike(hashes: U64, max_bits: int, go_on: Callable[[], None]) -> Iterator[Pairs]:
    """Every pair of hashes (N,) that differ in at most `max_bits` bits, each once, left before right."""
    for right_at in range(0, len(hashes), _RIGHT_HASHES):
        right = hashes[right_at : right_at + _RIGHT_HASHES]
        for left_at in range(0, right_at + len(right), _LEFT_HASHES):
            go_on()
            found = close_hashes(hashes[left_at : left_at + _LEFT_HASHES], right, max_bits)
            left, others = left_at + found.left, right_at + found.right
            later = others > left
            yield Pairs(left[later], others[later], found.closeness[later])


def close_hashes(left: U64, right: U64, max_bits: int) -> Pairs:
    """The pairs of one hash of each array that differ in at most so many bits, with how many do."""
    found = faiss.RangeSearchResult(len(left))
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    x, y = faiss.swig_ptr(left.view(np.uint8)), faiss.swig_ptr(right.view(np.uint8))
    search = faiss.hamming_range_search  # type: ignore[attr-defined]  # its stubs lack it
    search(x, y, len(left), len(right), max_bits + 1, 8, found)  # below that radius
    rows, columns, bits = _arrays(found, len(left), np.int64)
    return Pairs(rows, columns, bits)


def _arrays(found: Any, n: int, dtype: type) -> tuple[I64, I64, npt.NDArray[Any]]:
    """Row, column and distance of every pair."""
    lims = faiss.rev_swig_ptr(found.lims, n + 1).astype(np.int64)
    rows = np.repeat(np.arange(n, dtype=np.int64), np.diff(lims))
    columns = faiss.rev_swig_ptr(found.labels, int(lims[-1])).astype(np.int64)
    return rows, columns, faiss.rev_swig_ptr(found.distances, int(lims[-1])).astype(dtype)
