"""Plans of embedding, labelling and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from nearlight.client import convert
from nearlight.client.batching import batches, room_bytes
from nearlight.client.classification import Classification, ClassifyOptions
from nearlight.client.errors import InvalidInput, WrongSpace
from nearlight.client.methods import CLASSIFY, EMBED, GET_MODEL, LIST_MODELS
from nearlight.client.plan import Plan, Server, ask, sendable, waves
from nearlight.client.values import (
    F32,
    Embeddings,
    Image,
    ImageProfile,
    Input,
    ItemError,
    ModelInfo,
)
from nearlight.v1 import embedding_pb2, input_pb2, model_pb2

_PROFILES: dict[ImageProfile, input_pb2.ImageProfile] = {
    "": input_pb2.IMAGE_PROFILE_UNSPECIFIED,
    "exact": input_pb2.IMAGE_PROFILE_EXACT,
    "fast": input_pb2.IMAGE_PROFILE_FAST,
}


def embed(
    server: Server, inputs: Sequence[Input], model: str, dim: int = 0, image_profile: ImageProfile = ""
) -> Plan[Embeddings]:
    """Embeds a list of any length in as many calls as it takes."""
    if image_profile not in _PROFILES:
        raise InvalidInput(f"image_profile is {image_profile!r:.60}; it must be 'exact', 'fast' or ''")
    profile = _PROFILES[image_profile]
    length = convert.uint32_for_wire("dim", dim)
    limits = yield from server.limits_for(len(inputs))
    failed: list[ItemError] = []
    ready = sendable(inputs, convert.input_for_wire, limits, failed)
    groups = batches(ready, limits.max_batch_inputs, room_bytes(limits.max_message_bytes))
    vectors: F32 = np.full((len(inputs), 0), np.nan, np.float32)
    answered_by, space_id = "", ""
    for wave in waves(groups, server.in_flight):
        replies: list[embedding_pb2.EmbedResponse] = yield [
            EMBED(
                embedding_pb2.EmbedRequest(
                    model=model,
                    inputs=[message for _, message in group],
                    dim=length,
                    image_profile=profile,
                )
            )
            for group in wave
        ]
        for group, reply in zip(wave, replies, strict=True):
            if space_id and reply.space_id != space_id:
                raise WrongSpace(f"the model changed during the call, from {space_id} to {reply.space_id}")
            if not space_id:
                vectors = np.full((len(inputs), reply.vectors.dim), np.nan, np.float32)  # (N, D)
            answered_by, space_id = reply.model, reply.space_id
            indexes = [index for index, _ in group]
            vectors[indexes] = convert.block_from_wire(reply.vectors)
            for error in reply.errors:
                vectors[indexes[error.index]] = np.nan
                failed.append(convert.item_error_from_wire(error, indexes[error.index]))
    return Embeddings(vectors, tuple(sorted(failed, key=lambda e: e.index)), answered_by, space_id)


def classify(
    server: Server, images: Sequence[Image], **options: Unpack[ClassifyOptions]
) -> Plan[list[Classification]]:
    """Labels a list of images of any length in as many calls as it takes."""
    base = _classify_request(options)
    limits = yield from server.limits_for(len(images))
    failed: list[ItemError] = []
    ready = sendable(images, convert.image_for_wire, limits, failed)
    room = max(room_bytes(limits.max_message_bytes) - base.ByteSize(), 1)
    results = [Classification(())] * len(images)
    for wave in waves(batches(ready, limits.max_batch_inputs, room), server.in_flight):
        requests = []
        for group in wave:
            request = embedding_pb2.ClassifyRequest()
            request.CopyFrom(base)
            request.images.extend(image for _, image in group)
            requests.append(CLASSIFY(request))
        replies: list[embedding_pb2.ClassifyResponse] = yield [*requests]
        for group, reply in zip(wave, replies, strict=True):
            indexes = [index for index, _ in group]
            for index, result in zip(indexes, reply.results, strict=True):
                labels = convert.labels_from_wire(result)
                results[index] = Classification(
                    labels, abstained=result.abstained, calibrated=reply.calibrated
                )
            failed += [convert.item_error_from_wire(e, indexes[e.index]) for e in reply.errors]
    for error in failed:
        results[error.index] = Classification((), error)
    return results


def _classify_request(options: ClassifyOptions) -> embedding_pb2.ClassifyRequest:
    """Returns the request without its images."""
    labels, label_set = options.get("labels"), options.get("label_set")
    if (labels is None) == (label_set is None):
        raise InvalidInput("exactly one of labels and label_set is needed")
    request = embedding_pb2.ClassifyRequest(
        model=convert.text_for_wire(options.get("model", "")),
        top_k=convert.uint32_for_wire("top_k", options.get("top_k", 0)),
    )
    if (multi_label := options.get("multi_label")) is not None:
        request.multi_label = multi_label
    if (least := options.get("min_probability")) is not None:
        request.min_probability = least
    if labels is not None:
        request.labels.CopyFrom(convert.labels_for_wire(labels, options.get("templates", ())))
    elif label_set is not None:
        request.label_set = convert.text_for_wire(label_set)
    return request


def models(server: Server) -> Plan[list[ModelInfo]]:
    """Lists the loaded models, over all pages."""
    found: list[ModelInfo] = []
    token = ""
    while True:
        page = yield from ask(LIST_MODELS(model_pb2.ListModelsRequest(page_token=token)))
        server.limits = convert.limits_from_wire(page.limits)
        found += [convert.model_from_wire(model) for model in page.models]
        token = page.next_page_token
        if not token:
            return found


def model(name: str) -> Plan[ModelInfo]:
    """Gets one model by name or alias; "" means the default."""
    return convert.model_from_wire((yield from ask(GET_MODEL(model_pb2.GetModelRequest(name=name)))))
