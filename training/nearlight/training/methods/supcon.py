"""SupCon: all views of one class attract each other (Khosla et al. 2020)."""

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
from nearlight.training.heads import mlp
from nearlight.training.losses import count_anchors_without_positives, supcon
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class SupCon(Method):
    """SimCLR with labels: two stages (train, then `evaluate --task linear`), or joint with cross entropy."""

    needs_labels = True
    recipe: ClassVar[dict[str, Any]] = recipe(
        SUPERVISED_RECIPE, views=[view(count=2, crop_scale=[0.2, 1.0], brightness=0.4, contrast=0.4)]
    )
    exported_head = "head"

    class Options(Section):
        """What only SupCon can be told."""

        variant: Literal["out", "in"] = "out"
        temperature: float = Field(0.1, gt=0)
        max_positives: int | None = Field(None, ge=1)
        cross_entropy: float = Field(0.0, ge=0)
        """Weight of the loss of a linear classifier on the features, trained with the encoder; 0: none."""
        hidden: int = Field(512, ge=1)
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        width = feature_dim(self.encoder, config.encoder)
        self.head = mlp([width, self.option("hidden"), self.option("projection")], norm=False)
        self.classifier = nn.Linear(width, len(facts.classes)) if self.option("cross_entropy") else None

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the projections of both views, and the logits of the classifier if there is one."""
        features = self.encoder(torch.cat(list(views)))  # (2B, D)
        z1, z2 = self.head(features).chunk(2)
        vectors = {"z1": z1, "z2": z2}
        if self.classifier is not None:
            vectors["logits"] = torch.stack(self.classifier(features).chunk(2), dim=1)  # (B, 2, C)
        return vectors

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss over both views, and how many anchors had no positive."""
        z, labels = torch.cat([vectors["z1"], vectors["z2"]]), truth.labels.repeat(2)
        loss = supcon(
            z, labels, self.option("temperature"), self.option("variant"), self.option("max_positives")
        )
        logged = {"anchors_without_positives": count_anchors_without_positives(labels)}
        if "logits" in vectors:
            logits = vectors["logits"].float()
            joint = F.cross_entropy(logits.flatten(0, 1), truth.labels.repeat_interleave(2))
            loss = loss + self.option("cross_entropy") * joint
            logged["cross_entropy"] = joint.detach()
        return loss, logged
