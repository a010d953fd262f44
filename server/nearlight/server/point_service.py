"""nearlight.v1.PointService."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from nearlight.server.catalog import Catalog, check_min_seq
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.filters import wanted_filter
from nearlight.server.convert.pages import cursor_after, page_of, page_wish
from nearlight.server.convert.payloads import ChangeOf, removing, selected_points, setting
from nearlight.server.convert.points import record_message, wanted_parts
from nearlight.server.convert.terms import durability_of
from nearlight.server.convert.values import (
    batch_error,
    check_count,
    cut,
    dtype_of,
    fitting,
    point_id_of,
    timings,
)
from nearlight.server.duplicate_desk import DuplicateDesk
from nearlight.server.health import Health
from nearlight.server.in_order import in_order
from nearlight.server.log import get_logger
from nearlight.server.metrics import observe
from nearlight.server.patience import Patience, patience_of
from nearlight.server.querier import Querier
from nearlight.server.relevance import RelevanceDesk
from nearlight.server.status import INTERNAL_MESSAGE, message_of
from nearlight.server.stopwatch import Stopwatch
from nearlight.server.upserter import ReadyBatch, Upserter
from nearlight.store import VectorCollection
from nearlight.v1 import point_pb2, point_pb2_grpc, query_pb2

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class PointService(point_pb2_grpc.PointServiceServicer):
    """Points: an id, a unit vector and a JSON payload.

    Args:
        catalog: collections.
        upserter: writes.
        querier: searches.
        relevance: judges what it found.
        limits: of the server.
        health: tells streams when the server drains.
        duplicates: finds them.
    """

    def __init__(
        self,
        catalog: Catalog,
        upserter: Upserter,
        querier: Querier,
        relevance: RelevanceDesk,
        limits: LimitsConfig,
        health: Health,
        duplicates: DuplicateDesk,
    ) -> None:
        self._catalog = catalog
        self._upserter = upserter
        self._querier = querier
        self._relevance = relevance
        self._limits = limits
        self._health = health
        self._duplicates = duplicates

    async def Upsert(self, request: point_pb2.UpsertRequest, context: Context) -> point_pb2.UpsertResponse:
        """Write points; a bad one fails alone."""
        batch = await self._upserter.prepare(request, patience_of(context))
        return await self._upserter.commit(batch)

    async def UpsertStream(
        self, request_iterator: AsyncIterator[point_pb2.UpsertStreamRequest], context: Context
    ) -> AsyncIterator[point_pb2.UpsertStreamResponse]:
        """Write batch after batch: embedded side by side, committed and acknowledged in order."""
        work = partial(self._prepare_in_stream, patience=patience_of(context, waits_for_room=True))
        in_flight, stop = self._limits.max_stream_in_flight, self._health.draining
        async with aclosing(in_order(request_iterator, work, in_flight=in_flight, stop=stop)) as batches:
            async for sequence, batch in batches:
                yield await self._commit_in_stream(sequence, batch)

    async def Delete(self, request: point_pb2.DeleteRequest, context: Context) -> point_pb2.DeleteResponse:
        """Delete points by id or by filter."""
        collection = self._catalog.collection(request.collection)
        points, durability = selected_points(request.points, self._limits), durability_of(request.durability)
        deleted = await self._catalog.run(lambda: collection.delete(points, durability=durability))
        return point_pb2.DeleteResponse(seq=collection.info.last_seq if deleted else 0, deleted=deleted)

    async def SetPayload(
        self, request: point_pb2.SetPayloadRequest, context: Context
    ) -> point_pb2.PayloadResponse:
        """Merge into, or replace, the payload of points."""
        return await self._change(request.collection, setting(request, self._limits))

    async def DeletePayload(
        self, request: point_pb2.DeletePayloadRequest, context: Context
    ) -> point_pb2.PayloadResponse:
        """Remove keys from, or all of, the payload of points."""
        return await self._change(request.collection, removing(request, self._limits))

    async def Get(self, request: point_pb2.GetRequest, context: Context) -> point_pb2.GetResponse:
        """Points by id, in the order asked for."""
        collection = self._catalog.collection(request.collection)
        check_min_seq(request.min_seq, collection.info)
        check_count(len(request.ids), self._limits.max_batch_inputs, "ids")
        dtype_of(request.dtype, "dtype")
        ids = [point_id_of(item, f"ids[{i}]") for i, item in enumerate(request.ids)]
        wanted = wanted_parts(request.with_payload, request.with_vectors, request.dtype)
        records = await self._catalog.run(lambda: collection.get(ids, with_vectors=wanted.vectors))
        messages = [record_message(record, wanted) for record in records]
        n = fitting(messages, self._limits.max_message_bytes)
        cut_at = ids.index(records[n].id) if n < len(records) else None
        return point_pb2.GetResponse(records=messages[:n], next_index=cut_at)

    async def Scroll(self, request: point_pb2.ScrollRequest, context: Context) -> point_pb2.ScrollResponse:
        """One page of all points, or of those that pass the filter."""
        collection = self._catalog.collection(request.collection)
        check_min_seq(request.min_seq, collection.info)
        wish = page_wish(request)
        records, is_more = await self._catalog.run(lambda: page_of(collection, wish))
        messages = [record_message(record, wish.wanted) for record in records]
        n = fitting(messages, self._limits.max_message_bytes)
        is_more = is_more or n < len(records)
        cursor = cursor_after(records[n - 1], wish.order) if is_more else ""
        return point_pb2.ScrollResponse(records=messages[:n], next_cursor=cursor)

    async def Count(self, request: point_pb2.CountRequest, context: Context) -> point_pb2.CountResponse:
        """How many points there are, or pass the filter."""
        collection = self._catalog.collection(request.collection)
        info = collection.info
        check_min_seq(request.min_seq, info)
        filter = wanted_filter(request)
        count = await self._catalog.run(lambda: collection.count(filter))
        return point_pb2.CountResponse(count=count, visible_seq=info.last_seq)

    async def Query(self, request: query_pb2.QueryRequest, context: Context) -> query_pb2.QueryResponse:
        """The nearest points to a text, an image, a vector or a point."""
        patience = patience_of(context)

        async def answer(collection: VectorCollection) -> query_pb2.QueryResponse:
            judge = await self._relevance.judge(request, collection, patience)
            return judge.judged(
                await self._querier.query(judge.request, collection, patience, judge.modality)
            )

        return await self._catalog.with_collection(request.collection, answer)

    async def QueryBatch(
        self, request: query_pb2.QueryBatchRequest, context: Context
    ) -> query_pb2.QueryBatchResponse:
        """Many queries of one collection; one that fails, fails alone."""
        watch = Stopwatch()
        collection = self._catalog.collection(request.collection)
        check_count(len(request.queries), self._limits.max_batch_queries, "queries")
        patience, name = patience_of(context), request.collection
        judges = await self._relevance.judges(request.queries, collection, patience)
        asked = [judge.request for judge in judges]
        modalities = [judge.modality for judge in judges]
        reply = query_pb2.QueryBatchResponse()
        outcomes = [reply.results.add() for _ in judges]  # filled where they are: messages are not moved
        replies = [outcome.response for outcome in outcomes]
        failures = await self._querier.query_batch(collection, name, asked, patience, modalities, replies)
        for i, (judge, outcome) in enumerate(zip(judges, outcomes, strict=True)):
            error = judge.error or failures.get(i)
            if error is None:
                judge.judged(outcome.response)
            else:
                _fail(outcome, error, i)
        n = cut(reply.results, reply.ByteSize(), self._limits.max_message_bytes)
        if n is not None:
            reply.next_index = n
        reply.timings.CopyFrom(timings(watch.ms))
        return reply

    async def QueryGroups(
        self, request: query_pb2.QueryGroupsRequest, context: Context
    ) -> query_pb2.QueryGroupsResponse:
        """The best hits of each value of a payload key."""
        return await self._querier.query_groups(request, patience_of(context))

    async def FindDuplicates(
        self, request: point_pb2.FindDuplicatesRequest, context: Context
    ) -> point_pb2.FindDuplicatesResponse:
        """Page through groups of points that show (nearly) the same."""
        return await self._duplicates.find(request)

    async def _change(self, collection: str, change: ChangeOf) -> point_pb2.PayloadResponse:
        changed = await self._catalog.with_collection(
            collection, lambda target: self._catalog.run(lambda: change(target))
        )
        return point_pb2.PayloadResponse(seq=changed.seq, updated=changed.n_points)

    async def _prepare_in_stream(
        self, request: point_pb2.UpsertStreamRequest, patience: Patience
    ) -> tuple[int, ReadyBatch | Exception]:
        """One batch of a stream: it may fail as a whole, the stream goes on."""
        try:
            return request.sequence, await self._upserter.prepare(request.batch, patience)
        except Exception as error:
            return request.sequence, error

    async def _commit_in_stream(
        self, sequence: int, batch: ReadyBatch | Exception
    ) -> point_pb2.UpsertStreamResponse:
        """Acknowledge one batch, once it is durable or has failed."""
        try:
            if isinstance(batch, Exception):
                raise batch
            result = await self._upserter.commit(batch)
            return point_pb2.UpsertStreamResponse(sequence=sequence, result=result)
        except Exception as error:
            observe.rejected(error)
            _log_internal(error, "a batch of a stream failed", sequence=sequence)
            return point_pb2.UpsertStreamResponse(sequence=sequence, error=batch_error(error))


def _fail(outcome: query_pb2.QueryOutcome, error: Exception, i: int) -> None:
    observe.rejected(error)
    _log_internal(error, "a query of a batch failed", index=i)
    outcome.error.CopyFrom(batch_error(error))


def _log_internal(error: Exception, event: str, **where: int) -> None:
    if message_of(error) == INTERNAL_MESSAGE:
        log.error(event, **where, exc_info=error)
