"""Zero-shot labels: prompts into prototypes, prototypes and images into probabilities."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nearlight.bundle.manifest import Scoring
from nearlight.bundle.prompts import probabilities, prompts, scores
from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, Caller, Input
from nearlight.server.embedder import Embedder
from nearlight.server.errors import NotPossible, ServerError
from nearlight.server.models import LoadedModel
from nearlight.server.patience import Patience
from nearlight.store import Calibration, LabelSet

# Prompts embedded at once while a list of labels is prepared: small beside the queue, large beside a batch.
PROMPTS_AT_ONCE = 128
# What is kept of prompts is their mean: thousands of them would only drive other vectors out.
NOT_CACHED = CacheUse(read=False, write=False)


@dataclass(frozen=True, slots=True)
class LabelPrompts:
    """Labels and the sentences they are put into.

    Args:
        names: L, unique.
        words: for each label what is put into the templates.
        templates: each holds "{}" once.
    """

    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]

    def sentences(self, label: int) -> list[str]:
        """Every prompt of one label."""
        return prompts(self.words[label], self.templates)

    def key(self, space_id: str) -> bytes:
        """What the prototypes depend on, and nothing else: the model's space, the words, the templates."""
        return hashlib.sha256(repr((space_id, self.words, self.templates)).encode()).digest()


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How each label fits one image: both (L,), probabilities 0 to 1, cosines -1 to 1."""

    probabilities: F32
    cosines: F32


@dataclass(slots=True)
class _Job:
    """Prototypes being computed, and how many calls wait for them."""

    task: asyncio.Task[F32]
    waiting: int = 0


class PrototypeCache:
    """Label vectors by model space, labels and templates; the least recently used is forgotten first.

    Equal lists asked for at the same time are computed once.

    Args:
        embedder: embeds the prompts.
        entries: lists kept.
    """

    def __init__(self, embedder: Embedder, entries: int) -> None:
        self._embedder = embedder
        self._entries = entries
        self._kept: OrderedDict[bytes, F32] = OrderedDict()
        self._under_way: dict[bytes, _Job] = {}

    async def get(self, model: LoadedModel, wish: LabelPrompts) -> tuple[F32, bool]:
        """The prototypes (L, D), unit length, and whether they were known already.

        Raises:
            ServerError: a prompt cannot be embedded.
        """
        key = wish.key(model.space_id)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], True
        job = self._under_way.get(key)
        if job is None:
            job = self._under_way[key] = _Job(asyncio.create_task(self._embed(model, wish)))
        job.waiting += 1
        try:
            prototypes = await asyncio.shield(job.task)
            self.keep(key, prototypes)
            return prototypes, False
        finally:
            job.waiting -= 1
            if not job.waiting:
                job.task.cancel()  # nobody waits for it any more; without effect once it is done
                del self._under_way[key]

    def knows(self, key: bytes) -> bool:
        """Whether the prototypes of this key are here."""
        return key in self._kept

    def keep(self, key: bytes, prototypes: F32) -> None:
        """Take prototypes that were made before."""
        self._kept[key] = prototypes
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    async def _embed(self, model: LoadedModel, wish: LabelPrompts) -> F32:
        """Mean of the unit vectors of each label's prompts, brought to unit length: (L, D)."""
        patience = Patience(Caller(), waits_for_room=True, lane="bulk")
        owned = ((label, text) for label in range(len(wish.names)) for text in wish.sentences(label))
        sums = np.zeros((len(wish.names), model.manifest.dim), np.float64)  # (L, D)
        while part := list(islice(owned, PROMPTS_AT_ONCE)):
            inputs = [Input("text", text, f"labels.labels[{label}]") for label, text in part]
            embeddings = await self._embedder.embed(model, inputs, patience, NOT_CACHED)
            for (label, _), outcome in zip(part, embeddings.outcomes, strict=True):
                if isinstance(outcome, ServerError):
                    raise outcome
                sums[label] += outcome.vector
        norms = np.linalg.norm(sums, axis=1, keepdims=True)  # (L, 1)
        return np.asarray(sums / np.maximum(norms, 1e-12), np.float32)


def calibrated(scoring: Scoring, calibration: Calibration) -> Scoring:
    """The scoring whose logits are `logits of scoring / temperature + bias`.

    Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2; with a
    bias for sigmoid models: Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    scale = scoring.logit_scale / calibration.temperature
    bias = scoring.logit_bias / calibration.temperature + calibration.bias
    return scoring.model_copy(update={"logit_scale": scale, "logit_bias": bias})


def calibration_for(
    stored: LabelSet | None, model: LoadedModel, multi_label: bool | None
) -> Calibration | None:
    """The calibration that holds for a call: of the model's space, and of its own kind of scoring.

    Args:
        stored: the label set, if one is named.
        model: that answers.
        multi_label: as asked for; None: as the model was trained.
    """
    scoring = model.manifest.scoring
    if stored is None or scoring is None or stored.space_id != model.space_id:
        return None
    is_own_kind = multi_label is None or multi_label == (scoring.kind == "sigmoid")
    return stored.calibration if is_own_kind else None


def score_labels(
    images: Sequence[F32 | None], label_prototypes: F32, scoring: Scoring, multi_label: bool | None
) -> list[LabelScores | None]:
    """Probability and cosine of every label for every image.

    Args:
        images: unit vectors (D,); None for an image that failed.
        label_prototypes: (L, D), unit length.
        scoring: the model's kind, scale and bias.
        multi_label: None: as the model was trained.

    Raises:
        NotPossible: sigmoid asked of a softmax model.
    """
    if multi_label and scoring.kind != "sigmoid":
        reason = "multi_label needs a model trained with sigmoid scoring; this one has softmax"
        raise NotPossible(reason, field="multi_label")
    if multi_label is False:
        scoring = scoring.model_copy(update={"kind": "softmax"})
    return [image if image is None else _score_image(image, label_prototypes, scoring) for image in images]


def _score_image(image: F32, label_prototypes: F32, scoring: Scoring) -> LabelScores:
    cosines = scores(image[np.newaxis], label_prototypes)  # (1, L)
    return LabelScores(probabilities(cosines, scoring)[0], cosines[0])
