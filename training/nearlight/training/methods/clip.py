"""CLIP: symmetric InfoNCE between images and texts (Radford et al. 2021)."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nearlight.training.augment import augment, crop_side
from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig
from nearlight.training.losses import clip_loss
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.towers import build_towers, encode_image, encode_text, normalise


class Clip(Method):
    """Two towers, one view of each image, one sentence for each, and the contrast between them."""

    towers_kind: ClassVar[Literal["encoder", "towers"]] = "towers"
    exported = "towers"

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.towers = build_towers(config.model)
        if hasattr(self.towers.visual, "trunk"):
            self.towers.visual.to(memory_format=torch.channels_last)

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
        """Returns the loss, and the scale of its logits."""
        scale = self.towers.logit_scale.exp()
        loss = clip_loss(vectors["image"], vectors["text"], scale, truth.groups)
        return loss, {"logit_scale": scale.detach()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Keeps 1 <= logit_scale <= max_logit_scale, as CLIP does with 100."""
        self.towers.logit_scale.clamp_(0, math.log(self.config.model.max_logit_scale))
