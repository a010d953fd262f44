"""Relevance of hits: fits it, adds it to what a query found, and cuts what is not relevant.

It stands around the search: a request is widened before, its response judged after.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nearlight.server.autocut import MAX_JUMPS, autocut
from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, Caller, Input, StageTimes
from nearlight.server.catalog import Catalog
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.queries import modality_of
from nearlight.server.convert.values import cache_use, point_id_of, timings, vector_message, vector_of
from nearlight.server.embedder import Embedder
from nearlight.server.errors import InvalidInput, NotPossible, ServerError
from nearlight.server.patience import Patience
from nearlight.server.prompt_bank import PROMPTS
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import InvalidQuery, Null, VectorCollection
from nearlight.v1 import maintenance_pb2, query_pb2, vector_pb2

DEFAULT_LIMIT = 10
# Candidates by score among which the relevant ones are sought.
LEAST_CANDIDATES = 100
CANDIDATES_PER_HIT = 2
# Prompts embedded at once: small beside the queue, large beside a batch.
PROMPTS_AT_ONCE = 64
_MODALITIES = {"text": "text", "image": "image", "id": "image"}


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A query on its way: what to search for, and what becomes of the hits.

    Args:
        request: as the search shall see it.
        asked: as it came.
        null: of the query's modality; None: hits have no relevance.
        level: of the query.
        n_points: of the collection.
        times: what making the query's vector took.
        total_ms: the same in all.
        error: why the query cannot be judged, where it is one of many.
    """

    request: query_pb2.QueryRequest
    asked: query_pb2.QueryRequest
    null: Null | None = None
    level: float = 0.0
    n_points: int = 0
    times: StageTimes = field(default_factory=StageTimes)
    total_ms: float = 0.0
    error: Exception | None = None

    def judged(self, response: query_pb2.QueryResponse) -> query_pb2.QueryResponse:
        """The same response, ready to send: relevance added, hits cut, as many as were asked for."""
        if self.request is self.asked:
            return response
        hits = list(response.hits)
        if self.null is not None and hits:
            has_count = response.info.HasField("filtered_count")
            self._add_relevance(hits, response.info.filtered_count if has_count else self.n_points)
        asked = self.asked
        if asked.HasField("min_relevance"):
            hits = [hit for hit in hits if hit.relevance >= asked.min_relevance]
        if self.is_widened:
            offset, limit = asked.offset, _limit_of(asked)
            hits = hits[: offset + limit]
            if asked.HasField("autocut"):
                hits = hits[: autocut([hit.score for hit in hits], asked.autocut.jumps or 1)]
            hits = hits[offset:]
            was_cut = response.HasField("next_offset") and not asked.HasField("autocut")
            response.ClearField("next_offset")
            if was_cut and hits:
                response.next_offset = offset + len(hits)
        spent = timings(self.total_ms + response.timings.total_ms, self.times)
        spent.search_ms = response.timings.search_ms
        response.timings.CopyFrom(spent)
        del response.hits[:]
        response.hits.extend(hits)
        return response

    @property
    def modality(self) -> str:
        """What the query is made of, whatever the search gets to see."""
        return modality_of(self.asked.query)

    @property
    def is_widened(self) -> bool:
        """Whether the search looks at more hits than were asked for."""
        return _is_cut(self.asked)

    def _add_relevance(self, hits: list[query_pb2.Hit], n_points: int) -> None:
        if self.null is None:
            raise AssertionError("nothing to judge with")
        vectors = np.stack([vector_of(hit.vector, "hit.vector") for hit in hits])  # (H, D)
        scores = np.array([hit.score for hit in hits], np.float32)
        for hit, vector, relevance in zip(
            hits, vectors, self.null.relevance(self.level, scores, vectors, n_points), strict=True
        ):
            hit.relevance = relevance
            if not self.asked.with_vectors:
                hit.ClearField("vector")
            elif self.asked.dtype == vector_pb2.DTYPE_F16:
                hit.vector.CopyFrom(vector_message(vector, self.asked.dtype))


class RelevanceDesk:
    """Calibrates collections, and judges the hits of those that are.

    Args:
        catalog: collections and their models.
        embedder: for the bank of prompts.
        limits: of the server.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder, limits: LimitsConfig) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._limits = limits

    async def judges(
        self, requests: Sequence[query_pb2.QueryRequest], collection: VectorCollection, patience: Patience
    ) -> list[Judge]:
        """The judges of many queries of one collection; one that fails has an `error`."""
        judges: dict[int, Judge] = {}
        others: dict[int, query_pb2.QueryRequest] = {}
        for i, request in enumerate(requests):
            try:
                if self._is_judged(request, collection):
                    others[i] = request
                else:
                    judges[i] = Judge(request, request)
            except ServerError as error:
                judges[i] = Judge(request, request, error=error)
        made = (self.judge(request, collection, patience) for request in others.values())
        for i, one in zip(others, await asyncio.gather(*made, return_exceptions=True), strict=True):
            if isinstance(one, Exception):
                judges[i] = Judge(others[i], others[i], error=one)
            elif isinstance(one, BaseException):
                raise one
            else:
                judges[i] = one
        return [judges[i] for i in range(len(requests))]

    async def judge(
        self, request: query_pb2.QueryRequest, collection: VectorCollection, patience: Patience
    ) -> Judge:
        """What to search for, and what becomes of it.

        Args:
            request: as it came.
            collection: the handle that is searched afterwards: the vector made here is of its space.
            patience: who asks, until when.

        Raises:
            InvalidInput: a number out of range.
            NotPossible: min_relevance without a calibration that fits the query.
            ServerError: the query cannot be embedded.
        """
        watch = Stopwatch()
        if not self._is_judged(request, collection):
            return Judge(request, request)
        null, is_cut = self._null_for(request, collection), _is_cut(request)
        widened = query_pb2.QueryRequest()
        widened.CopyFrom(request)
        widened.ClearField("min_relevance")
        widened.ClearField("autocut")
        if is_cut:
            widened.limit, widened.offset = self._candidates(request), 0
        if null is None:
            return Judge(widened, request)
        widened.with_vectors, widened.dtype = True, vector_pb2.DTYPE_F32
        patience, use = patience.wishing(request.priority), cache_use(request.cache)
        vector, times = await self._vector(request.query, collection, patience, use)
        if vector is None:
            return Judge(widened, request)  # no such point: the search says so
        if request.query.WhichOneof("query") != "id":  # a point is left out of its own hits
            widened.query.vector.CopyFrom(vector_message(vector, vector_pb2.DTYPE_F32))
        modality = _MODALITIES[request.query.WhichOneof("query") or ""]
        level = self._catalog.store.calibrations.level(collection, modality, vector)
        return Judge(widened, request, null, level, collection.info.count, times, watch.ms)

    async def calibrate(self, name: str) -> maintenance_pb2.CalibrateResponse:
        """Fit a collection's relevance to its vectors as they are now.

        Raises:
            NotPossible: it has too few points.
            StoreError: no such collection.
            ServerError: the prompts cannot be embedded.
        """
        collection = self._catalog.collection(name)
        bank = await self.text_bank(collection.info.space_id)
        try:
            nulls = await self._catalog.run(lambda: self._catalog.store.calibrations.fit(collection, bank))
        except InvalidQuery as error:
            raise NotPossible(f"collection {name!r} cannot be calibrated: {error}") from error
        text = nulls.get("text")
        return maintenance_pb2.CalibrateResponse(
            text_midpoint=text.midpoint if text else None,
            image_midpoint=nulls["image"].midpoint,
            points=nulls["image"].n_points,
        )

    async def _vector(
        self, query: query_pb2.Query, collection: VectorCollection, patience: Patience, use: CacheUse
    ) -> tuple[F32 | None, StageTimes]:
        """The query's vector (D,), None where its point does not exist, and how long it took."""
        if query.WhichOneof("query") == "id":
            wanted = point_id_of(query.id, "query.id")
            records = await self._catalog.run(lambda: collection.get([wanted], with_vectors=True))
            return records[0].vector if records else None, StageTimes()
        source = input_of_query(query)
        model = self._catalog.model_for(collection.info)
        return await self._embedder.embed_one(model, source, patience, use)

    async def text_bank(self, space_id: str) -> F32 | None:
        """Vectors of the prompts (K, D); None where no model embeds texts into a space."""
        model = self._catalog.models.of_space(space_id)
        if model is None or "text" not in model.towers:
            return None
        patience = Patience(Caller(), waits_for_room=True)
        vectors = []
        for start in range(0, len(PROMPTS), PROMPTS_AT_ONCE):
            part = PROMPTS[start : start + PROMPTS_AT_ONCE]
            inputs = [Input("text", prompt, f"prompt {prompt!r}") for prompt in part]
            for outcome in (await self._embedder.embed(model, inputs, patience)).outcomes:
                if isinstance(outcome, ServerError):
                    raise outcome
                vectors.append(outcome.vector)
        return np.stack(vectors)

    def _is_judged(self, request: query_pb2.QueryRequest, collection: VectorCollection) -> bool:
        """Whether anything is to be done about a request or its hits, which is checked."""
        _check(request)
        return self._null_for(request, collection) is not None or _is_cut(request)

    def _null_for(self, request: query_pb2.QueryRequest, collection: VectorCollection) -> Null | None:
        """What judges the hits.

        Raises:
            NotPossible: it is asked for and there is none.
        """
        nulls = self._catalog.store.calibrations.get(collection)
        which = request.query.WhichOneof("query") or ""
        null = nulls.get(_MODALITIES.get(which, ""))
        if null is None and request.HasField("min_relevance"):
            if not nulls:
                name = collection.info.name
                reason = f"min_relevance needs a calibrated collection; {name!r} is not: call Calibrate"
            elif which == "text":
                reason = (
                    "min_relevance needs a calibration for texts; this one has none: call Calibrate again"
                )
            else:
                reason = (
                    f"min_relevance needs a query by text, image or id; this one is by {which or 'nothing'}"
                )
            raise NotPossible(reason, field="min_relevance")
        return null

    def _candidates(self, request: query_pb2.QueryRequest) -> int:
        wanted = _limit_of(request) + request.offset
        if request.HasField("min_relevance") and not request.HasField("mmr"):
            wanted = max(CANDIDATES_PER_HIT * wanted, LEAST_CANDIDATES)
        return min(wanted, self._limits.max_query_limit)


def input_of_query(query: query_pb2.Query) -> Input:
    """The text or image of a query."""
    if query.WhichOneof("query") == "text":
        return Input("text", query.text, "query.text")
    return Input("image", query.image, "query.image")


def _limit_of(request: query_pb2.QueryRequest) -> int:
    return request.limit if request.HasField("limit") else DEFAULT_LIMIT


def _is_cut(request: query_pb2.QueryRequest) -> bool:
    return request.HasField("min_relevance") or request.HasField("autocut")


def _check(request: query_pb2.QueryRequest) -> None:
    if request.HasField("min_relevance") and not 0 <= request.min_relevance <= 1:
        reason = f"min_relevance is {request.min_relevance}; the limit is 0 to 1"
        raise InvalidInput(reason, field="min_relevance")
    if request.HasField("autocut") and request.autocut.jumps > MAX_JUMPS:
        reason = f"autocut.jumps is {request.autocut.jumps}; the limit is 1 to {MAX_JUMPS}, 0 means 1"
        raise InvalidInput(reason, field="autocut.jumps")
