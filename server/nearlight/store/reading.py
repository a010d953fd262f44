"""Reading a collection: by id, page by page, all of it. Each call sees one committed state."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nearlight.store import rows
from nearlight.store.errors import (
    CollectionNotFound,
    StoreClosed,
    StoreCorrupt,
    WrongSpace,
    shown,
)
from nearlight.store.family import Family
from nearlight.store.filters.checks import check_filter, check_path
from nearlight.store.filters.conditions import Filter
from nearlight.store.generations.work import IndexWork
from nearlight.store.ids import key_of
from nearlight.store.ordering import Order, OrderedPlace
from nearlight.store.points import F32, I64, CollectionFacts, CollectionInfo, PointId, Record
from nearlight.store.queries import check_number
from nearlight.store.rows import Place
from nearlight.store.searching import Searcher, Shared
from nearlight.store.snapshots import SnapshotInfo, write_snapshot
from nearlight.store.verifying import Verification, verify
from nearlight.store.view import Head


class CollectionReader:
    """What a collection says of its points. Its methods block and any thread may call them."""

    def __init__(
        self,
        info: CollectionInfo,
        place: Place,
        head: Head,
        shared: Shared,
        family: Family | None = None,
    ) -> None:
        """Made by the store, with the vectors already in `head`; `family` unless it is the first of one."""
        self._first_info = info
        self._place = place
        self._head = head
        self._writer = shared.writer
        self._readers = shared.readers
        self._scanner = shared.scanner
        self._durabilities = shared.durabilities
        self._row_cache = shared.row_cache
        self._last_seq = info.last_seq
        self._searcher = Searcher(place, shared, lambda: (self._head.view, self._last_seq), self._check_here)
        self._payload_indexes = info.payload_indexes
        self.aliases = info.aliases  # the store keeps them up to date
        self.work = IndexWork(settings=info.index_settings)
        self._gone: CollectionNotFound | StoreClosed | None = None
        self._backlog: list[tuple[I64, F32, Sequence[int], int]] | None = None  # a list while it is loaded
        self._loaded_to = 0
        self._n_late = 0
        self._family = family or Family()
        if family is None:
            self._family.handles.add(self)

    @property
    def info(self) -> CollectionInfo:
        """The collection as it is now."""
        self._check_here()
        first, view = self._first_info, self._head.view
        metadata = json.loads(json.dumps(first.metadata)) if first.metadata else {}  # the caller's own copy
        return replace(
            first,
            count=view.n_alive,
            metadata=metadata,
            last_seq=self._last_seq,
            payload_indexes=self._payload_indexes,
            aliases=self.aliases,
            index_settings=self.work.settings,
            other_space_id=self._family.other_space_id(first.space_id),
            index=self.work.status(view),
            durability=self._durabilities.of(self._place),
        )

    @property
    def facts(self) -> CollectionFacts:
        """What every query asks of `info`, which costs more."""
        self._check_here()
        first = self._first_info
        return CollectionFacts(first.name, first.space_id, first.dim, self._last_seq)

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

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record]:
        """The points with these ids, in this order, without those that do not exist.

        Raises:
            InvalidPoint: an id is malformed.
        """
        self._check_here()
        keys = [key_of(point_id, i) for i, point_id in enumerate(ids)]
        with self._readers.snapshot() as connection:
            try:
                return rows.by_keys(connection, self._place, keys, with_vectors)
            except StoreCorrupt:
                rows.check_current(connection, self._place)  # of its former space not every vector is there
                raise

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

    def scroll_in_order(
        self,
        order: Order,
        after: OrderedPlace | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], OrderedPlace | None]:
        """One page of all points in the order of a payload value; each page looks at every point.

        A point whose value stays comes exactly once, whatever is written meanwhile.

        Args:
            order: which value, and which way.
            after: the place that the page before returned as next; None for the first page.
            limit: at most so many points, at least 1.
            with_vectors: return the vectors too.
            filter: only points that pass.

        Returns:
            The points, and the place to continue after, None when there are no more.

        Raises:
            InvalidQuery: the limit is out of range, or the path or the filter is refused.
        """
        self._check_here()
        check_number("limit", limit, 1)
        check_path(order.path, "order")
        wanted = filter or Filter()
        check_filter(wanted)
        with self._readers.snapshot() as connection:
            records = rows.in_order(connection, self._place, order, after, limit + 1, with_vectors, wanted)
        if len(records) <= limit:
            return records, None
        last = records[limit - 1]
        return records[:limit], order.place_of(last.payload, last.id)

    def verify(self, n_sample: int = 1000) -> Verification:
        """Prove that what searches read is what the database holds: every row, every payload index.

        Writes and searches go on; so many points must find themselves.

        Raises:
            InvalidQuery: the sample is out of range.
            SpaceChanged: the handle is of a former space.
        """
        self._check_here()
        check_number("sample", n_sample, 0)
        with self._searcher.state() as state:
            rows.check_current(state.connection, self._place)
            report = verify(state.connection, self._place, state.view, self._scanner, n_sample)
        self._check_here()  # of a collection that is gone the rows go bit by bit
        return report

    def write_snapshot(self, folder: Path) -> SnapshotInfo:
        """Write the collection, as it is now, to a file in a folder; for the store.

        Raises:
            SpaceChanged: the handle is of a former space.
        """
        self._check_here()
        with self._searcher.state() as state:
            rows.check_current(state.connection, self._place)
            info = replace(self.info, last_seq=state.last_seq)
            return write_snapshot(folder, state.connection, self._place, info)

    # ---- for the thread that keeps indexes

    @property
    def place(self) -> Place:
        """Of the rows."""
        return self._place

    @property
    def head(self) -> Head:
        """Of the vectors."""
        return self._head

    @property
    def space_id(self) -> str:
        """Of the vectors."""
        return self._first_info.space_id

    @property
    def last_seq(self) -> int:
        """Of the last write."""
        return self._last_seq

    @property
    def is_gone(self) -> bool:
        """It was deleted, or the store closed."""
        return self._gone is not None

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of this handle raise `why`; for the store."""
        self._gone = why
        self._row_cache.clear()

    def _take(self, seqs: I64, vectors: F32, dead: Sequence[int], last_seq: int) -> None:
        """Show a committed write to later reads; for the family, in the writer's thread.

        Args:
            seqs: (N,) ascending, of the rows that have a vector in this space.
            vectors: (N, D) of them.
            dead: seqs that died.
            last_seq: of the collection.
        """
        if self._backlog is not None:
            self._backlog.append((seqs, vectors, dead, last_seq))
            return
        if self._family.upgrade is not None:  # the view may lack what died, or have what is told again
            fresh = seqs > self._loaded_to
            seqs, vectors = seqs[fresh], vectors[fresh]
            dead = self._head.view.alive_among(np.sort(np.array(dead, np.int64))).tolist()
        self._head.publish(seqs, vectors, dead)
        self._last_seq = max(last_seq, self._last_seq)
        self._row_cache.drop(dead)

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
