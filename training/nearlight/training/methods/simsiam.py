"""SimSiam: predicting the other view, whose branch gets no gradient (Chen and He 2021)."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.heads import mlp
from nearlight.training.losses import simsiam_loss
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class SimSiam(Method):
    """Neither negatives nor a momentum encoder; the predictor's learning rate stays at its peak."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        views=[view(count=2, crop_scale=[0.2, 1.0])],
        optimiser={"lr": 0.03, "lr_batch_size": 256, "warmup_epochs": 10},
        epochs=800,
    )
    exported_head = "head"

    class Options(Section):
        """What only SimSiam can be told."""

        hidden: int = Field(2048, ge=1)
        projection: int = Field(2048, ge=2)
        predictor: int = Field(512, ge=1)
        """Width of the predictor's hidden layer."""

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        width, out = feature_dim(self.encoder, config.encoder), self.option("projection")
        # Two layers, as the paper's for CIFAR-10; the last batch norm neither scales nor shifts.
        self.head = mlp([width, self.option("hidden"), out], last_norm=True, last_affine=False)
        self.predictor = mlp([out, self.option("predictor"), out])

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns projections and predictions of both views."""
        z = [self.head(self.encoder(view)) for view in views]
        targets = {f"target{i}": rows.detach() for i, rows in enumerate(z)}
        return targets | {f"prediction{i}": self.predictor(rows) for i, rows in enumerate(z)}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean of both directions."""
        one = simsiam_loss(vectors["prediction0"], vectors["target1"])
        return (one + simsiam_loss(vectors["prediction1"], vectors["target0"])) / 2, {}

    def steady(self) -> Iterable[nn.Module]:
        """The predictor."""
        return (self.predictor,)
