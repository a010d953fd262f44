"""A collection: points of one embedding space, written durably and searched exactly.

What is promised to concurrent callers: a call that writes is atomic (a reader sees all of it or nothing) and
durable when it returns; from then on every read in every thread sees it. A search, a get and a page of a
scroll each see one committed state of the collection.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nearlight.store import rows
from nearlight.store.collection_search import CollectionSearch
from nearlight.store.creating import metadata_text
from nearlight.store.durability import Durability, check_durability
from nearlight.store.errors import InvalidQuery, shown
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Path
from nearlight.store.filters.indexes import PAYLOAD_KINDS, change_index
from nearlight.store.payload_rows import Moved, change_payloads
from nearlight.store.payloads import Change, emptying, removing, setting
from nearlight.store.points import (
    F32,
    Changed,
    PayloadIndex,
    PayloadKind,
    Point,
)
from nearlight.store.rows import Written
from nearlight.store.selection import Selection, lookup_of, size_of
from nearlight.store.upserts import ANY, Judge, Refusal, Terms, Upserted
from nearlight.store.validation import payload_text, prepare, validate_point
from nearlight.store.writer import Transaction


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """What an upsert wrote, the vectors (N, D) of it, and what it refused."""

    written: Written | None
    vectors: F32
    refused: tuple[Refusal, ...]


class Collection(CollectionSearch):
    """A handle on one collection; get it from a `Store`. Its methods block and any thread may call them."""

    def validate_point(self, point: Point, index: int | None = None) -> None:
        """Check a point as `upsert` would.

        Raises:
            InvalidPoint: names the field, the value and the limit.
        """
        validate_point(point, self._place.dim, index)

    def upsert(self, points: Sequence[Point], *, space_id: str | None = None) -> int:
        """Insert points, or replace those with the same ids; all of them or none: see `upsert_on`.

        Returns:
            The seq of the last point; the collection's last seq when there are no points.
        """
        return self.upsert_on(ANY, points, space_id=space_id).seq

    def upsert_on(
        self,
        terms: Terms,
        points: Sequence[Point],
        *,
        space_id: str | None = None,
        durability: Durability | None = None,
    ) -> Upserted:
        """Write those points that meet the terms; all of these or none.

        Args:
            terms: what the points must be.
            points: of the same id the last one wins.
            space_id: the space the vectors come from; checked when given.
            durability: of this write; None: the collection's.

        Returns:
            The seq of the last point (the collection's last seq when none was given), and what was refused.

        Raises:
            InvalidPoint: one point is bad; `index` says which. Nothing was stored.
            WrongSpace: `space_id` is not the collection's.
            StoreFull: no room on the disk. Nothing was stored.
            StoreError: the database failed.
        """
        self._check_here()
        self._check_space(space_id)
        terms.check()
        if not points:
            return Upserted(self._last_seq)
        batch = prepare(points, self._place.dim)

        def write(transaction: Transaction) -> Admitted:
            self._check_here()
            admitted, refused = self._judge.admitted(transaction.connection, batch, terms)
            if not admitted.keys:
                return Admitted(None, admitted.vectors, refused)
            self._head.reserve(len(admitted.keys))
            return Admitted(rows.insert(transaction, self._place, admitted), admitted.vectors, refused)

        def publish(done: Admitted) -> None:
            self._publish(done.written, done.vectors)

        done = self._writer.run(write, publish, len(batch.keys), is_relaxed=self._is_relaxed(durability))
        return Upserted(done.written.last_seq if done.written else 0, done.refused)

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self._place)

    def delete(self, points: Selection, *, durability: Durability | None = None) -> int:
        """Delete points by id or by filter; ids that do not exist are no error.

        Args:
            points: ids or a filter.
            durability: of this write; None: the collection's.

        Returns:
            How many points were deleted.

        Raises:
            InvalidPoint: an id is malformed. Nothing was deleted.
            InvalidQuery: the filter is refused.
            StoreError: the database failed.
        """
        self._check_here()
        seqs_of = lookup_of(points, self._place)

        def write(transaction: Transaction) -> Written | None:
            self._check_here()
            return rows.delete(transaction, self._place, seqs_of(transaction.connection))

        written = self._writer.run(
            write,
            lambda written: self._publish(written, None),
            size_of(points),
            is_relaxed=self._is_relaxed(durability),
        )
        return len(written.dead) if written else 0

    def set_payload(
        self,
        points: Selection,
        payload: Mapping[str, Any],
        *,
        path: Path = (),
        replace: bool = False,
        durability: Durability | None = None,
    ) -> Changed:
        """Set keys of the payload of points, all of them or none; ids that do not exist are no error.

        Args:
            points: ids or a filter.
            payload: keys and values to set.
            path: keys that lead to the object to set them in, made where missing; by default the payload.
            replace: that object becomes `payload`; else its other keys stay.
            durability: of this write; None: the collection's.

        Raises:
            InvalidPoint: an id is malformed, or a payload would be refused by `upsert`. Nothing was changed.
            InvalidQuery: the filter or the path is refused.
        """
        payload_text(payload)
        if path:
            check_path(path, "key")
        return self._change_payloads(points, setting(payload, path, replace), durability)

    def delete_payload(
        self,
        points: Selection,
        paths: Sequence[Path] | None = None,
        *,
        durability: Durability | None = None,
    ) -> Changed:
        """Remove keys from the payload of points, all of it by default; keys that are missing are no error.

        Args:
            points: ids or a filter.
            paths: for each key to remove, the keys that lead to it and itself.
            durability: of this write; None: the collection's.

        Raises:
            InvalidPoint: an id is malformed. Nothing was changed.
            InvalidQuery: the filter or a path is refused.
        """
        for i, path in enumerate(paths or ()):
            check_path(path, f"keys[{i}]")
        change = emptying() if paths is None else removing(paths)
        return self._change_payloads(points, change, durability)

    def create_payload_index(self, path: Path, kind: PayloadKind) -> None:
        """Make filters on a payload key fast; writes wait while it is filled. One that is there is no error.

        Args:
            path: the keys that lead to the values.
            kind: the values it holds: strings, integers, numbers, truth values, moments or places.

        Raises:
            InvalidQuery: the path or the kind is refused.
            PayloadIndexExists: the key has one of another kind.
        """
        if kind not in PAYLOAD_KINDS:
            raise InvalidQuery("kind", shown(kind), f"it must be one of {', '.join(PAYLOAD_KINDS)}")
        self._change_index(path, kind)

    def delete_payload_index(self, path: Path) -> None:
        """Remove the index of a payload key; filters on it stay right.

        Raises:
            InvalidQuery: the path is refused.
            PayloadIndexNotFound: the key has none.
        """
        self._change_index(path, None)

    def _change_index(self, path: Path, kind: PayloadKind | None) -> None:
        self._check_here()
        check_path(path, "key")

        def write(transaction: Transaction) -> tuple[PayloadIndex, ...]:
            self._check_here()
            return change_index(transaction.connection, self._place.collection_id, path, kind)

        def publish(indexes: tuple[PayloadIndex, ...]) -> None:
            self._payload_indexes = indexes

        self._writer.run(write, publish)

    def update(
        self, *, metadata: Mapping[str, Any] | None = None, durability: Durability | None = None
    ) -> None:
        """Change what the collection was made with; what is None stays.

        Args:
            metadata: takes the place of the old.
            durability: of its writes from now on.

        Raises:
            InvalidCollection: one is refused.
        """
        self._check_here()
        text = None if metadata is None else metadata_text(metadata)
        if durability is not None:
            check_durability(durability)

        def write(transaction: Transaction) -> None:
            self._check_here()
            if text is not None:
                statement = "UPDATE collections SET metadata = ? WHERE collection_id = ?"
                transaction.connection.execute(statement, (text, self._place.collection_id))
            if durability is not None:
                self._durabilities.keep(transaction, self._place, durability)

        def publish(_: None) -> None:
            if text is not None:
                self._metadata = json.loads(text)
            if durability is not None:
                self._durabilities.show(self._place, durability)

        self._writer.run(write, publish)

    def _is_relaxed(self, durability: Durability | None) -> bool:
        return self._durabilities.is_relaxed(self._place, durability)

    def _change_payloads(self, points: Selection, change: Change, durability: Durability | None) -> Changed:
        self._check_here()
        seqs_of = lookup_of(points, self._place)

        def write(transaction: Transaction) -> Moved | None:
            self._check_here()
            seqs = sorted(seqs_of(transaction.connection))
            self._head.reserve(len(seqs))
            return change_payloads(transaction, self._place, seqs, change)

        def publish(moved: Moved | None) -> None:
            if moved is not None:
                self._publish(moved.written, moved.vectors)

        moved = self._writer.run(write, publish, size_of(points), is_relaxed=self._is_relaxed(durability))
        return Changed(moved.written.last_seq, len(moved.vectors)) if moved is not None else Changed(0, 0)

    def _publish(self, written: Written | None, vectors: F32 | None) -> None:
        if written is None:
            return
        if vectors is None:
            vectors = np.empty((0, self._place.dim), np.float32)
        self._head.publish(np.array(written.seqs, np.int64), vectors, written.dead)
        self._last_seq = written.last_seq
