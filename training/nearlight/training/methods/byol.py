"""BYOL: predicting a slowly moving copy of oneself, without negatives (Grill et al. 2020)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.heads import mlp
from nearlight.training.losses import byol_loss
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.momentum import cosine_momentum, follow, momentum_copy


class Byol(Method):
    """An online network with a predictor, and a target network that follows it."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE, views=[view(saturation=0.2), view(saturation=0.2, solarise=0.2)]
    )
    exported_head = "head"

    class Options(Section):
        """What only BYOL can be told."""

        momentum: float = Field(0.99, ge=0, le=1)
        """At the first step; it rises to 1."""
        hidden: int = Field(1024, ge=1)
        projection: int = Field(256, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        width, hidden, out = (
            feature_dim(self.encoder, config.encoder),
            self.option("hidden"),
            self.option("projection"),
        )
        self.head = mlp([width, hidden, out])
        self.predictor = mlp([out, hidden, out])
        self.target_encoder, self.target_head = momentum_copy(self.encoder), momentum_copy(self.head)

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns predictions and targets of both views, and the online projections to watch."""
        online = [self.head(self.encoder(view)) for view in views]
        vectors = {"watched": online[0].detach()}
        vectors |= {f"prediction{i}": self.predictor(z) for i, z in enumerate(online)}
        with torch.no_grad():
            targets = {f"target{i}": self.target_head(self.target_encoder(v)) for i, v in enumerate(views)}
        return vectors | targets

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the sum of both directions."""
        one = byol_loss(vectors["prediction0"], vectors["target1"])
        return one + byol_loss(vectors["prediction1"], vectors["target0"]), {}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the target network."""
        momentum = cosine_momentum(self.option("momentum"), self.progress(step))
        follow(self.target_encoder, self.encoder, momentum)
        follow(self.target_head, self.head, momentum)
