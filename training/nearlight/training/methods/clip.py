"""CLIP: symmetric InfoNCE between images and texts (Radford et al. 2021)."""

import math

import torch
from torch import Tensor, nn

from nearlight.training.augment import augment, crop_side
from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig
from nearlight.training.losses import clip_loss
from nearlight.training.towers import build_towers, encode_image, encode_text, normalise


class Clip(nn.Module):
    """Two towers, one view of each image, one sentence for each, and the contrast between them."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = build_towers(config.model)
        if hasattr(self.towers.visual, "trunk"):
            self.towers.visual.to(memory_format=torch.channels_last)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch and what is worth logging.

        Args:
            batch: on the device of the towers.
            generator: the CPU generator of this step, for the views.
        """
        config = self.config
        side = crop_side(batch.step, config.steps, config.augment, config.model.image_px)
        views = augment(normalise(batch.pixels, config.model), side, config.augment, generator)
        image = encode_image(self.towers, views)  # (B, D)
        sentences = torch.cat([encode_text(self.towers, tokens) for tokens in batch.tokens])  # (T, D)
        text = sentences[batch.text_index]  # (B, D)
        scale = self.towers.logit_scale.exp()
        loss = clip_loss(image, text, scale, batch.groups)
        return loss, {"logit_scale": scale.detach()}

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps 1 <= logit_scale <= max_logit_scale, as CLIP does with 100."""
        self.towers.logit_scale.clamp_(0, math.log(self.config.model.max_logit_scale))
