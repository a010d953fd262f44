"""Searching a collection: by likeness, by the best of several examples, by groups."""

from collections.abc import Collection as Ids
from functools import partial

import numpy as np
import numpy.typing as npt

from nearlight.store.best_score import best_scores
from nearlight.store.errors import NotInMemory
from nearlight.store.exact import Found
from nearlight.store.filters.checks import check_filter, check_path
from nearlight.store.filters.conditions import Filter, HasId, IsEmpty, Path
from nearlight.store.generations.recall import MeasuredRecall, measure_recall
from nearlight.store.generations.search import Search, SearchParams
from nearlight.store.grouping import HitGroup
from nearlight.store.points import F32, Hit, PointId
from nearlight.store.queries import check_number, checked_span, query_vectors
from nearlight.store.reading import CollectionReader
from nearlight.store.searching import Answer, Scan
from nearlight.store.view import ReadView

CHOSEN = SearchParams()
_TEXTS_NOTED = 8  # of one call, for tuning


class CollectionSearch(CollectionReader):
    """The searches of a collection. Its methods block and any thread may call them."""

    index_kind = "flat"

    def answer(
        self,
        queries: npt.ArrayLike,
        filter: Filter | None = None,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        params: SearchParams = CHOSEN,
        modality: str = "vector",
        space_id: str | None = None,
        memory_only: bool = False,
    ) -> Answer:
        """The nearest points of each query by cosine similarity, and how they were found.

        There are `limit` hits as long as so many points pass the filter. What passes and what is near is
        judged in one committed state.

        Args:
            queries: (Q, D), finite and not zero, any length.
            filter: only points that pass; None: all.
            limit: at most so many hits per query, at least 1.
            offset: best hits to skip.
            score_threshold: lowest score of a hit; applies before the offset.
            with_payload: return payloads.
            with_vectors: return vectors.
            params: how hard to search, where there is an index.
            modality: what the queries were made of: "text", "image", "vector"; recall is watched by it.
            space_id: the space the queries come from; checked when given.
            memory_only: do not read the database, and so wait for no disk; then there can be no filter.

        Returns:
            Hits by score descending, equal scores by seq ascending.

        Raises:
            NotInMemory: the database must be read, and may not.
            InvalidQuery: a bad query vector, limit, offset or threshold, the filter or the params are
                refused.
            WrongSpace: `space_id` is not the collection's.
        """
        span = checked_span(limit, offset, score_threshold)
        params.check()
        if filter is not None:
            check_filter(filter)
        search = Search(
            self._scanner,
            self._queries(queries, space_id),
            span,
            params,
            self.work.settings.wanted_recall,
            with_vectors,
            modality,
        )
        if modality == "text":
            self.work.texts.extend(search.queries[:_TEXTS_NOTED])
        if not memory_only:
            return self._searcher.answer(search, filter, with_payload)
        if filter is not None:
            raise NotInMemory("what passes a filter must be read from the database")
        return self._searcher.answer_from_memory(search, with_payload)

    def measure_recall(self, texts: npt.ArrayLike, *, n_queries: int, limit: int) -> MeasuredRecall:
        """Compare searches, as asked without more, with exact ones over the same points.

        Args:
            texts: (T, D) text queries besides those that the collection saw of late; may be empty.
            n_queries: of each kind, at least 1.
            limit: best hits that count, at least 1.

        Raises:
            InvalidQuery: a number is out of range, or a vector is.
        """
        check_number("n_queries", n_queries, 1)
        check_number("limit", limit, 1)
        seen = self.work.text_queries(self._place.dim)
        asked = np.concatenate([seen, self._queries(texts, None)])
        view, target = self._head.view, self.work.settings.wanted_recall
        return measure_recall(self._scanner, view, asked, n_queries, limit, target)

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
        """The hits of `answer` among all points."""
        return self.answer(
            queries,
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            with_payload=with_payload,
            with_vectors=with_vectors,
            space_id=space_id,
        ).hits

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
        """The hits of `answer` among the points that pass a filter, and how many pass."""
        found = self.answer(
            queries,
            filter,
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            with_payload=with_payload,
            with_vectors=with_vectors,
            space_id=space_id,
        )
        return found.hits, found.n_matching

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
