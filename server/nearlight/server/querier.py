"""Searching: make each query vectors, look them up together where they ask alike, shape the hits."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, Input, Outcome, StageTimes
from nearlight.server.catalog import Catalog, check_min_seq, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.indexes import search_info
from nearlight.server.convert.points import hit_message
from nearlight.server.convert.queries import Example, PointQuery, groups_wish, modality_of, query_wish
from nearlight.server.convert.values import cache_use, fitting, json_bytes, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, NotFound, ServerError
from nearlight.server.patience import Patience
from nearlight.server.prepared_query import Fetched, PreparedQuery, groups_of, hits_of, prepared
from nearlight.server.search_line import SearchLine
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import CollectionInfo, Hit, PointId, VectorCollection, plain_how
from nearlight.v1 import query_pb2


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
        self._line = SearchLine(catalog)

    async def query(
        self,
        request: query_pb2.QueryRequest,
        collection: VectorCollection,
        patience: Patience,
        modality: str | None = None,
    ) -> query_pb2.QueryResponse:
        """The nearest points of one query, from the embedding to the hits in the space of the handle.

        Args:
            request: checked for relevance already.
            collection: the handle that is searched.
            patience: who asks, until when.
            modality: of the query before it became a vector.

        Raises:
            ServerError: see `query_wish`; the query cannot be embedded; no such point.
            StoreError: the store could not.
        """
        ready = await self._ready(collection, request, patience, modality)
        searching = Stopwatch()
        found = await self._line.search(collection, ready)
        return self._response(ready, found.hits[0], found, searching.ms)

    async def query_batch(
        self,
        collection: VectorCollection,
        name: str,
        requests: Sequence[query_pb2.QueryRequest],
        patience: Patience,
        modalities: Sequence[str | None],
    ) -> list[query_pb2.QueryResponse | Exception]:
        """The nearest points of many queries of one collection; one that fails, fails alone.

        Args:
            collection: all are of it.
            name: as it was asked for; the queries name the same or none.
            requests: as they came.
            patience: who asks, until when.
            modalities: of the queries before they became vectors; None: as they are.
        """
        outcomes: dict[int, query_pb2.QueryResponse | Exception] = {}
        alike: dict[object, list[tuple[int, PreparedQuery]]] = defaultdict(list)
        made = await asyncio.gather(
            *(
                self._ready_in_batch(collection, name, request, i, patience, modality)
                for i, (request, modality) in enumerate(zip(requests, modalities, strict=True))
            ),
            return_exceptions=True,
        )
        for i, ready in enumerate(made):
            if isinstance(ready, Exception):
                outcomes[i] = ready
            elif isinstance(ready, BaseException):
                raise ready
            else:
                alike[ready.fetch].append((i, ready))

        async def answer(queries: list[tuple[int, PreparedQuery]]) -> None:
            places = [i for i, _ in queries]
            try:
                responses = await self._search(collection, [ready for _, ready in queries])
            except Exception as error:
                outcomes.update(dict.fromkeys(places, error))
            else:
                outcomes.update(zip(places, responses, strict=True))

        await asyncio.gather(*map(answer, alike.values()))
        return [outcomes[i] for i in range(len(requests))]

    async def query_groups(
        self, request: query_pb2.QueryGroupsRequest, patience: Patience
    ) -> query_pb2.QueryGroupsResponse:
        """The best hits of each value of a payload key.

        Raises:
            ServerError: as `query`; the reply would be too large.
            StoreError: no such collection.
        """
        watch = Stopwatch()
        collection = self._catalog.collection(request.query.collection, "query.collection")
        wish = groups_wish(request, collection.info.dim, self._limits)
        ready = await self._ready(collection, request.query, patience)
        searching = Stopwatch()
        groups = await self._catalog.run(lambda: groups_of(collection, ready, wish))
        messages = [
            query_pb2.HitGroup(
                key_json=json_bytes(group.value),
                hits=[hit_message(hit, wish.query.wanted) for hit in group.hits],
            )
            for group in groups
        ]
        if fitting(messages, self._limits.max_message_bytes) < len(messages):
            reason = (
                f"the reply exceeds {self._limits.max_message_bytes} bytes; ask for fewer groups or parts"
            )
            raise InvalidInput(reason, field="query.limit")
        return query_pb2.QueryGroupsResponse(
            groups=messages,
            info=search_info(
                plain_how(collection.index_kind, ready.info.count),
                ready.info.space_id,
                ready.info.last_seq,
                None,
            ),
            timings=timings(watch.ms, ready.times, search_ms=searching.ms),
        )

    async def _ready(
        self,
        collection: VectorCollection,
        request: query_pb2.QueryRequest,
        patience: Patience,
        modality: str | None = None,
    ) -> PreparedQuery:
        watch = Stopwatch()
        info = collection.info
        check_space(request.space_id, info)
        check_min_seq(request.min_seq, info)
        wish = query_wish(request, info.dim, self._limits)
        examples = (*wish.positive, *wish.negative)
        patience, use = patience.wishing(request.priority), cache_use(request.cache)
        rows, times = await self._vectors_of(examples, collection, info, patience, use)  # (P + N, D)
        return prepared(info, wish, rows, times, watch, modality or modality_of(request.query))

    async def _ready_in_batch(
        self,
        collection: VectorCollection,
        name: str,
        request: query_pb2.QueryRequest,
        i: int,
        patience: Patience,
        modality: str | None,
    ) -> PreparedQuery:
        if request.collection not in ("", name):
            field = f"queries[{i}].collection"
            reason = f"{field} is {request.collection[:80]!r}; it must be empty or {name!r}"
            raise InvalidInput(reason, field=field)
        return await self._ready(collection, request, patience, modality)

    async def _vectors_of(
        self,
        examples: Sequence[Example],
        collection: VectorCollection,
        info: CollectionInfo,
        patience: Patience,
        use: CacheUse,
    ) -> tuple[F32, StageTimes]:
        """A vector for each example: given, embedded, or looked up."""
        sources = [example.source for example in examples]
        rows = np.zeros((len(sources), info.dim), np.float32)
        times = StageTimes()
        inputs = [source for source in sources if isinstance(source, Input)]
        outcomes: Iterator[Outcome] = iter(())
        if inputs:
            embeddings = await self._embedder.embed(self._catalog.model_for(info), inputs, patience, use)
            outcomes, times = iter(embeddings.outcomes), embeddings.times
        points = {source.id: source.field for source in sources if isinstance(source, PointQuery)}
        stored: dict[PointId, F32] = {}
        if points:
            records = await self._catalog.run(lambda: collection.get(list(points), with_vectors=True))
            stored = {record.id: record.vector for record in records if record.vector is not None}
        for i, source in enumerate(sources):
            if isinstance(source, PointQuery):
                if source.id not in stored:
                    reason = f"{source.field} {source.id!r} is not in collection {info.name!r}"
                    raise NotFound(reason, field=source.field)
                rows[i] = stored[source.id]
            elif isinstance(source, Input):
                outcome = next(outcomes)
                if isinstance(outcome, ServerError):
                    raise outcome
                rows[i] = outcome.vector
            else:
                rows[i] = source
        return rows, times

    async def _search(
        self, collection: VectorCollection, queries: Sequence[PreparedQuery]
    ) -> list[query_pb2.QueryResponse]:
        """Search queries that fetch alike."""
        searching = Stopwatch()
        found = await self._catalog.run(lambda: hits_of(collection, queries))
        return [
            self._response(ready, hits, found, searching.ms)
            for ready, hits in zip(queries, found.hits, strict=True)
        ]

    def _response(
        self, ready: PreparedQuery, hits: list[Hit], found: Fetched, search_ms: float
    ) -> query_pb2.QueryResponse:
        messages = [hit_message(hit, ready.wish.wanted) for hit in hits]
        n = fitting(messages, self._limits.max_message_bytes)
        return query_pb2.QueryResponse(
            hits=messages[:n],
            info=search_info(found.how, ready.info.space_id, ready.info.last_seq, found.n_matching),
            timings=timings(ready.watch.ms, ready.times, search_ms=search_ms),
            next_offset=ready.wish.offset + n if n < len(messages) else None,
        )
