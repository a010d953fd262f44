"""InstDisc: each image a class of its own, told from a memory bank (Wu, Xiong, Yu and Lin 2018)."""

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
from nearlight.training.losses import instance_constant, instance_nce
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.queues import fresh_rows


class InstDisc(Method):
    """One vector kept for each image; full softmax over the bank, or NCE with so many negatives."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        views=[view(crop_scale=[0.2, 1.0])],
        batch_size=128,
        optimiser={"lr": 0.03, "lr_batch_size": 128},
    )
    exported_head = "head"

    class Options(Section):
        """What only InstDisc can be told."""

        temperature: float = Field(0.1, gt=0)
        negatives: int = Field(0, ge=0)
        """Drawn from the bank for each image (NCE; the paper's 4096); 0: the full softmax, as on CIFAR."""
        bank_momentum: float = Field(0.5, ge=0, lt=1)
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        self.head = nn.Linear(feature_dim(self.encoder, config.encoder), self.option("projection"))
        self.bank: Tensor
        self.constant: Tensor
        self.register_buffer("bank", fresh_rows(facts.samples, self.option("projection")))
        self.register_buffer("constant", torch.zeros(()))  # Z of NCE; 0: not estimated yet
        self._update: tuple[Tensor, Tensor] | None = None

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns the vectors of the one view."""
        return {"z": self.head(self.encoder(views[0]))}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss against the bank; the bank is brought up to date after the step."""
        z, temperature = vectors["z"], self.option("temperature")
        negatives, constant, logged = None, None, {}
        if self.option("negatives"):
            shape = (len(z), self.option("negatives"))
            negatives = torch.randint(len(self.bank), shape, generator=generator).to(z.device)
            if not self.constant:
                self.constant.copy_(instance_constant(z, self.bank, temperature, negatives))
            constant, logged = self.constant, {"nce_constant": self.constant}
        self._update = (truth.index, F.normalize(z.detach().float(), dim=1))
        return instance_nce(z, truth.index, self.bank, temperature, negatives, constant), logged

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the vectors of this step's images: unit(m v + (1 - m) z)."""
        if self._update is not None:
            index, z = self._update
            keep = self.option("bank_momentum")
            self.bank[index] = F.normalize(keep * self.bank[index] + (1 - keep) * z, dim=1)
