"""SigLIP: a sigmoid for each pair of image and text (Zhai et al. 2023)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nearlight.training.augment import augment, crop_side
from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig
from nearlight.training.losses import siglip_loss
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.towers import build_towers, encode_image, encode_text, normalise


class Siglip(Method):
    """Two towers whose every pair is judged by itself, with a scale and a bias that are learnt.

    The loss knows the pairs of the batch alone: two images of one class are negatives of each other, so
    captions suit it better than class names.
    """

    towers_kind: ClassVar[Literal["encoder", "towers"]] = "towers"
    exported = "towers"
    recipe: ClassVar[dict[str, Any]] = {"optimiser": {"betas": [0.9, 0.95], "weight_decay": 1e-4}}

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.towers = build_towers(config.model)
        if hasattr(self.towers.visual, "trunk"):
            self.towers.visual.to(memory_format=torch.channels_last)
        self.towers.logit_scale.data.fill_(math.log(10))
        self.towers.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def views(self, batch: Batch, generator: torch.Generator) -> list[Tensor]:
        """Returns one view of each image."""
        config = self.config
        side = crop_side(batch.step, config.steps, config.augment, config.model.image_px)
        pixels = normalise(batch.pixels, config.model)
        return [augment(pixels, side, config.augment, generator, batch.share)]

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the features of images and of their sentences, each (B, D)."""
        image = encode_image(self.towers, views[0])  # (B, D)
        sentences = torch.cat([encode_text(self.towers, tokens) for tokens in batch.tokens])  # (T, D)
        return {"image": image, "text": sentences[batch.text_index]}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, and the scale and bias of its logits."""
        scale, bias = self.towers.logit_scale.exp(), self.towers.logit_bias
        loss = siglip_loss(vectors["image"], vectors["text"], scale, bias)
        return loss, {"logit_scale": scale.detach(), "logit_bias": bias.detach()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Keeps 1 <= logit_scale <= max_logit_scale."""
        self.towers.logit_scale.clamp_(0, math.log(self.config.model.max_logit_scale))
