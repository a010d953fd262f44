"""Writing points: embed what must be embedded, then commit what is good, in the order it came."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearlight.server.call import Input, Outcome, StageTimes
from nearlight.server.catalog import Catalog, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.points import NewPoint, check_upsert, new_point, storable
from nearlight.server.convert.terms import durability_of, refusal_error, terms_of
from nearlight.server.convert.values import cache_use, item_error, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, ServerError
from nearlight.server.patience import Patience
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import Collection, Durability, Point, PointId, Terms, Upserted
from nearlight.v1 import point_pb2


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """Points ready to be written, and those that failed on the way."""

    collection: Collection
    terms: Terms
    durability: Durability | None
    points: list[Point]
    indexes: list[int]  # of the points in the request
    failed: list[tuple[int, ServerError]]
    times: StageTimes
    watch: Stopwatch


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
        news = [new_point(message, i, info.dim, self._limits) for i, message in enumerate(request.points)]
        inputs = [new.source for new in news if isinstance(new, NewPoint) and isinstance(new.source, Input)]
        outcomes: Sequence[Outcome] = []
        times = StageTimes()
        if inputs:
            embeddings = await self._embedder.embed(
                self._catalog.model_for(info), inputs, patience, cache_use(request.cache)
            )
            outcomes, times = embeddings.outcomes, embeddings.times
        points, indexes, failed = _sort(news, outcomes)
        return ReadyBatch(collection, terms, durability, points, indexes, failed, times, watch)

    async def commit(self, batch: ReadyBatch) -> point_pb2.UpsertResponse:
        """Write the good points; returns when they are durable.

        Raises:
            StoreError: the store could not; nothing was written.
        """
        writing = Stopwatch()
        done = Upserted(0)
        if batch.points:
            done = await self._catalog.run(
                lambda: batch.collection.upsert_on(batch.terms, batch.points, durability=batch.durability)
            )
        failed = sorted([*batch.failed, *_refused(batch, done)], key=lambda one: one[0])
        return point_pb2.UpsertResponse(
            seq=done.seq,
            upserted=len(batch.points) - len(failed) + len(batch.failed),
            errors=[item_error(i, error) for i, error in failed],
            timings=timings(batch.watch.ms, batch.times, write_ms=writing.ms),
        )


def _sort(
    news: Sequence[NewPoint | InvalidInput], outcomes: Sequence[Outcome]
) -> tuple[list[Point], list[int], list[tuple[int, ServerError]]]:
    """Good points in their order, their indexes, and the failed ones with theirs."""
    points: list[Point] = []
    indexes: list[int] = []
    failed: list[tuple[int, ServerError]] = []
    embedded = iter(outcomes)
    for i, new in enumerate(news):
        if isinstance(new, InvalidInput):
            failed.append((i, new))
            continue
        outcome = next(embedded) if isinstance(new.source, Input) else new.source
        point = outcome if isinstance(outcome, ServerError) else storable(new, outcome, i)
        if isinstance(point, ServerError):
            failed.append((i, point))
        else:
            points.append(point)
            indexes.append(i)
    return points, indexes, failed


def _refused(batch: ReadyBatch, done: Upserted) -> list[tuple[int, ServerError]]:
    """The points that were not written; of those with one id the last one stands for all."""
    errors: list[tuple[int, ServerError]] = []
    for refusal in done.refused:
        point_id = batch.points[refusal.index].id
        same = [i for i, point in enumerate(batch.points) if _same_id(point.id, point_id)]
        indexes = [batch.indexes[i] for i in same]
        errors += [(index, refusal_error(refusal, index, point_id)) for index in indexes]
    return errors


def _same_id(one: PointId, other: PointId) -> bool:
    return type(one) is type(other) and one == other
