"""Cross entropy: the supervised baseline, with MixUp and CutMix (Zhang et al. 2018; Yun et al. 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SUPERVISED_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.views.mix import draw_mix, mix


class CrossEntropy(Method):
    """An encoder and a linear classifier."""

    needs_labels = True
    recipe: ClassVar[dict[str, Any]] = recipe(
        SUPERVISED_RECIPE,
        views=[view(crop_scale=[0.5, 1.0], jitter=0.0, grey=0.0)],
        optimiser={"lr": 0.1, "lr_batch_size": 256, "weight_decay": 5e-4},
    )
    exported_head = "classifier"

    class Options(Section):
        """What only this baseline can be told."""

        smoothing: float = Field(0.0, ge=0, lt=1)
        mixup: float = Field(0.0, ge=0)
        """The Beta distribution's parameter; 0: off."""
        cutmix: float = Field(0.0, ge=0)
        """The Beta distribution's parameter; 0: off. With both, each batch takes one of them."""

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        self.classifier = nn.Linear(feature_dim(self.encoder, config.encoder), len(facts.classes))

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns logits, and with mixing the partner's label and the share of one's own."""
        images, partner, share = views[0], batch.labels, torch.ones_like(batch.labels, dtype=torch.float32)
        if self.option("mixup") or self.option("cutmix"):
            plan = draw_mix(
                len(images), images.shape[-1], self.option("mixup"), self.option("cutmix"), generator
            )
            images, order, share = mix(images, plan)
            partner = batch.labels[order]
        features = self.encoder(images)  # (B, D)
        return {
            "logits": self.classifier(features),
            "partner": partner,
            "share": share,
            "features": features.detach(),
        }

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the cross entropy against the labels, weighted by their shares."""
        logits, share = vectors["logits"].float(), vectors["share"]
        smoothing = self.option("smoothing")
        own = F.cross_entropy(logits, truth.labels, reduction="none", label_smoothing=smoothing)
        other = F.cross_entropy(logits, vectors["partner"], reduction="none", label_smoothing=smoothing)
        hits = (logits.argmax(dim=1) == truth.labels).float().mean()
        return (share * own + (1 - share) * other).mean(), {"train_top1": 100 * hits}

    def watched(self, vectors: Vectors) -> Tensor | None:
        """Returns the features; logits of ten classes tell little."""
        return vectors["features"]
