"""InvaSpread: one network tells each image of the batch from all others (Ye et al. 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class InvaSpread(Method):
    """Positives drawn together, all other images pushed apart, one sigmoid each.

    With P(i|x) the softmax over the batch's first views, the loss is -log P(i|x̂_i) - Σ_{j≠i} log(1 -
    P(i|x_j)), the mean over images (equations 3 to 6 of the paper); gradients flow through all vectors.
    """

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE, views=[view(count=2)], batch_size=128, optimiser={"lr": 0.03, "lr_batch_size": 128}
    )
    exported_head = "head"

    class Options(Section):
        """What only InvaSpread can be told."""

        temperature: float = Field(0.1, gt=0)
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        self.head = nn.Linear(feature_dim(self.encoder, config.encoder), self.option("projection"))

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the projections of both views, encoded together."""
        z1, z2 = self.head(self.encoder(torch.cat(list(views)))).chunk(2)  # (B, P) each
        return {"z1": z1, "z2": z2}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean of both directions."""
        z1, z2 = (F.normalize(vectors[name].float(), dim=1) for name in ("z1", "z2"))
        temperature = self.option("temperature")
        both = invariant_spread(z1, z2, temperature) + invariant_spread(z2, z1, temperature)
        return both / 2, {}


def invariant_spread(still: Tensor, moved: Tensor, temperature: float) -> Tensor:
    """Returns the loss of one direction for unit vectors (N, D) of two views: the mean over images."""
    with torch.autocast(still.device.type, enabled=False):
        positive = (moved @ still.T / temperature).log_softmax(dim=1).diagonal()  # log P(i | view of i)
        apart = (still @ still.T / temperature).log_softmax(dim=1)  # (N, N): row j, column i: log P(i | x_j)
        itself = torch.eye(len(still), dtype=torch.bool, device=still.device)
        # log(1 - e^a) for a < 0, kept away from 0 where one image has all the probability.
        against = torch.log(-torch.expm1(apart.clamp(max=-1e-6))).masked_fill(itself, 0)
        return -(positive + against.sum(dim=0)).mean()
