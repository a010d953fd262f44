"""A collection in an engine: its points, and searches of them."""

from collections.abc import Collection as Ids
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.store.durability import Durability
from nearlight.store.engines.engine import Parts, Row
from nearlight.store.engines.expressions import NOTHING, Expression
from nearlight.store.engines.points import EnginePoints
from nearlight.store.engines.resolving import resolved
from nearlight.store.errors import InvalidQuery, NotInMemory, NotOnThisEngine
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Filter, HasId, IsEmpty, Path
from nearlight.store.generations.search import NO_PARAMS, SearchParams, plain_how
from nearlight.store.generations.settings import IndexSettings
from nearlight.store.grouping import HitGroup, grouped
from nearlight.store.points import F32, Hit, PayloadKind, PointId
from nearlight.store.queries import check_number, checked_span, query_vectors
from nearlight.store.searching import Answer

_FIRST_CANDIDATES = 64
_WIDEN = 4


class EngineCollection(EnginePoints):
    """A handle on one collection; get it from an `EngineStore`.

    What the methods take, give and raise is said at `Collection`.
    """

    @property
    def index_kind(self) -> str:
        """Of the engine."""
        return self._engine.index_kind

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
        space_id: str | None = None,
        params: SearchParams = NO_PARAMS,
        modality: str = "vector",
        memory_only: bool = False,
    ) -> Answer:
        """The nearest points of each query, of those that pass a filter.

        Raises:
            NotInMemory: the engine may not be asked.
            NotOnThisEngine: it is asked how hard to search, and the engine does not compare all points.
        """
        checked_span(limit, offset, score_threshold)
        params.check()
        if memory_only:
            raise NotInMemory(f"what is in {self._engine.name} must be asked for there")
        if params != NO_PARAMS and self._engine.index_kind != "flat":
            raise self._refused("how hard to search", "its own settings decide")
        vectors = self._queries(queries, space_id)
        where, parts = resolved(self._engine, self._name, filter), Parts(with_payload, with_vectors)
        hits = self._nearest(vectors, where, limit, offset, score_threshold, parts)
        n_matching = self.n_points if filter is None else self._count(where)
        return Answer(hits, n_matching, plain_how(self.index_kind, n_matching), self._clock.now())

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

        Looks at the nearest points of each positive vector, at more and more of them until what is left
        cannot come before the hits.
        """
        checked_span(limit, offset, score_threshold)
        wanted, unwanted = self._queries(positive, space_id), self._queries(negative, space_id)
        check_number("positive", len(wanted), 1)
        where = resolved(self._engine, self._name, filter)
        n_matching, n_best = self._count(where), limit + offset
        n_seen = max(_FIRST_CANDIDATES, _WIDEN * n_best)
        while True:
            n_seen = min(n_seen, self._engine.limits.hits)
            found = self._search(wanted, where, n_seen, 0, Parts(with_payload, True))
            is_all = min(map(len, found)) < n_seen
            surely_from = -2.0 if is_all else max(hits[-1].score for hits in found)
            ranked = _best_first({hit.id: hit for some in found for hit in some}, wanted, unwanted)
            best = ranked[: _n_before(ranked, surely_from)]
            if is_all or len(best) >= n_best:
                break
            if n_seen == self._engine.limits.hits:
                raise self._beyond("best_score", n_matching)
            n_seen *= _WIDEN
        chosen = [hit if with_vectors else replace(hit, vector=None) for _, hit in best]
        if score_threshold is not None:
            chosen = [hit for hit in chosen if hit.score >= np.float32(score_threshold)]
        return chosen[offset:n_best], n_matching

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
        """The best points of each value of a payload key."""
        check_number("n_groups", n_groups, 1)
        check_number("group_size", group_size, 1)
        check_path(path, "path")
        checked_span(1, 0, score_threshold)
        vectors = self._queries(np.asarray(query)[np.newaxis], space_id)  # (1, D)
        outside = (IsEmpty(path), HasId(frozenset(left_out)))
        among = Filter(must=() if filter is None else (filter,), must_not=outside)

        def best(limit: int, passing: Filter) -> list[Hit]:
            where, parts = resolved(self._engine, self._name, passing), Parts(True, with_vectors)
            most = self._engine.limits.hits
            hits = self._nearest(vectors, where, min(limit, most), 0, score_threshold, parts)[0]
            if len(hits) == most < limit:
                raise self._beyond("groups", self._count(where))
            return hits

        return grouped(best, among, path, n_groups, group_size)

    def update(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
        index: IndexSettings | None = None,
    ) -> None:
        """Refused, unless nothing is to be changed.

        Raises:
            NotOnThisEngine: something is.
        """
        self._check_here()
        if (metadata, durability, index) != (None, None, None):
            raise self._refused("UpdateCollection", "what it was made with stays")

    def create_payload_index(self, path: Path, kind: PayloadKind) -> None:
        """Refused: the engine indexes what it filters by, for every key.

        Raises:
            NotOnThisEngine: always.
        """
        raise NotOnThisEngine(
            f"payload indexes are for the embedded store; collection {self._name!r} is in "
            f"{self._engine.name}, where every payload key has its index"
        )

    def delete_payload_index(self, path: Path) -> None:
        """Refused; see `create_payload_index`.

        Raises:
            NotOnThisEngine: always.
        """
        self.create_payload_index(path, "keyword")

    def _refused(self, what: str, why: str) -> NotOnThisEngine:
        return NotOnThisEngine(
            f"{what}: only the embedded store can; collection {self._name!r} is in {self._engine.name}: {why}"
        )

    def _beyond(self, what: str, n_points: int) -> NotOnThisEngine:
        most = self._engine.limits.hits
        return NotOnThisEngine(
            f"{what}: the answer cannot be told from the nearest {most} of {n_points} points, and "
            f"{self._engine.name} gives no more: add a filter that narrows it"
        )

    def _queries(self, queries: npt.ArrayLike, space_id: str | None) -> F32:
        self._check_here()
        self._check_space(space_id)
        return query_vectors(queries, self.definition.dim)

    def _nearest(
        self,
        queries: F32,
        where: Expression,
        limit: int,
        offset: int,
        score_threshold: float | None,
        parts: Parts,
    ) -> list[list[Hit]]:
        most = self._engine.limits.hits
        if limit + offset > most:
            bound = f"the limit of {self._engine.name} is {most}"
            raise InvalidQuery("limit + offset", str(limit + offset), bound)
        found = self._search(queries, where, limit, offset, parts)
        if score_threshold is None:
            return found
        least = np.float32(score_threshold)
        return [[hit for hit in hits if hit.score >= least] for hits in found]

    def _search(
        self, queries: F32, where: Expression, limit: int, offset: int, parts: Parts
    ) -> list[list[Hit]]:
        if where == NOTHING or not len(queries):
            return [[] for _ in queries]
        found = self._engine.search(self._name, queries, where, limit, offset, parts)
        hit = partial(_hit, with_payload=parts.payload)
        return [sorted((hit(*one) for one in some), key=lambda hit: (-hit.score, hit.seq)) for some in found]


def _hit(row: Row, score: float, with_payload: bool) -> Hit:
    payload = row.payload if with_payload else None
    return Hit(row.id, min(1.0, max(-1.0, score)), payload, row.vector, row.seq)


def _best_first(hits: dict[PointId, Hit], positive: F32, negative: F32) -> list[tuple[bool, Hit]]:
    """Each with its best positive score, and whether it is behind: nearer to a negative vector."""
    if not hits:
        return []
    vectors = np.stack([hit.vector for hit in hits.values() if hit.vector is not None])  # (H, D)
    scores = np.clip((vectors @ positive.T).max(axis=1), -1, 1)  # (H,)
    behind = np.zeros(len(scores), bool)
    if len(negative):
        behind = (vectors @ negative.T).max(axis=1) > scores
    placed = [
        (bool(is_behind), replace(hit, score=float(score)))
        for is_behind, score, hit in zip(behind, scores, hits.values(), strict=True)
    ]
    return sorted(placed, key=lambda one: (one[0], -one[1].score, one[1].seq))


def _n_before(hits: list[tuple[bool, Hit]], surely_from: float) -> int:
    """How many of the first no unseen point can come before."""
    if surely_from < -1:
        return len(hits)
    return sum(not is_behind and hit.score >= surely_from for is_behind, hit in hits)
