"""CPC: predicting the patches below from those above (van den Oord, Li and Vinyals 2018)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from timm.layers.norm import GroupNorm
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import EncoderSection, RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import STEM_LEAST_PX, build_encoder, feature_dim
from nearlight.training.errors import ConfigError
from nearlight.training.losses import info_nce
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.views.make import Share, make_view, normalised


class PatchEncoder(nn.Module):
    """One encoder for overlapping patches; an image is the mean of its patches."""

    def __init__(self, section: EncoderSection, patch_px: int) -> None:
        super().__init__()
        if not 4 <= patch_px <= section.image_px // 2:
            limit = f"4 to {section.image_px // 2}, half of encoder.image_px"
            raise ConfigError(f"options.patch_px = {patch_px}; it must be {limit}")
        self.patch_px, self.stride = patch_px, patch_px // 2
        # The others leave nothing of a small patch.
        stem = section.stem if patch_px >= STEM_LEAST_PX[section.stem] else "cifar"
        small = section.model_copy(update={"image_px": patch_px, "stem": stem})
        # Layer norm, as Hénaff et al. 2020: batch norm would tell a patch about those it is to be told from.
        norm: dict[str, Any] = (
            {"norm_layer": partial(GroupNorm, num_groups=1)} if section.name.startswith("resnet") else {}
        )
        self.patches = build_encoder(small, **norm)
        self.num_features = feature_dim(self.patches, small)

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, D)."""
        return self.grid(self.cut(images)).mean(dim=(1, 2))

    def cut(self, images: Tensor) -> Tensor:
        """Returns patches (B, G, G, C, P, P), row 0 on top."""
        cut = images.unfold(2, self.patch_px, self.stride).unfold(3, self.patch_px, self.stride)
        return cut.permute(0, 2, 3, 1, 4, 5)

    def grid(self, patches: Tensor) -> Tensor:
        """Returns (B, G, G, D) of patches (B, G, G, C, P, P)."""
        flat = patches.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.patches(flat)
        return features.view(*patches.shape[:3], -1)


class Cpc(Method):
    """A context of all rows down to one predicts the patches k rows further down, for each k.

    Negatives are the other patches of the batch, of the same image and of others.
    """

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        # Of the image its place, of each patch its look: by a light or a tint of its own, an image's patches
        # would be told from others without a glance at what they show (Hénaff et al. 2020).
        views=[view(crop_scale=[0.5, 1.0], jitter=0.0, grey=0.0), view(crop_scale=[0.5, 1.0])],
        batch_size=128,
        optimiser={"name": "adamw", "lr": 1e-3, "lr_batch_size": None, "weight_decay": 1e-4},
    )

    class Options(Section):
        """What only CPC can be told."""

        patch_px: int = Field(8, ge=4)
        """Side of a patch; patches overlap by half."""
        ahead: int = Field(3, ge=1)
        """How many rows ahead are predicted."""
        context: int = Field(256, ge=8)
        projection: int = Field(128, ge=2)
        temperature: float = Field(0.1, gt=0)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = PatchEncoder(config.encoder, self.option("patch_px"))
        rows = (config.encoder.image_px - self.encoder.patch_px) // self.encoder.stride + 1
        if self.option("ahead") >= rows:
            raise ConfigError(
                f"options.ahead = {self.option('ahead')}; the grid has {rows} rows, so at most {rows - 1}"
            )
        if len(config.views) != 2 or any(section.count != 1 for section in config.views):
            raise ConfigError("views must be two of count 1: of the image, and of each of its patches")
        width, context, out = self.encoder.num_features, self.option("context"), self.option("projection")
        self.above = nn.ModuleList(nn.Conv2d(width if i == 0 else context, context, (2, 3)) for i in range(3))
        self.predict = nn.Conv2d(context, out * self.option("ahead"), 1)
        self.target = nn.Linear(width, out)

    def views(self, batch: Batch, generator: torch.Generator) -> list[Tensor]:
        """Returns the patches (B, G, G, 3, P, P) of one view of each image, each a view of its own."""
        image, patch = self.config.views
        encoder, share = self.config.encoder, batch.share
        pixels = batch.pixels.to(torch.float32) / 255
        cut = self.encoder.cut(make_view(pixels, image, encoder.image_px, generator, share))
        each = cut.shape[1] * cut.shape[2]
        patches = cut.flatten(0, 2).permute(0, 2, 3, 1)  # (B G G, P, P, 3)
        shares = Share(share.start * each, share.whole * each)
        seen = make_view(patches, patch, self.encoder.patch_px, generator, shares)
        return [normalised(seen, encoder).view(cut.shape)]

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns patches (B, G, G, P) and predictions (B, K, G, G, P) made at each of them."""
        grid = self.encoder.grid(views[0])  # (B, G, G, D)
        x = grid.permute(0, 3, 1, 2)
        for layer in self.above:  # two rows, three columns: a place sees its own row and the one above
            x = F.relu(layer(F.pad(x, (1, 1, 1, 0))))
        made = self.predict(x).unflatten(1, (self.option("ahead"), -1))  # (B, K, P, G, G)
        features = grid.mean(dim=(1, 2)).detach()
        return {
            "patches": self.target(grid),
            "predictions": made.permute(0, 1, 3, 4, 2),
            "features": features,
        }

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean over the steps ahead."""
        patches, predictions = vectors["patches"], vectors["predictions"]
        losses = [
            info_nce(
                predictions[:, k - 1, :-k].flatten(0, 2),
                patches[:, k:].flatten(0, 2),
                self.option("temperature"),
            )
            for k in range(1, self.option("ahead") + 1)
        ]
        return torch.stack(losses).mean(), {}
