"""Reading a collection: by id, page by page, by likeness. Each call sees one committed state."""

import json
from collections.abc import Collection as Ids
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from nearlight.store import rows
from nearlight.store.best_score import best_scores
from nearlight.store.errors import CollectionNotFound, StoreClosed, WrongSpace, shown
from nearlight.store.exact import Found
from nearlight.store.filters.checks import check_filter, check_path
from nearlight.store.filters.conditions import Filter, HasId, IsEmpty, Path
from nearlight.store.grouping import HitGroup
from nearlight.store.ids import key_of
from nearlight.store.ordering import Order, OrderedPlace
from nearlight.store.points import F32, CollectionInfo, Hit, PointId, Record
from nearlight.store.queries import check_number, checked_span, query_vectors
from nearlight.store.rows import Place
from nearlight.store.searching import Scan, Searcher, Shared
from nearlight.store.view import Head, ReadView


class CollectionReader:
    """The reading half of a collection. Its methods block and any thread may call them."""

    def __init__(self, info: CollectionInfo, place: Place, head: Head, shared: Shared) -> None:
        """Made by the store, with the vectors already in `head`."""
        self._first_info = info
        self._place = place
        self._head = head
        self._writer = shared.writer
        self._readers = shared.readers
        self._scanner = shared.scanner
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
        span = checked_span(limit, offset, score_threshold)
        vectors = self._queries(queries, space_id)
        scan = partial(self._scanner.search, queries=vectors, span=span, with_vectors=with_vectors)
        return self._searcher.search(scan, with_payload)

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
        span = checked_span(limit, offset, score_threshold)
        vectors = self._queries(queries, space_id)
        check_filter(filter)
        scan = partial(self._scanner.search, queries=vectors, span=span, with_vectors=with_vectors)
        return self._searcher.search_matching(scan, filter, with_payload)

    def search_best_score(
        self,
        positive: npt.ArrayLike,
        negative: npt.ArrayLike,
        filter: Filter | None = None,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> tuple[list[Hit], int]:
        """The points nearest to any of the positive vectors; behind them those nearer to a negative.

        Otherwise as `search_matching`.

        Args:
            positive: (P, D), at least one.
            negative: (N, D), may be empty.
            filter: only points that pass; None: all.
            limit: at most so many hits.
            offset: best hits to skip.
            score_threshold: lowest score of a hit; applies before the offset.
            with_payload: return payloads.
            with_vectors: return vectors.
            space_id: the space the vectors come from; checked when given.

        Returns:
            Hits scored by their best cosine with a positive vector, and how many points pass the filter.
        """
        span = checked_span(limit, offset, score_threshold)
        wanted, unwanted = self._queries(positive, space_id), self._queries(negative, space_id)
        if filter is not None:
            check_filter(filter)
        check_number("positive", len(wanted), 1)

        def scan(view: ReadView) -> list[Found]:
            return [best_scores(view, wanted, unwanted, span, with_vectors)]

        if filter is None:
            return self._searcher.search(scan, with_payload)[0], self.count()
        [hits], n_matching = self._searcher.search_matching(scan, filter, with_payload)
        return hits, n_matching

    def search_groups(
        self,
        query: npt.ArrayLike,
        path: Path,
        *,
        n_groups: int,
        group_size: int = 1,
        filter: Filter | None = None,
        left_out: Ids[PointId] = (),
        score_threshold: float | None = None,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> list[HitGroup]:
        """The best points of each value of a payload key, exactly.

        A point with a list at the key is in the group of each item. Points without a string, a number or a
        truth value there are in none.

        Args:
            query: (D,), finite and not zero, any length.
            path: the keys that lead to the value.
            n_groups: at most so many groups.
            group_size: at most so many hits in each.
            filter: only points that pass.
            left_out: ids of points that are in no group.
            score_threshold: lowest score of a hit.
            with_vectors: return vectors.
            space_id: the space the query comes from; checked when given.

        Returns:
            Groups ordered by their best hit.
        """
        check_number("n_groups", n_groups, 1)
        check_number("group_size", group_size, 1)
        check_path(path, "path")
        vectors = self._queries(np.asarray(query)[np.newaxis], space_id)  # (1, D)
        if filter is not None:
            check_filter(filter)
        outside = (IsEmpty(path), HasId(frozenset(left_out)))
        among = Filter(must=() if filter is None else (filter,), must_not=outside)

        def scan_for(limit: int) -> Scan:
            span = checked_span(limit, 0, score_threshold)
            return partial(self._scanner.search, queries=vectors, span=span, with_vectors=with_vectors)

        return self._searcher.search_groups(scan_for, among, path, n_groups, group_size)

    def _queries(self, queries: npt.ArrayLike, space_id: str | None) -> F32:
        self._check_here()
        self._check_space(space_id)
        return query_vectors(queries, self._place.dim)

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of this handle raise `why`; for the store."""
        self._gone = why

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
