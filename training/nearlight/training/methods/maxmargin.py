"""Max-margin: equal pairs together, others a margin apart (Hadsell, Chopra and LeCun 2006)."""

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
from nearlight.training.losses import max_margin
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class MaxMargin(Method):
    """All pairs of the batch, those of one class and the others weighing alike."""

    needs_labels = True
    recipe: ClassVar[dict[str, Any]] = recipe(
        SUPERVISED_RECIPE, views=[view(crop_scale=[0.2, 1.0])], optimiser={"lr": 0.05}, batch_size=256
    )
    exported_head = "head"

    class Options(Section):
        """What only this method can be told."""

        margin: float = Field(1.0, ge=0)
        """In Euclidean distance; unit vectors are 0 to 2 apart."""
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
        """Returns the sum of the mean over equal pairs and the mean over the others."""
        z, labels, margin = vectors["z"], truth.labels, self.option("margin")
        first, second = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
        same = labels[first] == labels[second]
        losses = [
            max_margin(z[first[kind]], z[second[kind]], same[kind], margin)
            for kind in (same, ~same)
            if bool(kind.any())
        ]
        return torch.stack(losses).sum(), {"equal_pairs": same.sum()}
