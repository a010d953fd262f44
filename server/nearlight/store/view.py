"""What a search reads: an immutable view of a collection's vectors, and the head that publishes the next one.

Vectors lie in chunks of preallocated rows. The one writer fills rows beyond those that any published view
counts, then publishes a new view by replacing one reference; a reader takes the reference once and sees that
state to its end. A dead row is a cleared bit in a copy of its chunk's bitmap. When a fifth of all rows is
dead, the chunks that hold them are rebuilt for the next view, so the memory of deleted rows is bounded;
readers of older views keep the old chunks alive.

Behind a cut a new chunk begins, so that a sealed generation (see `nearlight.store.generations`) covers whole
chunks: those up to its last seq. They stay for exact search and exact scores; the others are the exact head.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nearlight.store.generations.sealed import Generation, SealedView, sealed_view
from nearlight.store.points import F32, I64

U8 = npt.NDArray[np.uint8]

CHUNK_BYTES = 32 * 2**20  # small enough that two threads share a scan of 30,000 rows evenly
MIN_DEAD_TO_COMPACT = 1024
MAX_DEAD_SHARE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ChunkView:
    """Some rows of a collection, in ascending seq.

    Attributes:
        vectors: (capacity, D); rows from `n_rows` on belong to the writer.
        seqs: (capacity,).
        n_rows: rows that this view counts, dead ones too.
        alive: (ceil(capacity / 8),) one bit per row, lowest bit first; 0 is dead.
        n_dead: dead rows among `n_rows`.
    """

    vectors: F32
    seqs: I64
    n_rows: int
    alive: U8
    n_dead: int

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self.seqs)

    def is_alive(self, rows: I64) -> npt.NDArray[np.bool_]:
        """Which of these rows live.

        Args:
            rows: any shape, each in 0..n_rows-1.

        Returns:
            The same shape.
        """
        bits = (self.alive[rows >> 3] >> (rows & 7).astype(np.uint8)) & np.uint8(1)
        return np.asarray(bits, bool)

    def live_rows(self) -> I64:
        """Indices of all live rows, ascending."""
        bits = np.unpackbits(self.alive, count=self.n_rows, bitorder="little")
        return np.flatnonzero(bits).astype(np.int64)

    def with_dead(self, rows: I64) -> "ChunkView":
        """A view of the same rows with these, all alive until now, dead."""
        alive = self.alive.copy()
        np.bitwise_and.at(alive, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
        return replace(self, alive=alive, n_dead=self.n_dead + len(rows))

    def only(self, rows: I64) -> "ChunkView":
        """A view in which of all rows only these, all alive, live."""
        bits = np.zeros(8 * len(self.alive), np.uint8)
        bits[rows] = 1
        return replace(self, alive=np.packbits(bits, bitorder="little"), n_dead=self.n_rows - len(rows))


@dataclass(frozen=True, slots=True, eq=False)
class ReadView:
    """One state of a collection's vectors. What every search asks of it is counted once.

    Attributes:
        chunks: its rows in ascending seq.
        dim: D.
        sealed: the generation in use, None where there is none.
        n_rows: held in memory, dead ones too.
        n_dead: of these.
    """

    chunks: tuple[ChunkView, ...]
    dim: int
    sealed: SealedView | None = None
    n_rows: int = field(init=False)
    n_dead: int = field(init=False)
    _beside: "ReadView | None" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_rows", sum(chunk.n_rows for chunk in self.chunks))
        object.__setattr__(self, "n_dead", sum(chunk.n_dead for chunk in self.chunks))
        object.__setattr__(self, "_beside", self._not_sealed())

    @property
    def n_alive(self) -> int:
        """Points of the collection."""
        return self.n_rows - self.n_dead

    @property
    def beside_sealed(self) -> "ReadView":
        """The rows that the sealed generation does not cover."""
        return self if self._beside is None else self._beside

    def _not_sealed(self) -> "ReadView | None":
        if self.sealed is None:
            return None
        last = self.sealed.generation.up_to_seq
        first = len(self.chunks)
        while first and self.chunks[first - 1].seqs[0] > last:
            first -= 1
        return ReadView(self.chunks[first:], self.dim)

    def alive_among(self, seqs: I64) -> I64:
        """Those of these seqs (N,), ascending, that are alive in this view."""
        bounds = _bounds(self.chunks, seqs)
        kept = [seqs[:0]]
        for chunk, start, stop in zip(self.chunks, bounds[:-1], bounds[1:], strict=False):
            some = seqs[start:stop]
            rows = np.searchsorted(chunk.seqs[: chunk.n_rows], some)
            inside = rows < chunk.n_rows
            some, rows = some[inside], rows[inside].astype(np.int64)
            kept.append(some[(chunk.seqs[rows] == some) & chunk.is_alive(rows)])
        return np.concatenate(kept)

    def only(self, seqs: I64) -> "ReadView":
        """The view that holds nothing but these rows, without a generation; no vector is copied.

        Args:
            seqs: (N,) ascending, each alive in this view.
        """
        bounds = _bounds(self.chunks, seqs)
        kept = []
        for chunk, start, stop in zip(self.chunks, bounds[:-1], bounds[1:], strict=True):
            if start < stop:
                kept.append(chunk.only(_rows_of(chunk, seqs[start:stop])))
        return ReadView(tuple(kept), self.dim)


class Head:
    """The writer's side of a collection's vectors. One thread calls its methods, any may read `view`."""

    def __init__(self, dim: int, chunk_rows: int | None = None) -> None:
        """An empty head; `chunk_rows` is how many rows a new chunk holds, 32 MiB of them by default."""
        self._chunk_rows = chunk_rows or max(1024, min(65536, CHUNK_BYTES // (4 * dim)))
        self._spare: list[ChunkView] = []
        self._cuts: list[int] = []
        self.view = ReadView((), dim)

    def reserve(self, n_rows: int) -> None:
        """Get the memory for `n_rows` more now, so that publishing them cannot fail."""
        last = self.view.chunks[-1] if self.view.chunks else None
        free = last.capacity - last.n_rows if last else 0
        self._spare = [self._new_chunk() for _ in range(0, max(0, n_rows - free), self._chunk_rows)]

    def cut(self, seq: int) -> None:
        """Let a new chunk begin behind this seq, which is not below any before."""
        sealed = self.view.sealed
        self._cuts = [seq] if sealed is None else sorted({sealed.generation.up_to_seq, seq})

    def seal(self, generation: Generation | None) -> None:
        """Show readers a generation that covers the rows up to a cut, or none.

        Raises:
            IndexFileBad: it lacks a live row.
        """
        sealed = None if generation is None else placed(generation, self.view.chunks)
        first = 0 if generation is None else generation.up_to_seq
        self._cuts = [seq for seq in self._cuts if seq >= first]
        self.view = replace(self.view, sealed=sealed)

    def publish(self, seqs: I64, vectors: F32, dead: Iterable[int] = ()) -> None:
        """Show readers new rows and hide dead ones, at once.

        Args:
            seqs: (N,) ascending, all higher than any before.
            vectors: (N, D) unit length.
            dead: seqs that died, each alive until now or among `seqs`.
        """
        chunks = self._appended(list(self.view.chunks), seqs, vectors)
        gone = np.sort(np.fromiter(dead, np.int64))
        sealed = self.view.sealed
        if len(gone):
            chunks = _without(chunks, gone)
            sealed = sealed and sealed.with_dead(gone)
        n_dead = sum(chunk.n_dead for chunk in chunks)
        if n_dead >= MIN_DEAD_TO_COMPACT and n_dead > MAX_DEAD_SHARE * sum(chunk.n_rows for chunk in chunks):
            chunks = self._compacted(chunks)
            if sealed is not None:
                sealed = placed(sealed.generation, chunks)
        self.view = ReadView(tuple(chunks), self.view.dim, sealed)

    def _new_chunk(self) -> ChunkView:
        n = self._chunk_rows  # numpy.empty touches no page: an unused row costs address space, not memory
        return ChunkView(
            _rows_apart(n, self.view.dim),
            np.empty(n, np.int64),
            0,
            np.full((n + 7) // 8, 255, np.uint8),
            0,
        )

    def _appended(self, chunks: list[ChunkView], seqs: I64, vectors: F32) -> list[ChunkView]:
        at = 0
        while at < len(seqs):
            if not chunks or chunks[-1].n_rows == chunks[-1].capacity or self._is_cut(chunks[-1], seqs[at]):
                chunks.append(self._spare.pop() if self._spare else self._new_chunk())
            chunk = chunks[-1]
            n = min(self._n_before_cut(seqs[at:]), chunk.capacity - chunk.n_rows)
            chunk.vectors[chunk.n_rows : chunk.n_rows + n] = vectors[at : at + n]
            chunk.seqs[chunk.n_rows : chunk.n_rows + n] = seqs[at : at + n]
            chunks[-1] = replace(chunk, n_rows=chunk.n_rows + n)
            at += n
        return chunks

    def _is_cut(self, chunk: ChunkView, seq: int) -> bool:
        """Whether a cut lies between the last row of a chunk and a seq."""
        return chunk.n_rows > 0 and any(chunk.seqs[chunk.n_rows - 1] <= cut < seq for cut in self._cuts)

    def _n_before_cut(self, seqs: I64) -> int:
        """How many of these seqs, at least one, come before the next cut among them."""
        for cut in self._cuts:
            if seqs[0] <= cut < seqs[-1]:
                return int(np.searchsorted(seqs, cut, side="right"))
        return len(seqs)

    def _compacted(self, chunks: list[ChunkView]) -> list[ChunkView]:
        """The live rows: chunks without dead rows as they are if at least half full, the others copied."""
        made: list[ChunkView] = []
        for chunk in chunks:
            if chunk.n_dead == 0 and 2 * chunk.n_rows >= chunk.capacity:
                made.append(chunk)
                continue
            rows = (
                chunk.live_rows()
            )  # they may fill up a kept chunk: no view counts the rows after its n_rows
            made = self._appended(made, chunk.seqs[rows], chunk.vectors[rows])
        return made


def placed(generation: Generation, chunks: Sequence[ChunkView]) -> SealedView:
    """A generation beside the rows that it covers.

    Raises:
        IndexFileBad: it lacks a live one.
    """
    covered = [chunk for chunk in chunks if chunk.seqs[0] <= generation.up_to_seq]
    blocks = [(chunk.seqs, chunk.vectors, chunk.live_rows()) for chunk in covered]
    return sealed_view(generation, blocks)


def _rows_apart(n: int, dim: int) -> F32:
    """Room for (n, dim) that begins at a multiple of 4 dim bytes: all chunks lie whole rows apart."""
    room = np.empty((n + 1) * dim, np.float32)
    skipped = -room.ctypes.data % (4 * dim) // 4
    return room[skipped : skipped + n * dim].reshape(n, dim)


def _without(chunks: list[ChunkView], gone: I64) -> list[ChunkView]:
    """The chunks with the rows of these ascending seqs dead."""
    bounds = _bounds(chunks, gone)
    for i, chunk in enumerate(chunks):
        seqs = gone[bounds[i] : bounds[i + 1]]
        if len(seqs):
            chunks[i] = chunk.with_dead(_rows_of(chunk, seqs))
    return chunks


def _bounds(chunks: Sequence[ChunkView], seqs: I64) -> list[int]:
    """Where the seqs of each chunk begin among these ascending ones, and the end of the last."""
    starts = np.array([chunk.seqs[0] for chunk in chunks[1:]], np.int64)
    return [0, *np.searchsorted(seqs, starts).tolist(), len(seqs)]


def _rows_of(chunk: ChunkView, seqs: I64) -> I64:
    """The rows of these seqs, which are all in the chunk."""
    rows = np.searchsorted(chunk.seqs[: chunk.n_rows], seqs)
    if rows.max() >= chunk.n_rows or (chunk.seqs[rows] != seqs).any():
        raise AssertionError("a seq is not among the rows")  # the database and the view disagree
    return rows.astype(np.int64)
