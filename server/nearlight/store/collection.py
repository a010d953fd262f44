"""A collection: points of one embedding space, written durably and searched exactly.

What is promised to concurrent callers: a call that writes is atomic (a reader sees all of it or nothing) and
durable when it returns; from then on every read in every thread sees it. A search, a get and a page of a
scroll each see one committed state of the collection.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.store import rows
from nearlight.store.errors import CollectionNotFound, InvalidQuery, StoreClosed, WrongSpace, shown
from nearlight.store.filters.checks import check_filter, check_path
from nearlight.store.filters.conditions import Filter, Path
from nearlight.store.filters.indexes import PAYLOAD_KINDS, change_index
from nearlight.store.ids import key_of
from nearlight.store.payload_rows import Moved, change_payloads
from nearlight.store.payloads import Change, emptying, removing, setting
from nearlight.store.points import (
    F32,
    Changed,
    CollectionInfo,
    Hit,
    PayloadIndex,
    PayloadKind,
    Point,
    PointId,
    Record,
)
from nearlight.store.queries import check_number, checked_span, query_vectors
from nearlight.store.rows import Place, Written
from nearlight.store.searching import Searcher, Shared, Wanted
from nearlight.store.selection import Selection, lookup_of, size_of
from nearlight.store.validation import payload_text, prepare, validate_point
from nearlight.store.view import Head
from nearlight.store.writer import Transaction


class Collection:
    """A handle on one collection; get it from a `Store`. Its methods block and any thread may call them."""

    def __init__(self, info: CollectionInfo, place: Place, head: Head, shared: Shared) -> None:
        """Made by the store, with the vectors already in `head`."""
        self._first_info = info
        self._place = place
        self._head = head
        self._writer = shared.writer
        self._readers = shared.readers
        self._last_seq = info.last_seq
        self._searcher = Searcher(place, shared, lambda: (self._head.view, self._last_seq), self._check_here)
        self._payload_indexes = info.payload_indexes
        self.aliases = info.aliases  # the store keeps them up to date
        self._gone: CollectionNotFound | StoreClosed | None = None

    @property
    def info(self) -> CollectionInfo:
        """The collection as it is now."""
        self._check_here()
        first = self._first_info
        metadata = json.loads(json.dumps(first.metadata))  # the caller's own copy
        count = self._head.view.n_alive
        return replace(
            first,
            count=count,
            metadata=metadata,
            last_seq=self._last_seq,
            payload_indexes=self._payload_indexes,
            aliases=self.aliases,
        )

    def count(self, filter: Filter | None = None) -> int:
        """Number of points, or of those that pass the filter.

        Raises:
            InvalidQuery: the filter is refused.
        """
        self._check_here()
        if filter is None:
            return self._head.view.n_alive
        check_filter(filter)
        return self._searcher.count_matching(filter)

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
            StoreFull: no room on the disk. Nothing was stored.
            StoreError: the database failed.
        """
        self._check_here()
        self._check_space(space_id)
        if not points:
            return self._last_seq
        batch = prepare(points, self._place.dim)

        def write(transaction: Transaction) -> Written:
            self._check_here()
            self._head.reserve(len(batch.keys))
            return rows.insert(transaction, self._place, batch)

        written = self._writer.run(
            write, lambda written: self._publish(written, batch.vectors), len(batch.keys)
        )
        return written.last_seq

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

        def write(transaction: Transaction) -> Written | None:
            self._check_here()
            return rows.delete(transaction, self._place, seqs_of(transaction.connection))

        written = self._writer.run(write, lambda written: self._publish(written, None), size_of(points))
        return len(written.dead) if written else 0

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

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record]:
        """The points with these ids, in this order, without those that do not exist.

        Raises:
            InvalidPoint: an id is malformed.
        """
        self._check_here()
        keys = [key_of(point_id, i) for i, point_id in enumerate(ids)]
        with self._readers.snapshot() as connection:
            return rows.by_keys(connection, self._place, keys, with_vectors)

    def scroll(
        self,
        after: PointId | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], PointId | None]:
        """One page of all points, in the order of ids: integers ascending, then strings by their UTF-8 bytes.

        A point that exists during the whole scroll comes exactly once, whatever is written meanwhile; the id
        in `after` need not exist any more.

        Args:
            after: the id that the page before returned as next; None for the first page.
            limit: at most so many points, at least 1.
            with_vectors: return the vectors too.
            filter: only points that pass.

        Returns:
            The points, and the id to continue after, None when there are no more.

        Raises:
            InvalidQuery: the limit is out of range, or the filter is refused.
            InvalidPoint: `after` is malformed.
        """
        self._check_here()
        check_number("limit", limit, 1)
        if filter is not None:
            check_filter(filter)
        key = None if after is None else key_of(after)
        with self._readers.snapshot() as connection:
            records = rows.after_key(connection, self._place, key, limit + 1, with_vectors, filter)
        if len(records) <= limit:
            return records, None
        return records[:limit], records[limit - 1].id

    def search(
        self,
        queries: npt.ArrayLike,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> list[list[Hit]]:
        """The nearest points of each query, exactly, by cosine similarity.

        Args:
            queries: (Q, D), finite and not zero, any length.
            limit: at most so many hits per query, at least 1.
            offset: best hits to skip.
            score_threshold: lowest score of a hit; applies before the offset.
            with_payload: return payloads.
            with_vectors: return vectors.
            space_id: the space the queries come from; checked when given.

        Returns:
            Q lists of hits, by score descending; equal scores by seq ascending.

        Raises:
            InvalidQuery: a bad query vector, limit, offset or threshold.
            WrongSpace: `space_id` is not the collection's.
        """
        wanted = Wanted(checked_span(limit, offset, score_threshold), with_payload, with_vectors)
        return self._search(queries, wanted, None, space_id)[0]

    def search_matching(
        self,
        queries: npt.ArrayLike,
        filter: Filter,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> tuple[list[list[Hit]], int]:
        """The nearest of the points that pass a filter, exactly; otherwise as `search`.

        There are `limit` hits as long as so many points pass. What passes and what is near is judged in one
        committed state.

        Returns:
            Q lists of hits, and how many points pass the filter.
        """
        wanted = Wanted(checked_span(limit, offset, score_threshold), with_payload, with_vectors)
        return self._search(queries, wanted, filter, space_id)

    def _search(
        self, queries: npt.ArrayLike, wanted: Wanted, filter: Filter | None, space_id: str | None
    ) -> tuple[list[list[Hit]], int]:
        self._check_here()
        self._check_space(space_id)
        vectors = query_vectors(queries, self._place.dim)
        if filter is not None:
            check_filter(filter)
            hits, n_matching = self._searcher.search_matching(vectors, filter, wanted)
        else:
            hits, n_matching = self._searcher.search(vectors, wanted), self.count()
        return hits, n_matching

    def _change_index(self, path: Path, kind: PayloadKind | None) -> None:
        self._check_here()
        check_path(path, "key")

        def write(transaction: Transaction) -> tuple[PayloadIndex, ...]:
            self._check_here()
            return change_index(transaction.connection, self._place.collection_id, path, kind)

        def publish(indexes: tuple[PayloadIndex, ...]) -> None:
            self._payload_indexes = indexes

        self._writer.run(write, publish)

    def _change_payloads(self, points: Selection, change: Change) -> Changed:
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

        moved = self._writer.run(write, publish, size_of(points))
        return Changed(moved.written.last_seq, len(moved.vectors)) if moved is not None else Changed(0, 0)

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of this handle raise `why`; for the store."""
        self._gone = why

    def _publish(self, written: Written | None, vectors: F32 | None) -> None:
        if written is None:
            return
        if vectors is None:
            vectors = np.empty((0, self._place.dim), np.float32)
        self._head.publish(np.array(written.seqs, np.int64), vectors, written.dead)
        self._last_seq = written.last_seq

    def _check_here(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _check_space(self, space_id: str | None) -> None:
        own = self._first_info.space_id
        if space_id is not None and space_id != own:
            name = self._first_info.name
            raise WrongSpace(
                f"the vectors are of space {shown(space_id)}, collection {name!r} is of space {shown(own)}"
            )
