"""Embed and Classify: from the wire and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearlight.bundle.image import ImageProfile
from nearlight.server.call import F32, Embedded, Input, Outcome
from nearlight.server.classifier import LabelPrompts, LabelScores
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.label_sets import check_labels, prompts_of_message, prompts_of_set
from nearlight.server.convert.values import block_message, check_count, dtype_of, item_error
from nearlight.server.errors import InvalidInput, NotBuilt, ServerError
from nearlight.server.lookup import Embeddings
from nearlight.server.models import LoadedModel
from nearlight.store import LabelSet
from nearlight.v1 import embedding_pb2, input_pb2

_PROFILES: dict[int, ImageProfile | None] = {
    input_pb2.IMAGE_PROFILE_UNSPECIFIED: None,
    input_pb2.IMAGE_PROFILE_EXACT: "exact",
    input_pb2.IMAGE_PROFILE_FAST: "fast",
}


def input_of(
    message: input_pb2.Input, field: str, profile: ImageProfile | None = None
) -> Input | InvalidInput:
    """One input, or what is wrong with it: it fails alone."""
    which = message.WhichOneof("input")
    if which == "image":
        return Input("image", message.image, f"{field}.image", profile)
    if which == "text":
        return Input("text", message.text, f"{field}.text")
    return InvalidInput(f"{field} is empty; it must hold image or text", field=field)


def embed_inputs(request: embedding_pb2.EmbedRequest, limits: LimitsConfig) -> list[Input | InvalidInput]:
    """The inputs of an Embed.

    Raises:
        InvalidInput: too many or none, or an unknown dtype or profile.
        NotBuilt: normalize=false.
    """
    check_count(len(request.inputs), limits.max_batch_inputs, "inputs")
    dtype_of(request.dtype, "dtype")
    if request.HasField("normalize") and not request.normalize:
        raise NotBuilt("normalize is false; the graph of every bundle gives unit vectors", field="normalize")
    profile = image_profile(request.image_profile)
    return [input_of(item, f"inputs[{i}]", profile) for i, item in enumerate(request.inputs)]


def image_profile(number: int) -> ImageProfile | None:
    """How a call wants its images prepared; None: as the server does.

    Raises:
        InvalidInput: unknown value.
    """
    if number not in _PROFILES:
        reason = f"image_profile is {number}; it must be 1 (EXACT) or 2 (FAST), or 0 for the server's own"
        raise InvalidInput(reason, field="image_profile")
    return _PROFILES[number]


def check_dim(request: embedding_pb2.EmbedRequest, model: LoadedModel) -> None:
    """Refuse a length of vectors that the model does not have.

    Raises:
        InvalidInput: dim above the model's.
        NotBuilt: one below it that was not shown to hold its recall when the bundle was made.
    """
    dim = model.manifest.dim
    if request.dim > dim:
        raise InvalidInput(f"dim is {request.dim}; the limit is {dim}, the model's own", field="dim")
    allowed = [cut.dim for cut in model.manifest.truncations if cut.holds]
    if request.dim not in (0, dim, *allowed):
        lengths = ", ".join(map(str, [*allowed, dim]))
        raise NotBuilt(
            f"dim {request.dim} is none of the lengths that model {model.name!r} allows: {lengths}",
            field="dim",
        )


def without_truncated(outcomes: Sequence[Outcome], model: LoadedModel) -> list[Outcome]:
    """The outcomes where the caller does not want a text to be cut."""
    text = model.manifest.towers.text
    limit = text.context_length if text else 0

    def judged(index: int, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Embedded) and outcome.truncated:
            field = f"inputs[{index}].text"
            return InvalidInput(
                f"{field} has more tokens than the context; the limit is {limit}", field=field
            )
        return outcome

    return [judged(index, outcome) for index, outcome in enumerate(outcomes)]


def embed_response(
    request: embedding_pb2.EmbedRequest, outcomes: Sequence[Outcome], model: LoadedModel
) -> embedding_pb2.EmbedResponse:
    """The reply to an Embed, without timings."""
    dim = request.dim or model.manifest.dim
    rows = np.zeros((len(outcomes), dim), np.float32)  # (N, D)
    errors = []
    truncated = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, ServerError):
            errors.append(item_error(index, outcome))
            continue
        rows[index] = _cut(outcome.vector, dim)
        if outcome.truncated:
            truncated.append(index)
    return embedding_pb2.EmbedResponse(
        vectors=block_message(rows, request.dtype),
        errors=errors,
        model=model.name,
        space_id=model.space_id,
        truncated=truncated,
    )


def _cut(vector: F32, dim: int) -> F32:
    """The first `dim` numbers of a unit vector (D,), scaled back to unit length; all of them as they are."""
    if dim == len(vector):
        return vector
    kept = vector[:dim]
    cut: F32 = kept / max(float(np.linalg.norm(kept)), 1e-12)
    return cut


@dataclass(frozen=True, slots=True)
class ClassifyWish:
    """What a Classify asks for.

    Args:
        prompts: labels and templates.
        images: encoded.
        top_k: labels per image, 1 to the number of labels.
        multi_label: None: as the model was trained.
        min_probability: below it the image is reported as abstained.
    """

    prompts: LabelPrompts
    images: list[Input]
    top_k: int
    multi_label: bool | None
    min_probability: float


def classify_wish(
    request: embedding_pb2.ClassifyRequest,
    stored: LabelSet | None,
    limits: LimitsConfig,
    default_templates: Sequence[str],
) -> ClassifyWish:
    """What is asked, checked.

    Args:
        request: as it came.
        stored: the label set it names; None where it brings its own labels.
        limits: of the server.
        default_templates: where the labels come without.

    Raises:
        InvalidInput: a list too long or empty, a bad label or template, or a probability outside 0 to 1.
    """
    check_count(len(request.images), limits.max_batch_inputs, "images")
    if not 0 <= request.min_probability <= 1:
        raise InvalidInput(
            f"min_probability is {request.min_probability}; the limit is 0 to 1", field="min_probability"
        )
    least = request.min_probability
    if stored is None:
        check_labels(request.labels, limits, "labels")
        prompts = prompts_of_message(request.labels, default_templates)
    else:
        prompts = prompts_of_set(stored, default_templates)
        least = least if request.HasField("min_probability") else stored.min_probability
    return ClassifyWish(
        prompts=prompts,
        images=[Input("image", image, f"images[{i}]") for i, image in enumerate(request.images)],
        top_k=min(request.top_k or len(prompts.names), len(prompts.names)),
        multi_label=request.multi_label if request.HasField("multi_label") else None,
        min_probability=least,
    )


def classify_response(
    wish: ClassifyWish, embeddings: Embeddings, scores: Sequence[LabelScores | None], model: LoadedModel
) -> embedding_pb2.ClassifyResponse:
    """The reply to a Classify, without timings."""
    failed = [(i, o) for i, o in enumerate(embeddings.outcomes) if isinstance(o, ServerError)]
    return embedding_pb2.ClassifyResponse(
        results=[_image_labels(score, wish) for score in scores],
        errors=[item_error(i, error) for i, error in failed],
        model=model.name,
        space_id=model.space_id,
    )


def _image_labels(scores: LabelScores | None, wish: ClassifyWish) -> embedding_pb2.ImageLabels:
    if scores is None:
        return embedding_pb2.ImageLabels()
    best = best_first(scores.probabilities, scores.cosines)[: wish.top_k]
    return embedding_pb2.ImageLabels(
        labels=[
            embedding_pb2.ScoredLabel(
                label=wish.prompts.names[i],
                probability=float(scores.probabilities[i]),
                score=float(scores.cosines[i]),
                index=int(i),
            )
            for i in best
        ],
        abstained=bool(scores.probabilities[best[0]] < wish.min_probability),
    )


def best_first(probabilities: F32, cosines: F32) -> list[int]:
    """Positions by probability, then by cosine (a large logit scale rounds many probabilities to 0 or 1)."""
    order = np.lexsort((-cosines, -probabilities))  # (L,), stable
    return [int(i) for i in order]
