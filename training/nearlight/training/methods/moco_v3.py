"""MoCo v3: keys of the batch, a momentum encoder and a predictor, no queue (Chen, Xie and He 2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.heads import mlp
from nearlight.training.losses import info_nce
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.momentum import cosine_momentum, follow, momentum_copy


class MocoV3(Method):
    """Symmetric InfoNCE times 2 τ; a ViT's patch projection stays as it was drawn, for stability."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        views=[
            view(saturation=0.2, blur=0.0),
            view(saturation=0.2, blur=0.0, solarise=0.2),
        ],
        optimiser={"name": "lars", "lr": 0.3, "lr_batch_size": 256, "weight_decay": 1e-6, "trust": 0.02},
    )
    exported_head = "head"

    class Options(Section):
        """What only MoCo v3 can be told."""

        temperature: float = Field(0.2, gt=0)
        momentum: float = Field(0.99, ge=0, le=1)
        """At the first step; it rises to 1."""
        hidden: int = Field(4096, ge=1)
        projection: int = Field(256, ge=2)
        freeze_patches: bool = True
        """Leave a ViT's patch projection untrained."""

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        width, hidden, out = (
            feature_dim(self.encoder, config.encoder),
            self.option("hidden"),
            self.option("projection"),
        )
        patches = getattr(self.encoder, "patch_embed", None)
        layers = [width, hidden, hidden, out] if isinstance(patches, nn.Module) else [width, hidden, out]
        self.head = mlp(layers, last_norm=True, last_affine=False)
        self.predictor = mlp([out, hidden, out], last_norm=isinstance(patches, nn.Module), last_affine=False)
        self.key_encoder, self.key_head = momentum_copy(self.encoder), momentum_copy(self.head)
        if isinstance(patches, nn.Module) and self.option("freeze_patches"):
            patches.requires_grad_(False)

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns predictions and keys of both views."""
        vectors = {f"query{i}": self.predictor(self.head(self.encoder(view))) for i, view in enumerate(views)}
        with torch.no_grad():
            keys = {f"key{i}": self.key_head(self.key_encoder(view)) for i, view in enumerate(views)}
        return vectors | keys

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns 2 τ times the sum of both directions."""
        temperature = self.option("temperature")
        one = info_nce(vectors["query0"], vectors["key1"].detach(), temperature)
        other = info_nce(vectors["query1"], vectors["key0"].detach(), temperature)
        return 2 * temperature * (one + other), {}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the key encoder."""
        momentum = cosine_momentum(self.option("momentum"), self.progress(step))
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_head, self.head, momentum)
