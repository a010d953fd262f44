"""A collection: points of one embedding space, written durably and searched exactly.

What is promised to concurrent callers: a call that writes is atomic (a reader sees all of it or nothing) and
durable when it returns; from then on every read in every thread sees it. A search, a get and a page of a
scroll each see one committed state of the collection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nearlight.store import rows
from nearlight.store.configuring import CollectionSettings
from nearlight.store.durability import Durability
from nearlight.store.family import Elsewhere
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Path
from nearlight.store.inserting import insert
from nearlight.store.originals import keep_originals
from nearlight.store.parking import parked_place
from nearlight.store.payload_rows import Moved, change_payloads
from nearlight.store.payloads import Change, emptying, removing, setting
from nearlight.store.point_block import batch_of
from nearlight.store.points import (
    F32,
    Changed,
    Point,
)
from nearlight.store.rows import Written
from nearlight.store.selection import Selection, lookup_of, size_of
from nearlight.store.upgrade_rows import insert_others
from nearlight.store.upserts import ANY, Judge, Refusal, Terms, Upserted
from nearlight.store.validation import Batch, payload_text, validate_point
from nearlight.store.writer import Transaction


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """What an upsert wrote here and in other spaces, the vectors (N, D) of it, and what it refused."""

    written: Written | None
    elsewhere: Elsewhere
    vectors: F32
    refused: tuple[Refusal, ...]


class Collection(CollectionSettings):
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
            points: of the same id the last one wins; a `PointBlock` costs least.
            space_id: the space the vectors come from; checked when given.
            durability: of this write; None: the collection's.

        Returns:
            The seq of the last point (the collection's last seq when none was given), and what was refused.

        Raises:
            InvalidPoint: one point is bad; `index` says which. Nothing was stored.
            WrongSpace: `space_id` is not the collection's.
            SpaceChanged: the collection has changed its model; nothing was stored.
            StoreFull: no room on the disk. Nothing was stored.
            StoreError: the database failed.
        """
        self._check_here()
        self._check_space(space_id)
        terms.check()
        if not points:
            return Upserted(self._last_seq)
        batch = batch_of(points, self._place.dim)

        def write(transaction: Transaction) -> Admitted:
            self._check_here()
            connection = transaction.connection
            admitted, refused = self._judge.admitted(connection, batch, terms)
            if not admitted.keys:
                return Admitted(None, {}, admitted.vectors, refused)
            self._family.reserve(len(admitted.keys))
            written = self._insert(transaction, admitted)
            elsewhere = self._family.elsewhere(connection, self._place, written.seqs)
            return Admitted(written, elsewhere, admitted.vectors, refused)

        def publish(done: Admitted) -> None:
            if done.written is not None:
                self._publish(done.written, done.elsewhere, done.vectors)

        done = self._writer.run(write, publish, len(batch.keys), is_relaxed=self._is_relaxed(durability))
        return Upserted(done.written.last_seq if done.written else 0, done.refused)

    def _insert(self, transaction: Transaction, batch: Batch) -> Written:
        """Write the points, what they were made of, and their vectors in the other space."""
        connection = transaction.connection
        written = insert(transaction, self._place, batch)
        if self._first_info.keeps_originals:
            given = zip(written.seqs, batch.points, strict=bool(batch.points))
            keep_originals(
                connection, [(seq, one.original) for seq, one in given if one.original is not None]
            )
        other = self._family.other_place(self._place)
        if other is not None and self._family.upgrade is not None:
            written = insert_others(connection, self._family.upgrade, other, batch, written)
        return written

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
        parked_of = lookup_of(points, parked_place(self._place))

        def write(transaction: Transaction) -> tuple[Written, int] | None:
            self._check_here()
            seqs = seqs_of(transaction.connection)
            parked = parked_of(transaction.connection) if self._family.upgrade is not None else []
            written = rows.delete(transaction, self._place, [*seqs, *parked])
            return None if written is None else (written, len(seqs))

        def publish(made: tuple[Written, int] | None) -> None:
            if made is not None:
                self._publish(made[0], {}, np.empty((0, self._place.dim), np.float32))

        is_relaxed = self._is_relaxed(durability)
        made = self._writer.run(write, publish, size_of(points), is_relaxed=is_relaxed)
        return made[1] if made is not None else 0

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

    def _is_relaxed(self, durability: Durability | None) -> bool:
        return self._durabilities.is_relaxed(self._place, durability)

    def _change_payloads(self, points: Selection, change: Change, durability: Durability | None) -> Changed:
        self._check_here()
        seqs_of = lookup_of(points, self._place)

        def write(transaction: Transaction) -> tuple[Moved, Elsewhere] | None:
            self._check_here()
            rows.check_current(transaction.connection, self._place)
            seqs = sorted(seqs_of(transaction.connection))
            self._family.reserve(len(seqs))
            moved = change_payloads(transaction, self._place, seqs, change)
            if moved is None:
                return None
            return moved, self._family.elsewhere(transaction.connection, self._place, moved.written.seqs)

        def publish(made: tuple[Moved, Elsewhere] | None) -> None:
            if made is not None:
                self._publish(made[0].written, made[1], made[0].vectors)

        made = self._writer.run(write, publish, size_of(points), is_relaxed=self._is_relaxed(durability))
        return Changed(made[0].written.last_seq, len(made[0].vectors)) if made is not None else Changed(0, 0)

    def _publish(self, written: Written, elsewhere: Elsewhere, vectors: F32) -> None:
        self._family.publish(self._place, written, vectors, elsewhere)
