"""Writing points: embed what must be embedded, then commit what is good, in the order it came."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearlight.server.call import F32, Embedded, Input, Outcome, StageTimes
from nearlight.server.catalog import Catalog, check_space
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.points import NewPoint, check_upsert, new_point, storable
from nearlight.server.convert.values import cache_use, item_error, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, ServerError
from nearlight.server.patience import Patience
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import Point, VectorCollection
from nearlight.v1 import point_pb2


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """Points ready to be written, and those that failed on the way."""

    collection: VectorCollection
    points: list[Point]
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
        points, failed = _sort(news, outcomes)
        return ReadyBatch(collection, points, failed, times, watch)

    async def commit(self, batch: ReadyBatch) -> point_pb2.UpsertResponse:
        """Write the good points; returns when they are durable.

        Raises:
            StoreError: the store could not; nothing was written.
        """
        writing = Stopwatch()
        seq = 0
        if batch.points:
            seq = await self._catalog.run(lambda: batch.collection.upsert(batch.points))
        return point_pb2.UpsertResponse(
            seq=seq,
            upserted=len(batch.points),
            errors=[item_error(i, error) for i, error in batch.failed],
            timings=timings(batch.watch.ms, batch.times, write_ms=writing.ms),
        )


def _sort(
    news: Sequence[NewPoint | InvalidInput], outcomes: Sequence[Outcome]
) -> tuple[list[Point], list[tuple[int, ServerError]]]:
    """Good points in their order, and the failed ones with their index."""
    points: list[Point] = []
    failed: list[tuple[int, ServerError]] = []
    embedded = iter(outcomes)
    for i, new in enumerate(news):
        if isinstance(new, InvalidInput):
            failed.append((i, new))
            continue
        outcome = next(embedded) if isinstance(new.source, Input) else new.source
        point = outcome if isinstance(outcome, ServerError) else storable(new, _vector(outcome), i)
        if isinstance(point, ServerError):
            failed.append((i, point))
        else:
            points.append(point)
    return points, failed


def _vector(source: Embedded | F32) -> F32:
    return source.vector if isinstance(source, Embedded) else source
