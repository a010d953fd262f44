"""A collection: points of one embedding space, written durably and searched exactly.

What is promised to concurrent callers: a call that writes is atomic (a reader sees all of it or nothing) and
durable when it returns; from then on every read in every thread sees it. A search, a get and a page of a
scroll each see one committed state of the collection.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace as replace_fields
from typing import Any

import numpy as np

from nearlight.store import rows
from nearlight.store.collection_search import CollectionSearch
from nearlight.store.creating import metadata_text
from nearlight.store.errors import InvalidQuery, shown
from nearlight.store.family import Elsewhere
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Path
from nearlight.store.filters.indexes import PAYLOAD_KINDS, change_index
from nearlight.store.generations.settings import IndexSettings, store_settings
from nearlight.store.originals import keep_originals
from nearlight.store.parking import parked_place
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
from nearlight.store.upgrade_rows import insert_others
from nearlight.store.validation import payload_text, prepare, validate_point
from nearlight.store.writer import Transaction


class Collection(CollectionSearch):
    """A handle on one collection; get it from a `Store`. Its methods block and any thread may call them."""

    def validate_point(self, point: Point, index: int | None = None) -> None:
        """Check a point as `upsert` would.

        Raises:
            InvalidPoint: names the field, the value and the limit.
        """
        validate_point(point, self._place.dim, index)

    def upsert(self, points: Sequence[Point], *, space_id: str | None = None) -> int:
        """Insert points, or replace those with the same ids; all of them or none.

        Args:
            points: of the same id the last one wins.
            space_id: the space the vectors come from; checked when given.

        Returns:
            The seq of the last point; the collection's last seq when there are no points.

        Raises:
            InvalidPoint: one point is bad; `index` says which. Nothing was stored.
            WrongSpace: `space_id` is not the collection's.
            SpaceChanged: the collection has changed its model; nothing was stored.
            StoreFull: no room on the disk. Nothing was stored.
            StoreError: the database failed.
        """
        self._check_here()
        self._check_space(space_id)
        if not points:
            return self._last_seq
        batch = prepare(points, self._place.dim)

        def write(transaction: Transaction) -> tuple[Written, Elsewhere]:
            self._check_here()
            self._family.reserve(len(batch.keys))
            written = rows.insert(transaction, self._place, batch)
            if self._first_info.keeps_originals:
                given = zip(written.seqs, batch.points, strict=True)
                originals = [(seq, one.original) for seq, one in given if one.original is not None]
                keep_originals(transaction.connection, originals)
            other = self._family.other_place(self._place)
            if other is not None and self._family.upgrade is not None:
                written = insert_others(transaction.connection, self._family.upgrade, other, batch, written)
            return written, self._family.elsewhere(transaction.connection, self._place, written.seqs)

        written = self._writer.run(write, lambda made: self._publish(*made, batch.vectors), len(batch.keys))
        return written[0].last_seq

    def delete(self, points: Selection) -> int:
        """Delete points by id or by filter; ids that do not exist are no error.

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

        made = self._writer.run(write, publish, size_of(points))
        return made[1] if made is not None else 0

    def set_payload(
        self, points: Selection, payload: Mapping[str, Any], *, path: Path = (), replace: bool = False
    ) -> Changed:
        """Set keys of the payload of points, all of them or none; ids that do not exist are no error.

        Args:
            points: ids or a filter.
            payload: keys and values to set.
            path: keys that lead to the object to set them in, made where missing; by default the payload.
            replace: that object becomes `payload`; else its other keys stay.

        Raises:
            InvalidPoint: an id is malformed, or a payload would be refused by `upsert`. Nothing was changed.
            InvalidQuery: the filter or the path is refused.
        """
        payload_text(payload)
        if path:
            check_path(path, "key")
        return self._change_payloads(points, setting(payload, path, replace))

    def delete_payload(self, points: Selection, paths: Sequence[Path] | None = None) -> Changed:
        """Remove keys from the payload of points, all of it by default; keys that are missing are no error.

        Args:
            points: ids or a filter.
            paths: for each key to remove, the keys that lead to it and itself.

        Raises:
            InvalidPoint: an id is malformed. Nothing was changed.
            InvalidQuery: the filter or a path is refused.
        """
        for i, path in enumerate(paths or ()):
            check_path(path, f"keys[{i}]")
        return self._change_payloads(points, emptying() if paths is None else removing(paths))

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

    def replace_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Keep other metadata with the collection.

        Raises:
            InvalidCollection: it is no JSON object, or above 1 MiB.
        """
        self._check_here()
        text = metadata_text(metadata)

        def write(transaction: Transaction) -> None:
            self._check_here()
            statement = "UPDATE collections SET metadata = ? WHERE collection_id = ?"
            transaction.connection.execute(statement, (text, self._place.collection_id))

        def publish(_: None) -> None:
            self._first_info = replace_fields(self._first_info, metadata=json.loads(text))

        self._writer.run(write, publish)

    def configure_index(self, settings: IndexSettings) -> None:
        """Change how the collection is indexed; an index that is due then is built in the background.

        Raises:
            InvalidCollection: a number is out of range.
        """
        self._check_here()
        settings.check()

        def write(transaction: Transaction) -> None:
            self._check_here()
            store_settings(transaction.connection, self._place.collection_id, settings)

        def publish(_: None) -> None:
            self.work.settings = settings
            self.work.retry_at = 0.0

        self._writer.run(write, publish)

    def _change_index(self, path: Path, kind: PayloadKind | None) -> None:
        self._check_here()
        check_path(path, "key")

        def write(transaction: Transaction) -> tuple[PayloadIndex, ...]:
            self._check_here()
            return change_index(transaction.connection, self._place.collection_id, path, kind)

        self._writer.run(write, self._family.show_payload_indexes)

    def _change_payloads(self, points: Selection, change: Change) -> Changed:
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

        made = self._writer.run(write, publish, size_of(points))
        return Changed(made[0].written.last_seq, len(made[0].vectors)) if made is not None else Changed(0, 0)

    def _publish(self, written: Written, elsewhere: Elsewhere, vectors: F32) -> None:
        self._family.publish(self._place, written, vectors, elsewhere)
