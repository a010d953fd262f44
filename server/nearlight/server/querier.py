"""Searching: make each query vectors, look them up together where they ask alike, shape the hits."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nearlight.server.call import F32, Input, Outcome, StageTimes
from nearlight.server.catalog import Catalog, check_min_seq, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.indexes import fill_search_info
from nearlight.server.convert.points import add_hits
from nearlight.server.convert.queries import PointQuery, groups_wish, modality_of, query_wish
from nearlight.server.convert.values import cache_use, cut, fitting, json_bytes, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, NotFound, ServerError
from nearlight.server.patience import Patience
from nearlight.server.prepared_query import Asked, Fetch, Fetched, PreparedQuery, groups_of, hits_of
from nearlight.server.search_line import SearchLine
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import CollectionFacts, Hit, PointId, VectorCollection, plain_how
from nearlight.v1 import query_pb2


class Querier:
    """Answers queries.

    Args:
        catalog: collections and their models.
        embedder: for images and texts.
        limits: of the server.
        n_calls: tells how many calls are under way.
    """

    def __init__(
        self, catalog: Catalog, embedder: Embedder, limits: LimitsConfig, n_calls: Callable[[], int]
    ) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._limits = limits
        self._line = SearchLine(catalog, n_calls)

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
        asked = self._asked(request, collection.facts, patience, modality)
        ready = asked.if_given() or await self._ready(asked, collection)
        searching = Stopwatch()
        found = await self._line.search(collection, ready)
        reply = query_pb2.QueryResponse()
        self._fill(reply, ready, found.hits[0], found, searching.ms)
        return reply

    async def query_batch(
        self,
        collection: VectorCollection,
        name: str,
        requests: Sequence[query_pb2.QueryRequest],
        patience: Patience,
        modalities: Sequence[str | None],
        replies: Sequence[query_pb2.QueryResponse],
    ) -> dict[int, Exception]:
        """The nearest points of many queries of one collection; one that fails, fails alone.

        Args:
            collection: all are of it.
            name: as it was asked for; the queries name the same or none.
            requests: as they came.
            patience: who asks, until when.
            modalities: of the queries before they became vectors; None: as they are.
            replies: are filled, but for those that fail.

        Returns:
            What the others failed of, by their place.
        """
        failures: dict[int, Exception] = {}
        ready: dict[int, PreparedQuery] = {}
        to_make: dict[int, Asked] = {}
        facts = collection.facts
        for i, (request, modality) in enumerate(zip(requests, modalities, strict=True)):
            try:
                _check_name(request, name, i)
                asked = self._asked(request, facts, patience, modality)
                if (given := asked.if_given()) is None:
                    to_make[i] = asked
                else:
                    ready[i] = given
            except Exception as error:
                failures[i] = error
        await self._make_ready(to_make, collection, ready, failures)
        alike: dict[Fetch, list[int]] = defaultdict(list)
        for i, query in sorted(ready.items()):
            alike[query.fetch].append(i)

        async def answer(places: list[int]) -> None:
            searching, queries = Stopwatch(), [ready[i] for i in places]
            try:
                found = await self._catalog.run(lambda: hits_of(collection, queries))
                for i, query, hits in zip(places, queries, found.hits, strict=True):
                    self._fill(replies[i], query, hits, found, searching.ms)
            except Exception as error:
                failures.update(dict.fromkeys(places, error))

        await asyncio.gather(*map(answer, alike.values()))
        return failures

    async def _make_ready(
        self,
        to_make: Mapping[int, Asked],
        collection: VectorCollection,
        ready: dict[int, PreparedQuery],
        failures: dict[int, Exception],
    ) -> None:
        """Put each query that gets its vectors among those ready, and what others fail of into `failures`."""
        made = (self._ready(asked, collection) for asked in to_make.values())
        for i, one in zip(to_make, await asyncio.gather(*made, return_exceptions=True), strict=True):
            if isinstance(one, PreparedQuery):
                ready[i] = one
            elif isinstance(one, Exception):
                failures[i] = one
            else:
                raise one

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
        wish = groups_wish(request, collection.facts.dim, self._limits)
        asked = self._asked(request.query, collection.facts, patience)
        ready = asked.if_given() or await self._ready(asked, collection)
        searching = Stopwatch()
        groups = await self._catalog.run(lambda: groups_of(collection, ready, wish))
        reply = query_pb2.QueryGroupsResponse()
        for group in groups:
            add_hits(reply.groups.add(key_json=json_bytes(group.value)).hits, group.hits, wish.query.wanted)
        if fitting(reply.groups, self._limits.max_message_bytes) < len(groups):
            reason = (
                f"the reply exceeds {self._limits.max_message_bytes} bytes; ask for fewer groups or parts"
            )
            raise InvalidInput(reason, field="query.limit")
        fill_search_info(
            reply.info, plain_how(collection.index_kind, collection.info.count), ready.facts, None
        )
        reply.timings.CopyFrom(timings(watch.ms, ready.times, search_ms=searching.ms))
        return reply

    def _asked(
        self,
        request: query_pb2.QueryRequest,
        facts: CollectionFacts,
        patience: Patience,
        modality: str | None = None,
    ) -> Asked:
        """A query, checked."""
        watch = Stopwatch()
        check_space(request.space_id, facts)
        check_min_seq(request.min_seq, facts)
        wish = query_wish(request, facts.dim, self._limits)
        patience = patience.wishing(request.priority)
        return Asked(request, facts, wish, patience, watch, modality or modality_of(request.query))

    async def _ready(self, asked: Asked, collection: VectorCollection) -> PreparedQuery:
        """A query with a vector for each example: given, embedded, or looked up."""
        facts, sources = asked.facts, [example.source for example in asked.examples]
        rows = np.zeros((len(sources), facts.dim), np.float32)  # (P + N, D)
        times = StageTimes()
        inputs = [source for source in sources if isinstance(source, Input)]
        outcomes: Iterator[Outcome] = iter(())
        if inputs:
            model, use = self._catalog.model_for(facts), cache_use(asked.request.cache)
            embeddings = await self._embedder.embed(model, inputs, asked.patience, use)
            outcomes, times = iter(embeddings.outcomes), embeddings.times
        stored = await self._stored([one for one in sources if isinstance(one, PointQuery)], collection)
        for i, source in enumerate(sources):
            if isinstance(source, PointQuery):
                if source.id not in stored:
                    reason = f"{source.field} {source.id!r} is not in collection {facts.name!r}"
                    raise NotFound(reason, field=source.field)
                rows[i] = stored[source.id]
            elif isinstance(source, Input):
                outcome = next(outcomes)
                if isinstance(outcome, ServerError):
                    raise outcome
                rows[i] = outcome.vector
            else:
                rows[i] = source
        return asked.ready(rows, times)

    async def _stored(
        self, sources: Sequence[PointQuery], collection: VectorCollection
    ) -> dict[PointId, F32]:
        """The vectors (D,) of the points that exist."""
        if not sources:
            return {}
        ids = list({source.id: None for source in sources})
        records = await self._catalog.run(lambda: collection.get(ids, with_vectors=True))
        return {record.id: record.vector for record in records if record.vector is not None}

    def _fill(
        self,
        reply: query_pb2.QueryResponse,
        ready: PreparedQuery,
        hits: list[Hit],
        found: Fetched,
        search_ms: float,
    ) -> None:
        """Write what was found into a reply, as much as fits."""
        add_hits(reply.hits, hits, ready.wish.wanted)
        n = cut(reply.hits, reply.ByteSize(), self._limits.max_message_bytes)
        if n is not None:
            reply.next_offset = ready.wish.offset + n
        fill_search_info(reply.info, found.how, ready.facts, found.n_matching)
        reply.timings.CopyFrom(timings(ready.watch.ms, ready.times, search_ms=search_ms))


def _check_name(request: query_pb2.QueryRequest, name: str, i: int) -> None:
    if request.collection not in ("", name):
        field = f"queries[{i}].collection"
        reason = f"{field} is {request.collection[:80]!r}; it must be empty or {name!r}"
        raise InvalidInput(reason, field=field)
