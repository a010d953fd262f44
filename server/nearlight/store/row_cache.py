"""Ids and payloads that searches have read of late: what is found again needs no look at the database.

Nothing in here can be out of date: a write gives its point a new seq, and a seq is never given twice, so the
row of a seq never changes. Which rows a search may show is settled by its view alone. What dies is dropped
all the same: a deleted payload shall not stay in memory.
"""

import sys
import threading
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from nearlight.store.points import PointId

DEFAULT_BYTES = 64 * 2**20
_BESIDE_BYTES = 200  # of a row: the pair, the seq and their place in a dictionary

StoredRow: TypeAlias = tuple[PointId, str]
"""Id and payload text of a point."""


class RowCache:
    """Rows by seq, of all collections of a store. Any thread may call its methods.

    There are two halves. What is kept, and what is asked for again, goes into the young one; when that is
    full it becomes the old one, and what was in the old one and was not asked for since is forgotten.

    Args:
        max_bytes: that rows may take; 0: none are kept.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0  # of both halves
        self._young: dict[int, StoredRow] = {}
        self._old: dict[int, StoredRow] = {}
        self._young_bytes = 0
        self._lock = threading.Lock()

    def of(self, seqs: Iterable[int]) -> dict[int, StoredRow]:
        """The rows of those of these seqs that are here."""
        young, old = self._young, self._old  # a look at a dictionary needs no lock
        found: dict[int, StoredRow] = {}
        again: dict[int, StoredRow] = {}
        for seq in seqs:
            if (row := young.get(seq)) is not None:
                found[seq] = row
            elif (row := old.get(seq)) is not None:
                found[seq] = again[seq] = row
        if again:
            self.keep(again)
        return found

    def keep(self, rows: Mapping[int, StoredRow]) -> None:
        """Remember rows."""
        with self._lock:
            for seq, row in rows.items():
                n_bytes = _size(row)
                if 2 * n_bytes > self.max_bytes:
                    continue
                self._forget(seq)
                if 2 * (self._young_bytes + n_bytes) > self.max_bytes:
                    self.n_bytes = self._young_bytes
                    self._young, self._old, self._young_bytes = {}, self._young, 0
                self._young[seq] = row
                self._young_bytes += n_bytes
                self.n_bytes += n_bytes

    def drop(self, seqs: Iterable[int]) -> None:
        """Forget rows, which are dead."""
        with self._lock:
            if self._young or self._old:
                for seq in seqs:
                    self._forget(seq)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._young, self._old, self._young_bytes, self.n_bytes = {}, {}, 0, 0

    def _forget(self, seq: int) -> None:
        if (row := self._young.pop(seq, None)) is not None:
            self._young_bytes -= _size(row)
            self.n_bytes -= _size(row)
        elif (row := self._old.pop(seq, None)) is not None:
            self.n_bytes -= _size(row)


def _size(row: StoredRow) -> int:
    return sys.getsizeof(row[0]) + sys.getsizeof(row[1]) + _BESIDE_BYTES
