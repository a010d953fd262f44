"""Writing points: embed what must be embedded, then commit what is good, in the order it came."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from nearlight.server.cache import CacheUse
from nearlight.server.call import Input, Outcome, StageTimes
from nearlight.server.catalog import ATTEMPTS, Catalog, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.blocks import Columns, columns_of
from nearlight.server.convert.points import NewPoint, check_upsert, new_point, storable
from nearlight.server.convert.terms import durability_of, refusal_error, terms_of
from nearlight.server.convert.values import cache_use, item_error, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, ServerError, WrongSpace
from nearlight.server.patience import Patience
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import (
    CollectionInfo,
    Durability,
    OtherVector,
    Point,
    PointId,
    SpaceChanged,
    Terms,
    Upserted,
    VectorCollection,
    ids_of,
)
from nearlight.v1 import point_pb2

# More points than these are checked beside the event loop.
FEW_POINTS = 32


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """Points ready to be written, and those that failed on the way."""

    collection: VectorCollection
    terms: Terms
    durability: Durability | None
    points: Sequence[Point]
    indexes: list[int]  # of the points in the request
    failed: list[tuple[int, ServerError]]
    times: StageTimes
    watch: Stopwatch
    request: point_pb2.UpsertRequest
    patience: Patience


class Upserter:
    """Writes batches of points.

    Args:
        catalog: collections and their models.
        embedder: for images and texts.
        limits: of the server.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder, limits: LimitsConfig) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._limits = limits

    async def prepare(self, request: point_pb2.UpsertRequest, patience: Patience) -> ReadyBatch:
        """Check and embed a batch; a point that fails does not touch its neighbours.

        Raises:
            ServerError: the batch fails as a whole.
            StoreError: no such collection.
        """
        watch, patience = Stopwatch(), patience.wishing(request.priority)
        check_upsert(request, self._limits)
        terms, durability = terms_of(request), durability_of(request.durability)
        collection = self._catalog.collection(request.collection)
        info = collection.info
        check_space(request.space_id, info)
        columns = await self._columns(request, info.dim)
        if columns is not None:
            return ReadyBatch(
                collection,
                terms,
                durability,
                columns.points,
                columns.indexes,
                columns.failed,
                StageTimes(),
                watch,
                request,
                patience,
            )
        news = [new_point(message, i, info.dim, self._limits) for i, message in enumerate(request.points)]
        inputs = [new.source for new in news if isinstance(new, NewPoint) and isinstance(new.source, Input)]
        outcomes: Sequence[Outcome] = []
        times = StageTimes()
        if inputs:
            embeddings = await self._embedder.embed(
                self._catalog.model_for(info), inputs, patience, cache_use(request.cache)
            )
            outcomes, times = embeddings.outcomes, embeddings.times
        others = await self._others(info, inputs, patience, cache_use(request.cache))
        points, indexes, failed = _sort(news, outcomes, others, keeps_originals=info.keeps_originals)
        return ReadyBatch(
            collection, terms, durability, points, indexes, failed, times, watch, request, patience
        )

    async def commit(self, batch: ReadyBatch) -> point_pb2.UpsertResponse:
        """Write the good points; returns when they are durable.

        Raises:
            StoreError: the store could not; nothing was written.
            WrongSpace: the collection changed its model since the vectors came.
        """
        writing = Stopwatch()
        done = Upserted(0)
        for attempt in range(ATTEMPTS if batch.points else 0):
            write = partial(
                batch.collection.upsert_on, batch.terms, batch.points, durability=batch.durability
            )
            try:
                done = await self._catalog.run(write)
                break
            except SpaceChanged:
                if attempt == ATTEMPTS - 1:
                    raise
                batch = await self._prepare_again(batch)
        failed = sorted([*batch.failed, *_refused(batch, done)], key=lambda one: one[0])
        return point_pb2.UpsertResponse(
            seq=done.seq,
            upserted=len(batch.points) - len(failed) + len(batch.failed),
            errors=[item_error(i, error) for i, error in failed],
            timings=timings(batch.watch.ms, batch.times, write_ms=writing.ms),
        )

    async def _columns(self, request: point_pb2.UpsertRequest, dim: int) -> Columns | None:
        """The points where they bring their vectors; many are looked at beside the event loop."""
        look = partial(columns_of, request, dim, self._limits)
        n = max(len(request.points), len(request.block.ids))
        return look() if n < FEW_POINTS else await self._catalog.run(look)

    async def _others(
        self, info: CollectionInfo, inputs: Sequence[Input], patience: Patience, use: CacheUse
    ) -> Sequence[OtherVector | None]:
        """While the collection changes its model: vectors of the other space too, where they can be had now.

        What is missing here is embedded later, or listed by the upgrade.
        """
        model = self._catalog.models.of_space(info.other_space_id) if info.other_space_id else None
        if model is None:
            return [None] * len(inputs)
        try:
            outcomes = (await self._embedder.embed(model, inputs, patience, use)).outcomes
        except ServerError:
            return [None] * len(inputs)
        return [
            None if isinstance(one, ServerError) else OtherVector(info.other_space_id, one.vector)
            for one in outcomes
        ]

    async def _prepare_again(self, batch: ReadyBatch) -> ReadyBatch:
        """Embed a batch with the model that the collection has now.

        Raises:
            WrongSpace: it holds vectors, and does not say of which space they are.
        """
        request = batch.request
        brings_vectors = request.HasField("block") or any(
            one.WhichOneof("source") == "vector" for one in request.points
        )
        if not request.space_id and brings_vectors:
            raise WrongSpace(
                f"collection {request.collection!r} changed its model while the vectors were under way; make "
                "them anew",
                field="points",
            )
        return await self.prepare(request, batch.patience)


def _sort(
    news: Sequence[NewPoint | InvalidInput],
    outcomes: Sequence[Outcome],
    others: Sequence[OtherVector | None],
    *,
    keeps_originals: bool,
) -> tuple[list[Point], list[int], list[tuple[int, ServerError]]]:
    """Good points in their order, their indexes, and the failed ones with theirs."""
    points: list[Point] = []
    indexes: list[int] = []
    failed: list[tuple[int, ServerError]] = []
    embedded = zip(outcomes, others, strict=True)
    for i, new in enumerate(news):
        if isinstance(new, InvalidInput):
            failed.append((i, new))
            continue
        outcome, other = next(embedded) if isinstance(new.source, Input) else (new.source, None)
        point = outcome if isinstance(outcome, ServerError) else storable(new, outcome, i)
        if isinstance(point, ServerError):
            failed.append((i, point))
            continue
        original = new.source.content if keeps_originals and isinstance(new.source, Input) else None
        points.append(replace(point, original=original, other=other))
        indexes.append(i)
    return points, indexes, failed


def _refused(batch: ReadyBatch, done: Upserted) -> list[tuple[int, ServerError]]:
    """The points that were not written; of those with one id the last one stands for all."""
    if not done.refused:
        return []
    ids = ids_of(batch.points)
    places: dict[tuple[type, PointId], list[int]] = {}
    for i, point_id in enumerate(ids):
        places.setdefault((type(point_id), point_id), []).append(batch.indexes[i])
    errors: list[tuple[int, ServerError]] = []
    for refusal in done.refused:
        point_id = ids[refusal.index]
        indexes = places[type(point_id), point_id]
        in_block = batch.request.HasField("block")
        errors += [(i, refusal_error(refusal, i, point_id, in_block=in_block)) for i in indexes]
    return errors
