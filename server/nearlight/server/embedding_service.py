"""nearlight.v1.EmbeddingService."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from nearlight.bundle.prompts import DEFAULT_TEMPLATES
from nearlight.server.call import Embedded, Input, Outcome
from nearlight.server.classifier import PrototypeCache, calibrated, calibration_for, score_labels
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.embedding import (
    check_dim,
    classify_response,
    classify_wish,
    embed_inputs,
    embed_response,
    without_truncated,
)
from nearlight.server.convert.label_sets import label_set_message
from nearlight.server.convert.values import batch_error, cache_use, timings
from nearlight.server.embedder import Embedder
from nearlight.server.errors import NotPossible
from nearlight.server.health import Health
from nearlight.server.in_order import in_order
from nearlight.server.label_sets import LabelSetDesk
from nearlight.server.log import get_logger
from nearlight.server.metrics import observe
from nearlight.server.models import Models
from nearlight.server.patience import Patience, patience_of
from nearlight.server.status import INTERNAL_MESSAGE, message_of
from nearlight.server.stopwatch import Stopwatch
from nearlight.v1 import embedding_pb2, embedding_pb2_grpc

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class EmbeddingService(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Vectors and labels for images and texts.

    Args:
        models: loaded.
        embedder: the door to the engines.
        prototypes: label vectors.
        label_sets: stored labels.
        limits: of the server.
        health: tells streams when the server drains.
    """

    def __init__(
        self,
        models: Models,
        embedder: Embedder,
        prototypes: PrototypeCache,
        label_sets: LabelSetDesk,
        limits: LimitsConfig,
        health: Health,
    ) -> None:
        self._models = models
        self._embedder = embedder
        self._prototypes = prototypes
        self._label_sets = label_sets
        self._limits = limits
        self._health = health

    async def Embed(
        self, request: embedding_pb2.EmbedRequest, context: Context
    ) -> embedding_pb2.EmbedResponse:
        """Embed a list of images and texts."""
        return await self._embed(request, patience_of(context))

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedding_pb2.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[embedding_pb2.EmbedStreamResponse]:
        """Embed batch after batch, replies in the order of the requests."""
        work = partial(self._embed_in_stream, patience=patience_of(context, waits_for_room=True))
        in_flight, stop = self._limits.max_stream_in_flight, self._health.draining
        async with aclosing(in_order(request_iterator, work, in_flight=in_flight, stop=stop)) as replies:
            async for reply in replies:
                yield reply

    async def Classify(
        self, request: embedding_pb2.ClassifyRequest, context: Context
    ) -> embedding_pb2.ClassifyResponse:
        """Label images with any words."""
        watch, patience = Stopwatch(), patience_of(context).wishing(request.priority)
        is_stored = request.WhichOneof("label_source") == "label_set"
        stored = await self._label_sets.get(request.label_set, "label_set") if is_stored else None
        model = self._models.get(request.model or (stored.model if stored else ""))
        wish = classify_wish(request, stored, self._limits, DEFAULT_TEMPLATES)
        scoring = model.manifest.scoring
        if scoring is None or "text" not in model.towers:
            raise NotPossible(f"model {model.name!r} has no text tower: it cannot compare images with labels")
        prototypes, were_cached = await self._label_sets.prototypes(
            stored, model, wish.prompts, self._prototypes
        )
        observe.cache("labels", hit=were_cached)
        embeddings = await self._embedder.embed(model, wish.images, patience, cache_use(request.cache))
        vectors = [o.vector if isinstance(o, Embedded) else None for o in embeddings.outcomes]
        calibration = calibration_for(stored, model, wish.multi_label)
        scoring = calibrated(scoring, calibration) if calibration else scoring
        scores = score_labels(vectors, prototypes, scoring, wish.multi_label)
        response = classify_response(wish, embeddings, scores, model)
        response.labels_cached, response.calibrated = were_cached, calibration is not None
        response.timings.CopyFrom(timings(watch.ms, embeddings.times))
        return response

    async def PutLabelSet(
        self, request: embedding_pb2.PutLabelSetRequest, context: Context
    ) -> embedding_pb2.LabelSet:
        """Store labels under a name."""
        return await self._label_sets.put(request)

    async def GetLabelSet(
        self, request: embedding_pb2.GetLabelSetRequest, context: Context
    ) -> embedding_pb2.LabelSet:
        """One label set by name."""
        return label_set_message(await self._label_sets.get(request.name))

    async def ListLabelSets(
        self, request: embedding_pb2.ListLabelSetsRequest, context: Context
    ) -> embedding_pb2.ListLabelSetsResponse:
        """Page through the label sets."""
        return await self._label_sets.page(request)

    async def DeleteLabelSet(
        self, request: embedding_pb2.DeleteLabelSetRequest, context: Context
    ) -> embedding_pb2.DeleteLabelSetResponse:
        """Delete a label set."""
        return await self._label_sets.delete(request)

    async def _embed(
        self, request: embedding_pb2.EmbedRequest, patience: Patience
    ) -> embedding_pb2.EmbedResponse:
        watch, patience = Stopwatch(), patience.wishing(request.priority)
        model = self._models.get(request.model)
        check_dim(request, model)
        inputs = embed_inputs(request, self._limits)
        good = [item for item in inputs if isinstance(item, Input)]
        embeddings = await self._embedder.embed(model, good, patience, cache_use(request.cache))
        answers = iter(embeddings.outcomes)
        outcomes: list[Outcome] = [next(answers) if isinstance(item, Input) else item for item in inputs]
        if request.HasField("truncate") and not request.truncate:
            outcomes = without_truncated(outcomes, model)
        observe.inputs_answered(outcomes)
        response = embed_response(request, outcomes, model)
        response.cache_hits = embeddings.cache_hits
        response.timings.CopyFrom(timings(watch.ms, embeddings.times))
        return response

    async def _embed_in_stream(
        self, request: embedding_pb2.EmbedStreamRequest, patience: Patience
    ) -> embedding_pb2.EmbedStreamResponse:
        """One batch of a stream: it may fail as a whole, the stream goes on."""
        reply = embedding_pb2.EmbedStreamResponse(sequence=request.sequence)
        try:
            reply.result.CopyFrom(await self._embed(request.batch, patience))
        except Exception as error:
            observe.rejected(error)
            if message_of(error) == INTERNAL_MESSAGE:
                log.error("a batch of a stream failed", sequence=request.sequence, exc_info=True)
            reply.error.CopyFrom(batch_error(error))
        return reply
