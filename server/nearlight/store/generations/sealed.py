"""A sealed generation: an index of rows that never changes, and which of them live."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import numpy.typing as npt

from nearlight.store.errors import IndexFileBad
from nearlight.store.generations.index_file import Header, read_index_file
from nearlight.store.generations.tuning import Tuning
from nearlight.store.points import F32, I64

U8 = npt.NDArray[np.uint8]

CHECKED_ROWS = 16
_CHECKED_HITS = 100
_MUST_FIND = 0.75
_CHECK_EFFORT = 4  # times the highest that tuning needed
MAX_EFFORT = 65_536
_MAX_EFFORTS = 256


class Generation:
    """An index in memory. Any thread may search it: what a search asks for is in its own parameters.

    Attributes:
        number: of the generation, ascending in a collection.
        kind: "hnsw" or "ivf".
        up_to_seq: it holds every row with a seq up to this that lived when it was built.
        seqs: (N,) of its rows, in the order of the index.
        tuning: recall by effort.
        file_name: of its file.
    """

    def __init__(self, number: int, header: Header, seqs: I64, index: faiss.Index, file_name: str) -> None:
        self.number = number
        self.kind: Literal["hnsw", "ivf"] = "ivf" if header.kind == "ivf" else "hnsw"
        self.up_to_seq = header.up_to_seq
        self.seqs = seqs
        self.tuning = Tuning.from_json(header.tuning)
        self.file_name = file_name
        self._efforts: dict[tuple[int, float], tuple[int, float]] = {}
        self._index = index
        self._order = np.argsort(seqs).astype(np.int64)  # (N,)
        self._sorted = seqs[self._order]  # (N,)

    @classmethod
    def read(cls, path: Path, sha256: bytes, number: int) -> "Generation":
        """Read one from its file.

        Raises:
            IndexFileBad: see `read_index_file`.
        """
        header, seqs, index = read_index_file(path, sha256)
        return cls(number, header, seqs, index, path.name)

    @property
    def n_rows(self) -> int:
        """Rows in the index, dead ones too."""
        return len(self.seqs)

    def effort_for(self, wanted: int, recall_target: float) -> tuple[int, float]:
        """What its tuning says of a recall of the best `wanted`; remembered, for nearly all ask the same."""
        key = (wanted, recall_target)
        known = self._efforts.get(key)
        if known is None:
            known = self.tuning.effort_for(wanted, recall_target)
            if len(self._efforts) < _MAX_EFFORTS:
                self._efforts[key] = known
        return known

    def rows_of(self, seqs: I64) -> I64:
        """The rows of these seqs; -1 where it has none."""
        places = np.searchsorted(self._sorted, seqs)
        places[places == self.n_rows] = 0
        return np.where(self._sorted[places] == seqs, self._order[places], -1)

    def candidates(self, queries: F32, k: int, effort: int, allowed: U8 | None = None) -> I64:
        """Rows near each query, in no reliable order.

        Args:
            queries: (Q, D) unit length.
            k: candidates of each.
            effort: efSearch or nprobe.
            allowed: one bit a row, lowest bit first: only these; None: all.

        Returns:
            (Q, k) rows; -1 where there are no more.
        """
        selector = None if allowed is None else faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(allowed))
        return near(self._index, self.kind, queries, k, effort, selector)


@dataclass(frozen=True, slots=True, eq=False)
class SealedView:
    """A generation at one moment.

    Attributes:
        generation: the index.
        alive: (ceil(N / 8),) one bit a row, lowest bit first; 0 is dead.
        n_dead: dead rows of it.
        origin: (?, D) of the blocks that hold the rows' vectors the one that lies lowest in memory.
        places: (N,) where the vector of a row lies, in vectors from the begin of `origin`; of dead rows
            anywhere.
    """

    generation: Generation
    alive: U8
    n_dead: int
    origin: F32
    places: I64

    @property
    def n_alive(self) -> int:
        """Live rows of the generation."""
        return self.generation.n_rows - self.n_dead

    def with_dead(self, seqs: I64) -> "SealedView":
        """The same generation without these rows, all alive until now; some may not be of it."""
        rows = self.generation.rows_of(seqs[seqs <= self.generation.up_to_seq])
        rows = rows[rows >= 0]
        if not len(rows):
            return self
        alive = self.alive.copy()
        np.bitwise_and.at(alive, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
        return replace(self, alive=alive, n_dead=self.n_dead + len(rows))

    def only(self, seqs: I64) -> "SealedView":
        """The same generation, in which only these rows live; those not of it are left out."""
        alive = _bits(self.generation, self.generation.rows_of(seqs[seqs <= self.generation.up_to_seq]))
        n_alive = int(np.unpackbits(alive).sum())
        return replace(self, alive=alive, n_dead=self.generation.n_rows - n_alive)

    def live_seqs(self) -> I64:
        """Seqs of all live rows, in no order."""
        bits = np.unpackbits(self.alive, count=self.generation.n_rows, bitorder="little")
        seqs: I64 = self.generation.seqs[bits.astype(bool)]
        return seqs

    def scores(self, queries: F32, rows: I64) -> F32:
        """Cosines of queries (Q, D) with rows (Q, K) each, exactly as an exact search gives them."""
        n_queries, dim = queries.shape
        ids = self.places[rows]  # (Q, K)
        scores = np.empty(rows.shape, np.float32)
        score_rows = faiss.fvec_inner_products_by_idx  # type: ignore[attr-defined]  # its stubs lack it
        x, y, into, labels = (faiss.swig_ptr(array) for array in (queries, self.origin, scores, ids))
        score_rows(into, x, y, labels, dim, n_queries, rows.shape[1])
        return clipped(scores)


def clipped(scores: F32) -> F32:
    """Scores brought into -1 to 1, in place: rounding may lead out of it."""
    np.minimum(scores, np.float32(1), out=scores)
    return np.maximum(scores, np.float32(-1), out=scores)


def near(
    index: faiss.Index,
    kind: str,
    queries: F32,
    k: int,
    effort: int,
    selector: "faiss.IDSelector | None" = None,
) -> I64:
    """(Q, k) rows of an index near queries (Q, D); -1 where there are no more."""
    # Not of the index: one that several threads search keeps no setting.
    effort = max(effort, k) if kind == "hnsw" else effort
    parameters = _plain(kind, effort) if selector is None else _parameters(kind, effort, selector)
    _, rows = index.search(queries, k, params=parameters)
    return np.asarray(rows, np.int64)


def _parameters(kind: str, effort: int, selector: "faiss.IDSelector | None") -> "faiss.SearchParameters":
    """Parameters of a search; FAISS's stubs lack both."""
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)  # type: ignore[attr-defined,no-any-return]
    return faiss.SearchParametersIVF(nprobe=effort, sel=selector)  # type: ignore[call-arg]


@lru_cache(maxsize=256)
def _plain(kind: str, effort: int) -> "faiss.SearchParameters":
    """Those without a selector: searches only read them, so all of one effort share them."""
    return _parameters(kind, effort, None)


def sealed_view(generation: Generation, blocks: Sequence[tuple[I64, F32, I64]]) -> SealedView:
    """A generation beside the vectors of its rows.

    Args:
        generation: the index.
        blocks: of the collection's rows up to `generation.up_to_seq`, which lie in memory a multiple of 4 D
            bytes apart: seqs (M,), vectors (M, D), and which of them live, as indices.

    Raises:
        IndexFileBad: it lacks a live row.
    """
    # The lowest in memory: FAISS takes a negative place for none.
    origin = min((block[1] for block in blocks), key=_address, default=np.empty((1, 1), np.float32))
    places = np.zeros(generation.n_rows, np.int64)
    living = []
    for seqs, vectors, alive in blocks:
        rows = generation.rows_of(seqs[alive])
        if (rows < 0).any():
            raise IndexFileBad(f"{generation.file_name} lacks rows of the collection")
        distance, rest = divmod(_address(vectors) - _address(origin), vectors.strides[0])
        if rest:
            raise AssertionError("blocks of vectors do not lie whole vectors apart")
        places[rows] = distance + alive
        living.append(rows)
    rows = np.concatenate([np.empty(0, np.int64), *living])
    return SealedView(generation, _bits(generation, rows), generation.n_rows - len(rows), origin, places)


def _address(vectors: F32) -> int:
    return int(vectors.ctypes.data)


def check_finds(view: SealedView, rows: I64, vectors: F32) -> None:
    """Check that stored vectors find themselves.

    Args:
        view: of the generation.
        rows: (K,) of it.
        vectors: (K, D) their vectors.

    Raises:
        IndexFileBad: too many do not.
    """
    generation = view.generation
    effort, _ = generation.tuning.effort_for(10, 1.0)
    effort, k = min(_CHECK_EFFORT * effort, MAX_EFFORT), min(_CHECKED_HITS, generation.n_rows)
    if not len(rows):
        return
    found = generation.candidates(np.ascontiguousarray(vectors), k, effort)  # (K, k)
    n_found = int((found == rows[:, None]).any(axis=1).sum())
    if n_found < _MUST_FIND * len(rows):
        raise IndexFileBad(
            f"{generation.file_name}: {n_found} of {len(rows)} stored vectors find themselves in it"
        )


def _bits(generation: Generation, rows: I64) -> U8:
    """One bit a row of the generation, lowest bit first: 1 for these; -1 is nobody."""
    bits = np.zeros(-(-generation.n_rows // 8) * 8, np.uint8)
    bits[rows[rows >= 0]] = 1
    return np.packbits(bits, bitorder="little")
