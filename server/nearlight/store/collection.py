"""A collection: points of one embedding space, written durably and searched exactly.

What is promised to concurrent callers: a call that writes is atomic (a reader sees all of it or nothing) and
durable when it returns; from then on every read in every thread sees it. A search, a get and a page of a
scroll each see one committed state of the collection.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.store import rows
from nearlight.store.errors import CollectionNotFound, InvalidQuery, StoreClosed, WrongSpace, shown
from nearlight.store.exact import Found, Scanner, Span
from nearlight.store.ids import key_of
from nearlight.store.points import F32, CollectionInfo, Hit, Point, PointId, Record
from nearlight.store.readers import Readers
from nearlight.store.rows import Place, Written
from nearlight.store.validation import Batch, prepare, unit_rows, validate_point
from nearlight.store.view import Head
from nearlight.store.writer import Transaction, Writer

MAX_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Shared:
    """What the collections of one store share."""

    writer: Writer
    readers: Readers
    scanner: Scanner


class Collection:
    """A handle on one collection; get it from a `Store`. Its methods block and any thread may call them."""

    def __init__(self, info: CollectionInfo, place: Place, head: Head, shared: Shared) -> None:
        """Made by the store, with the vectors already in `head`."""
        self._first_info = info
        self._place = place
        self._head = head
        self._writer = shared.writer
        self._readers = shared.readers
        self._scanner = shared.scanner
        self._last_seq = info.last_seq
        self._gone: CollectionNotFound | StoreClosed | None = None

    @property
    def info(self) -> CollectionInfo:
        """The collection as it is now."""
        self._check_here()
        first = self._first_info
        metadata = json.loads(json.dumps(first.metadata))  # the caller's own copy
        count = self._head.view.n_alive
        return CollectionInfo(
            first.name, first.space_id, first.dim, count, first.created_unix_ms, metadata, self._last_seq
        )

    def count(self) -> int:
        """Number of points."""
        self._check_here()
        return self._head.view.n_alive

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

        written = self._writer.run(write, lambda written: self._publish(written, batch), len(batch.keys))
        return written.last_seq

    def delete(self, ids: Sequence[PointId]) -> int:
        """Delete points; ids that do not exist are no error.

        Returns:
            How many points were deleted.

        Raises:
            InvalidPoint: an id is malformed. Nothing was deleted.
            StoreError: the database failed.
        """
        self._check_here()
        keys = [key_of(point_id, i) for i, point_id in enumerate(ids)]
        if not keys:
            return 0

        def write(transaction: Transaction) -> Written | None:
            self._check_here()
            return rows.delete(transaction, self._place, keys)

        written = self._writer.run(write, lambda written: self._publish(written, None), len(keys))
        return len(written.dead) if written else 0

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
        self, after: PointId | None = None, *, limit: int = 100, with_vectors: bool = False
    ) -> tuple[list[Record], PointId | None]:
        """One page of all points, in the order of ids: integers ascending, then strings by their UTF-8 bytes.

        A point that exists during the whole scroll comes exactly once, whatever is written meanwhile; the id
        in `after` need not exist any more.

        Args:
            after: the id that the page before returned as next; None for the first page.
            limit: at most so many points, at least 1.
            with_vectors: return the vectors too.

        Returns:
            The points, and the id to continue after, None when there are no more.

        Raises:
            InvalidQuery: the limit is out of range.
            InvalidPoint: `after` is malformed.
        """
        self._check_here()
        _check_number("limit", limit, 1)
        key = None if after is None else key_of(after)
        with self._readers.snapshot() as connection:
            records = rows.after_key(connection, self._place, key, limit + 1, with_vectors)
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
        self._check_here()
        self._check_space(space_id)
        vectors = _as_queries(queries, self._place.dim)
        _check_number("limit", limit, 1)
        _check_number("offset", offset, 0)
        if score_threshold is not None and not isfinite(score_threshold):
            raise InvalidQuery("score_threshold", str(score_threshold), "it must be a finite number")
        span = Span(limit, offset, score_threshold)
        found = self._scanner.search(self._head.view, vectors, span, with_vectors=with_vectors)
        with self._readers.snapshot() as connection:
            hits = self._hits(rows.by_seqs(connection, self._place, _all_seqs(found)), found, with_payload)
        if hits is not None:
            return hits
        # A hit was replaced or deleted since: take view and database at the same commit.
        with ExitStack() as held:
            with self._writer.publishing:
                connection = held.enter_context(self._readers.snapshot())
                view = self._head.view
            found = self._scanner.search(view, vectors, span, with_vectors=with_vectors)
            hits = self._hits(rows.by_seqs(connection, self._place, _all_seqs(found)), found, with_payload)
        self._check_here()
        if hits is None:
            raise AssertionError("view and database differ at the same commit")
        return hits

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of this handle raise `why`; for the store."""
        self._gone = why

    def _hits(
        self, stored: dict[int, tuple[PointId, str]], found: list[Found], with_payload: bool
    ) -> list[list[Hit]] | None:
        """The hits of every query, or None when a row is no longer stored."""
        try:
            return [
                [
                    Hit(
                        id=stored[seq][0],
                        score=score,
                        payload=json.loads(stored[seq][1]) if with_payload else None,
                        vector=None if one.vectors is None else one.vectors[i],
                        seq=seq,
                    )
                    for i, (seq, score) in enumerate(zip(one.seqs.tolist(), one.scores.tolist(), strict=True))
                ]
                for one in found
            ]
        except KeyError:
            return None

    def _publish(self, written: Written | None, batch: Batch | None) -> None:
        if written is None:
            return
        vectors = batch.vectors if batch is not None else np.empty((0, self._place.dim), np.float32)
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


def _all_seqs(found: list[Found]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([np.empty(0, np.int64), *(one.seqs for one in found)]))


def _as_queries(queries: npt.ArrayLike, dim: int) -> F32:
    try:
        array = np.asarray(queries)
    except ValueError as error:
        raise InvalidQuery(
            "queries", "rows of different lengths", f"the collection's dim is {dim}"
        ) from error
    if array.dtype.kind not in "fiu":
        raise InvalidQuery("queries", f"of type {array.dtype}", "it must hold real numbers")
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidQuery(
            "queries", f"of shape {array.shape}", f"it must be (Q, {dim}): the collection's dim is {dim}"
        )
    with np.errstate(over="ignore"):
        vectors = array.astype(np.float32)  # (Q, D)
    for fault, what, limit in (
        (~np.isfinite(vectors).all(axis=1), "not finite", "its values must be finite float32 numbers"),
        (~vectors.any(axis=1), "all zeros", "its length must not be zero"),
    ):
        if fault.any():
            raise InvalidQuery(f"queries[{int(fault.argmax())}]", what, limit)
    return unit_rows(vectors)


def _check_number(name: str, value: Any, lowest: int) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not lowest <= value <= MAX_LIMIT
    ):
        raise InvalidQuery(name, shown(value), f"it must be an integer in {lowest}..{MAX_LIMIT}")
