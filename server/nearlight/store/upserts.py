"""On which terms a point is written: whether its id must be new or known, and whether its image must be new.

The terms are judged inside the write's transaction: between two callers that insert one id, or one picture,
exactly one succeeds.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearlight.store import rows
from nearlight.store.errors import InvalidQuery
from nearlight.store.ids import Key, id_of
from nearlight.store.pairs import U64, close_hashes
from nearlight.store.points import I64, PointId
from nearlight.store.rows import Place
from nearlight.store.validation import Batch

UpsertMode = Literal["upsert", "insert", "update"]
MAX_ALIKE_BITS = 32

_NEW_HASHES = """
SELECT seq, perceptual_hash FROM points
WHERE collection_id = ? AND seq > ? AND perceptual_hash IS NOT NULL ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a point must be to be written.

    Attributes:
        mode: "insert": its id is new; "update": its id is known; "upsert": any.
        alike_bits: a point of a new id is refused where its perceptual hash differs in at most so many bits
            from that of another, 0 to 32; None: whatever it looks like.
    """

    mode: UpsertMode = "upsert"
    alike_bits: int | None = None

    def check(self) -> None:
        """Raises InvalidQuery where a number is out of range."""
        if self.alike_bits is not None and not 0 <= self.alike_bits <= MAX_ALIKE_BITS:
            limit = f"it must be 0 to {MAX_ALIKE_BITS}"
            raise InvalidQuery("skip_duplicates_bits", str(self.alike_bits), limit)


ANY = Terms()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a point was not written.

    Attributes:
        index: its place in the call.
        reason: "exists" (insert), "missing" (update), or "alike".
        like: the id of the point it looks like.
        bits: how many bits of the two hashes differ.
    """

    index: int
    reason: Literal["exists", "missing", "alike"]
    like: PointId | None = None
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Upserted:
    """What a write did: the seq of its last point (0 where all were refused), and what was refused."""

    seq: int
    refused: tuple[Refusal, ...] = ()


class Judge:
    """Decides for one collection; used by the writer's thread alone."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._looks = Looks(place)

    def admitted(
        self, connection: sqlite3.Connection, batch: Batch, terms: Terms
    ) -> tuple[Batch, tuple[Refusal, ...]]:
        """The points of a batch that may be written, and why the others may not.

        Args:
            connection: of the write's transaction.
            batch: checked.
            terms: as the caller set them.
        """
        if terms == ANY:
            return batch, ()
        known = _known(connection, self._place, batch.keys)
        refused: dict[int, Refusal] = {}  # by row of the batch
        for row, key in enumerate(batch.keys):
            if terms.mode == "insert" and key in known:
                refused[row] = Refusal(batch.rows[row], "exists")
            elif terms.mode == "update" and key not in known:
                refused[row] = Refusal(batch.rows[row], "missing")
        if terms.alike_bits is not None:
            fresh = [row for row, key in enumerate(batch.keys) if row not in refused and key not in known]
            refused |= self._alike(connection, batch, fresh, terms.alike_bits)
        kept = [row for row in range(len(batch.keys)) if row not in refused]
        return batch.only(kept), tuple(refused[row] for row in sorted(refused))

    def _alike(
        self, connection: sqlite3.Connection, batch: Batch, fresh: list[int], max_bits: int
    ) -> dict[int, Refusal]:
        """Of the rows with new ids, those that look like a stored point or an earlier one of the batch."""
        fresh = [row for row in fresh if batch.perceptual_hashes[row] is not None]
        hashes = np.array([batch.perceptual_hashes[row] for row in fresh], np.int64).view(np.uint64)  # (N,)
        stored = self._looks.nearest(connection, hashes, max_bits)
        refused: dict[int, Refusal] = {}
        for i, row in enumerate(fresh):
            known = stored[i]
            if known is not None:
                refused[row] = Refusal(batch.rows[row], "alike", *known)
                continue
            for earlier in (one for one in range(i) if fresh[one] not in refused):
                bits = (int(hashes[i]) ^ int(hashes[earlier])).bit_count()
                if bits <= max_bits:
                    like = id_of(batch.keys[fresh[earlier]])
                    refused[row] = Refusal(batch.rows[row], "alike", like, bits)
                    break
        return refused


class Looks:
    """The perceptual hashes of a collection, in memory from the first question on; 16 bytes a point.

    It reads what was written since from the database. A seq in it may be dead, or of a transaction that was
    rolled
    back: what it finds is looked up before it counts. Seqs are never given twice.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seqs: I64 = np.empty(0, np.int64)
        self._hashes: U64 = np.empty(0, np.uint64)

    def nearest(
        self, connection: sqlite3.Connection, hashes: U64, max_bits: int
    ) -> list[tuple[PointId, int] | None]:
        """For each hash (N,) the id of a stored point within so many bits, and in how many it differs."""
        self._catch_up(connection)
        found: list[tuple[PointId, int] | None] = [None] * len(hashes)
        if not len(hashes) or not len(self._seqs):
            return found
        near = close_hashes(hashes, self._hashes, max_bits)
        for at in np.lexsort((near.right, near.closeness)).tolist():
            row = int(near.left[at])
            if found[row] is None:
                seq = int(self._seqs[near.right[at]])
                stored = rows.by_seqs(connection, self._place, [seq]).get(seq)
                found[row] = None if stored is None else (stored[0], int(near.closeness[at]))
        return found

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        last = int(self._seqs[-1]) if len(self._seqs) else 0
        added = connection.execute(_NEW_HASHES, (self._place.collection_id, last)).fetchall()
        if added:
            both = np.array(added, np.int64)  # (M, 2)
            self._seqs = np.concatenate([self._seqs, both[:, 0]])
            self._hashes = np.concatenate([self._hashes, both[:, 1].copy().view(np.uint64)])


def _known(connection: sqlite3.Connection, place: Place, keys: Iterable[Key]) -> set[Key]:
    statement = "SELECT 1 FROM points WHERE collection_id = ? AND id = ?"
    return {key for key in keys if connection.execute(statement, (place.collection_id, key)).fetchone()}
