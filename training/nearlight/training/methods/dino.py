"""DINO: a student that matches its teacher's outputs on other crops (Caron et al. 2021)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.errors import ConfigError
from nearlight.training.heads import Prototypes
from nearlight.training.losses import dino_centre, dino_loss
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.momentum import cosine_momentum, follow, momentum_copy


class Dino(Method):
    """Multi-crop, a centred and sharpened teacher that follows the student; the teacher is exported.

    The first two views are global and go through the teacher; all go through the student.
    """

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE,
        views=[
            view(saturation=0.2, crop_scale=[0.3, 1.0]),
            view(saturation=0.2, crop_scale=[0.3, 1.0], solarise=0.2),
            view(saturation=0.2, crop_scale=[0.05, 0.3], side_px=16, count=4),
        ],
        optimiser={"clip_grad_norm": 3.0},
    )
    exported = "teacher"
    exported_head = "teacher_head"

    class Options(Section):
        """What only DINO can be told."""

        prototypes: int = Field(2048, ge=2)
        hidden: int = Field(2048, ge=1)
        bottleneck: int = Field(256, ge=2)
        student_temperature: float = Field(0.1, gt=0)
        teacher_temperature: float = Field(0.04, gt=0)
        """At the end of its warm-up; above 0.07 training gets unstable."""
        teacher_temperature_start: float = Field(0.04, gt=0)
        teacher_warmup_epochs: float = Field(30, ge=0)
        centre_momentum: float = Field(0.9, ge=0, lt=1)
        momentum: float = Field(0.99, ge=0, le=1)
        """At the first step; it rises to 1."""
        freeze_last_epochs: float = Field(1, ge=0)
        """The prototypes stay as they were drawn for so long."""

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        if sum(v.count for v in config.views) < 2:
            raise ConfigError(f"views has {len(config.views)} views; dino needs at least 2")
        self.encoder = build_encoder(config.encoder)
        norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.encoder.modules())
        width = feature_dim(self.encoder, config.encoder)
        self.head = Prototypes(
            width, self.option("hidden"), self.option("bottleneck"), self.option("prototypes"), norm
        )
        self.teacher, self.teacher_head = momentum_copy(self.encoder), momentum_copy(self.head)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(self.option("prototypes")))
        self._teacher_logits: Tensor | None = None

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns logits of the student (B, S, K) and of the teacher (B, 2, K), and features to watch."""
        count = len(views[0])
        sides: dict[int, list[Tensor]] = {}
        for made in views:
            sides.setdefault(made.shape[-1], []).append(made)
        features = [self.encoder(torch.cat(group)) for group in sides.values()]  # one pass for each size
        student = self.head(torch.cat(features))  # (S B, K), sizes in order of first appearance
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher(torch.cat(list(views[:2]))))  # (2 B, K)
        return {
            "student": student.view(len(views), count, -1).transpose(0, 1),
            "teacher": teacher.view(2, count, -1).transpose(0, 1),
            "features": features[0][:count].detach(),
        }

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, and the entropy of the teacher's outputs (ln K: collapsed to uniform)."""
        student, teacher = vectors["student"].transpose(0, 1), vectors["teacher"].transpose(0, 1).detach()
        temperature = self._teacher_temperature(truth.step)
        self._teacher_logits = teacher.float()
        loss = dino_loss(student, teacher, self.centre, self.option("student_temperature"), temperature)
        targets = ((self._teacher_logits - self.centre) / temperature).softmax(dim=-1)
        entropy = -torch.xlogy(targets, targets).sum(dim=-1).mean()
        return loss, {"teacher_entropy": entropy}

    def after_backward(self, step: int) -> None:
        """Keeps the prototypes still for the first epoch: without a gradient not even momentum moves them."""
        if step < self.option("freeze_last_epochs") * self._epoch_steps():
            for weights in self.head.last.parameters():
                weights.grad = None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the centre and the teacher."""
        if self._teacher_logits is not None:
            self.centre.copy_(dino_centre(self.centre, self._teacher_logits, self.option("centre_momentum")))
        momentum = cosine_momentum(self.option("momentum"), self.progress(step))
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def watched(self, vectors: Vectors) -> Tensor | None:
        """Returns the features of the first view."""
        return vectors["features"]

    def _teacher_temperature(self, step: int) -> float:
        start, end = self.option("teacher_temperature_start"), self.option("teacher_temperature")
        share = step / max(self.option("teacher_warmup_epochs") * self._epoch_steps(), 1e-9)
        return float(start + (end - start) * min(share, 1.0))

    def _epoch_steps(self) -> float:
        return self.facts.samples / self.config.batch_size
