"""A query that has its vectors: what it asks of the store, and what becomes of the hits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from nearlight.server.call import F32, StageTimes
from nearlight.server.convert.queries import Example, GroupsWish, PointQuery, QueryWish
from nearlight.server.patience import Patience
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import (
    CollectionFacts,
    Filter,
    Hit,
    HitGroup,
    How,
    PointId,
    SearchParams,
    VectorCollection,
    diverse,
    mean_direction,
    plain_how,
)
from nearlight.v1 import query_pb2


@dataclass(frozen=True, slots=True)
class Fetch:
    """What the store is asked for; queries that ask alike are searched together."""

    is_best_score: bool
    limit: int
    offset: int
    score_threshold: float | None
    payload: bool
    vectors: bool
    filter: Filter | None
    params: SearchParams
    modality: str

    @property
    def is_in_memory(self) -> bool:
        """Whether memory may have all that the search needs."""
        return self.filter is None and not self.is_best_score


class _Options(TypedDict):
    """What all searches of the store take."""

    limit: int
    offset: int
    score_threshold: float | None
    with_payload: bool
    with_vectors: bool


@dataclass(frozen=True, slots=True, eq=False)
class PreparedQuery:
    """A query with its vectors.

    Args:
        facts: of the collection when it was asked.
        wish: the query.
        positive: (P, D); but for a best score the one vector to look near.
        negative: (N, D); none but for a best score.
        left_out: ids of the examples that are points: no hits.
        fetch: what to ask the store for.
        times: what making the vectors took.
        watch: since it came.
    """

    facts: CollectionFacts
    wish: QueryWish
    positive: F32
    negative: F32
    left_out: frozenset[PointId]
    fetch: Fetch
    times: StageTimes
    watch: Stopwatch

    def shaped(self, hits: list[Hit]) -> list[Hit]:
        """The hits wanted of those fetched."""
        wish = self.wish
        if not self.left_out and wish.variety is None:
            return hits
        hits = [hit for hit in hits if hit.id not in self.left_out]
        end = wish.offset + wish.limit
        if wish.variety is None:
            return hits[wish.offset : end]
        hits = hits[: wish.variety.n_candidates]
        scores = np.array([hit.score for hit in hits], np.float32)  # (M,)
        vectors = np.array([hit.vector for hit in hits], np.float32).reshape(
            len(hits), self.facts.dim
        )  # (M, D)
        return [hits[i] for i in diverse(scores, vectors, end, wish.variety.diversity)[wish.offset :]]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A checked query; its examples need not be vectors yet.

    Args:
        request: as it came.
        facts: of the collection.
        wish: the query.
        patience: who asks, until when.
        watch: since it came.
        modality: what it was made of.
    """

    request: query_pb2.QueryRequest
    facts: CollectionFacts
    wish: QueryWish
    patience: Patience
    watch: Stopwatch
    modality: str

    @property
    def examples(self) -> tuple[Example, ...]:
        """All, positive ones first."""
        return (*self.wish.positive, *self.wish.negative)

    def if_given(self) -> PreparedQuery | None:
        """The query, where its examples are vectors; else None.

        Raises:
            InvalidQuery: the examples cancel out.
        """
        examples = self.examples
        rows = [one.source for one in examples if isinstance(one.source, np.ndarray)]
        if len(rows) < len(examples):
            return None
        return self.ready(rows[0][np.newaxis] if len(rows) == 1 else np.array(rows), StageTimes())

    def ready(self, rows: F32, times: StageTimes) -> PreparedQuery:
        """The query with the vectors (P + N, D) of its examples, and what making these took.

        Raises:
            InvalidQuery: the examples cancel out.
        """
        wish = self.wish
        positive, negative = rows[: len(wish.positive)], rows[len(wish.positive) :]
        left_out = frozenset(one.source.id for one in self.examples if isinstance(one.source, PointQuery))
        is_as_given = len(positive) == len(rows) == 1
        if not (wish.is_best_score or is_as_given):
            direction = mean_direction(positive, negative, _weights(wish.positive), _weights(wish.negative))
            positive, negative = direction[np.newaxis], negative[:0]
        fetch = _fetch(wish, len(left_out), self.modality)
        return PreparedQuery(self.facts, wish, positive, negative, left_out, fetch, times, self.watch)


def _weights(examples: Sequence[Example]) -> F32:
    return np.array([example.weight for example in examples], np.float32)


def _fetch(wish: QueryWish, n_left_out: int, modality: str) -> Fetch:
    """As many more as may be left out, and candidates where variety counts."""
    limit, offset = wish.limit, wish.offset
    if wish.variety is not None or n_left_out:
        limit, offset = offset + limit, 0
    if wish.variety is not None:
        limit = wish.variety.n_candidates
    return Fetch(
        wish.is_best_score,
        limit + n_left_out,
        offset,
        wish.score_threshold,
        wish.wanted.payload,
        wish.wanted.vectors or wish.variety is not None,
        wish.filter,
        wish.params,
        modality,
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """The hits of queries that fetch alike.

    Args:
        hits: of each.
        n_matching: points that passed the filter, None without one.
        how: they were found.
    """

    hits: list[list[Hit]]
    n_matching: int | None
    how: How


def hits_of(
    collection: VectorCollection, queries: Sequence[PreparedQuery], *, memory_only: bool = False
) -> Fetched:
    """The hits of queries that fetch alike.

    Args:
        collection: is searched.
        queries: at least one.
        memory_only: do not read the database; not for a best score.

    Raises:
        NotInMemory: it must be read.
        StoreError: the search is refused, or failed.
    """
    fetch = queries[0].fetch
    options = _Options(
        limit=fetch.limit,
        offset=fetch.offset,
        score_threshold=fetch.score_threshold,
        with_payload=fetch.payload,
        with_vectors=fetch.vectors,
    )
    n_matching: int | None = None
    if fetch.is_best_score:
        how = plain_how(collection.index_kind, collection.info.count)
        found: list[list[Hit]] = []
        for query in queries:
            hits, n = collection.search_best_score(query.positive, query.negative, fetch.filter, **options)
            found.append(hits)
            n_matching = None if fetch.filter is None else n
    else:
        vectors = np.concatenate([query.positive for query in queries])  # (Q, D)
        answer = collection.answer(
            vectors,
            fetch.filter,
            params=fetch.params,
            modality=fetch.modality,
            memory_only=memory_only,
            **options,
        )
        found, how = answer.hits, answer.how
        n_matching = None if fetch.filter is None else answer.n_matching
    shaped = [query.shaped(some) for query, some in zip(queries, found, strict=True)]
    return Fetched(shaped, n_matching, how)


def groups_of(collection: VectorCollection, query: PreparedQuery, wish: GroupsWish) -> list[HitGroup]:
    """The best hits of each value of a payload key."""
    return collection.search_groups(
        query.positive[0],
        wish.path,
        n_groups=wish.query.limit,
        group_size=wish.group_size,
        filter=wish.query.filter,
        left_out=query.left_out,
        score_threshold=wish.query.score_threshold,
        with_vectors=wish.query.wanted.vectors,
    )
