"""SimCLR: NT-Xent between two views of each image (Chen et al. 2020)."""

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
from nearlight.training.losses import nt_xent
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class SimClr(Method):
    """One encoder, a projection head, and all other images of the batch as negatives."""

    recipe: ClassVar[dict[str, Any]] = recipe(SSL_RECIPE, views=[view(count=2)])
    exported_head = "head"

    class Options(Section):
        """What only SimCLR can be told."""

        temperature: float = Field(0.5, gt=0)
        hidden: int = Field(512, ge=1)
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        width = feature_dim(self.encoder, config.encoder)
        self.head = mlp([width, self.option("hidden"), self.option("projection")])

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the projections of both views, encoded together."""
        z1, z2 = self.head(self.encoder(torch.cat(list(views)))).chunk(2)  # (B, P) each
        return {"z1": z1, "z2": z2}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns NT-Xent."""
        return nt_xent(vectors["z1"], vectors["z2"], self.option("temperature")), {}
