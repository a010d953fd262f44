"""Triplet loss: a positive nearer than a negative by a margin (Schroff, Kalenichenko and Philbin 2015)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SUPERVISED_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.losses import count_anchors_without_positives, triplet
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class Triplet(Method):
    """Triplets found in the batch, of unit vectors."""

    needs_labels = True
    recipe: ClassVar[dict[str, Any]] = recipe(
        SUPERVISED_RECIPE, views=[view(crop_scale=[0.2, 1.0])], optimiser={"lr": 0.05}, batch_size=256
    )
    exported_head = "head"

    class Options(Section):
        """What only this method can be told."""

        margin: float = Field(0.2, ge=0)
        mining: Literal["all", "batch-hard", "semi-hard", "distance-weighted"] = "semi-hard"
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        self.head = nn.Linear(feature_dim(self.encoder, config.encoder), self.option("projection"))

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns unit vectors."""
        return {"z": F.normalize(self.head(self.encoder(views[0])).float(), dim=1)}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean over the triplets, and how many anchors had no positive."""
        z = vectors["z"]
        seed = int(torch.randint(2**31, (), generator=generator))
        drawing = torch.Generator(z.device).manual_seed(seed)
        loss = triplet(z, truth.labels, self.option("margin"), self.option("mining"), drawing)
        return loss, {"anchors_without_positives": count_anchors_without_positives(truth.labels)}
