"""CMC: lightness and colour as two views of an image (Tian, Krishnan and Isola 2020)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import EncoderSection, RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder
from nearlight.training.losses import instance_constant, instance_nce
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.queues import fresh_rows
from nearlight.training.views.lab import to_lab


class LabEncoder(nn.Module):
    """One encoder for L, one for ab; their features side by side."""

    def __init__(self, section: EncoderSection) -> None:
        super().__init__()
        self.lightness, self.colour = build_encoder(section, channels=1), build_encoder(section, channels=2)
        self.register_buffer("mean", torch.tensor(section.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(section.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, 2 D) of normalised RGB images (B, 3, S, S)."""
        return torch.cat(self.parts(images), dim=1)

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features of L and of ab, each (B, D)."""
        with torch.autocast(images.device.type, enabled=False):
            lab = to_lab(images.float() * self.get_buffer("std") + self.get_buffer("mean"))
        return self.lightness(lab[:, :1]), self.colour(lab[:, 1:])


class Cmc(Method):
    """Two encoders, two memory banks: L is told from the bank of ab, and ab from the bank of L."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        views=[view(crop_scale=[0.2, 1.0], jitter=0.0, grey=0.0)],
        batch_size=128,
        optimiser={"lr": 0.03, "lr_batch_size": 128},
    )

    class Options(Section):
        """What only CMC can be told."""

        temperature: float = Field(0.1, gt=0)
        negatives: int = Field(0, ge=0)
        """Drawn from the banks for each image (NCE; the paper's 16384); 0: the full softmax."""
        bank_momentum: float = Field(0.5, ge=0, lt=1)
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = LabEncoder(config.encoder)
        side, out = config.encoder.image_px, self.option("projection")
        self.encoder.eval()
        with torch.no_grad():
            width = self.encoder(torch.zeros(1, 3, side, side)).shape[1] // 2
        self.encoder.train()
        self.heads = nn.ModuleList(nn.Linear(width, out) for _ in range(2))
        self.banks: Tensor
        self.constants: Tensor
        self.register_buffer("banks", torch.stack([fresh_rows(facts.samples, out) for _ in range(2)]))
        self.register_buffer("constants", torch.zeros(2))  # Z of NCE; 0: not estimated yet
        self._update: tuple[Tensor, list[Tensor]] | None = None

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the vectors of L and of ab."""
        lightness, colour = self.encoder.parts(views[0])
        return {"l": self.heads[0](lightness), "ab": self.heads[1](colour)}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the sum of both directions; the banks are brought up to date after the step."""
        losses, temperature = [], self.option("temperature")
        for place, name in enumerate(("l", "ab")):
            z, bank = vectors[name], self.banks[1 - place]
            negatives, constant = None, None
            if self.option("negatives"):
                shape = (len(z), self.option("negatives"))
                negatives = torch.randint(len(bank), shape, generator=generator).to(z.device)
                if not self.constants[place]:
                    self.constants[place] = instance_constant(z, bank, temperature, negatives)
                constant = self.constants[place]
            losses.append(instance_nce(z, truth.index, bank, temperature, negatives, constant))
        rows = [F.normalize(vectors[name].detach().float(), dim=1) for name in ("l", "ab")]
        self._update = (truth.index, rows)
        return losses[0] + losses[1], {}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the vectors of this step's images in both banks."""
        if self._update is not None:
            index, rows = self._update
            keep = self.option("bank_momentum")
            for bank, z in zip(self.banks, rows, strict=True):
                bank[index] = F.normalize(keep * bank[index] + (1 - keep) * z, dim=1)
