"""Searching: make the query a vector, look it up, leave out what was asked with."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from nearlight.server.call import F32, Input, StageTimes
from nearlight.server.catalog import Catalog, check_min_seq, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.points import hit_message
from nearlight.server.convert.queries import PointQuery, QueryWish, query_wish
from nearlight.server.convert.values import fitting, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import NotFound
from nearlight.server.patience import Patience
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import Collection, CollectionInfo, Hit
from nearlight.v1 import query_pb2


@dataclass(frozen=True, slots=True)
class _Sought:
    """The query's vector (D,), and how long it took to make."""

    vector: F32
    times: StageTimes


class _Options(TypedDict):
    """What the store's two searches both take."""

    limit: int
    offset: int
    score_threshold: float | None
    with_payload: bool
    with_vectors: bool


class Querier:
    """Answers queries.

    Args:
        catalog: collections and their models.
        embedder: for images and texts.
        limits: of the server.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder, limits: LimitsConfig) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._limits = limits

    async def query(self, request: query_pb2.QueryRequest, patience: Patience) -> query_pb2.QueryResponse:
        """The nearest points of one query.

        Raises:
            ServerError: see `query_wish`; the query cannot be embedded; no such point.
            StoreError: no such collection.
        """
        watch = Stopwatch()
        collection = self._catalog.collection(request.collection)
        info = collection.info
        check_space(request.space_id, info)
        check_min_seq(request.min_seq, info)
        wish = query_wish(request, info.dim, self._limits)
        sought = await self._sought(wish, collection, info, patience)
        searching = Stopwatch()
        hits, n_matching = await self._catalog.run(lambda: _search(collection, sought.vector, wish))
        return self._response(hits, n_matching, wish, info, sought.times, search_ms=searching.ms, watch=watch)

    async def _sought(
        self, wish: QueryWish, collection: Collection, info: CollectionInfo, patience: Patience
    ) -> _Sought:
        """The vector to look near."""
        target = wish.target
        if isinstance(target, Input):
            model = self._catalog.model_for(info)
            return _Sought(*await self._embedder.embed_one(model, target, patience))
        if isinstance(target, PointQuery):
            records = await self._catalog.run(lambda: collection.get([target.id], with_vectors=True))
            if not records or records[0].vector is None:
                raise NotFound(f"query.id {target.id!r} is not in collection {info.name!r}", field="query.id")
            return _Sought(records[0].vector, StageTimes())
        return _Sought(target, StageTimes())

    def _response(
        self,
        hits: list[Hit],
        n_matching: int | None,
        wish: QueryWish,
        info: CollectionInfo,
        times: StageTimes,
        *,
        search_ms: float,
        watch: Stopwatch,
    ) -> query_pb2.QueryResponse:
        messages = [hit_message(hit, wish.wanted) for hit in hits]
        n = fitting(messages, self._limits.max_message_bytes)
        return query_pb2.QueryResponse(
            hits=messages[:n],
            info=query_pb2.SearchInfo(
                exact=True,
                estimated_recall=1.0,
                space_id=info.space_id,
                index_kind="flat",
                visible_seq=info.last_seq,
                head_points=info.count,
                filtered_count=n_matching,
            ),
            timings=timings(watch.ms, times, search_ms=search_ms),
            next_offset=wish.offset + n if n < len(messages) else None,
        )


def _search(collection: Collection, vector: F32, wish: QueryWish) -> tuple[list[Hit], int | None]:
    """Hits in order, and how many points passed the filter, None where there is none.

    A point asked with is among its own hits: ask for one more and leave it out.
    """
    own = wish.target.id if isinstance(wish.target, PointQuery) else None
    offset, limit = (0, wish.offset + wish.limit + 1) if own is not None else (wish.offset, wish.limit)
    options = _Options(
        limit=limit,
        offset=offset,
        score_threshold=wish.score_threshold,
        with_payload=wish.wanted.payload,
        with_vectors=wish.wanted.vectors,
    )
    n_matching: int | None = None
    if wish.filter is None:
        [hits] = collection.search(vector[np.newaxis], **options)
    else:
        [hits], n_matching = collection.search_matching(vector[np.newaxis], wish.filter, **options)
    if own is None:
        return hits, n_matching
    others = [hit for hit in hits if not (hit.id == own and type(hit.id) is type(own))]
    return others[wish.offset : wish.offset + wish.limit], n_matching
