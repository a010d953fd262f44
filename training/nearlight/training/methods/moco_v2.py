"""MoCo v2: a queue of keys from a momentum encoder, an MLP head (Chen, Fan, Girshick and He 2020)."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.heads import SplitBatchNorm2d, mlp
from nearlight.training.losses import info_nce
from nearlight.training.method import DataFacts, Method, Truth, Vectors
from nearlight.training.momentum import follow, momentum_copy
from nearlight.training.queues import enqueue, fresh_rows


class MocoV2(Method):
    """Queries against their keys and a queue of former keys, which are enqueued only after the loss.

    Keys are shuffled before they are encoded and put back afterwards, and batch norms work on `splits`
    parts of the batch, so that a query and its key never share statistics: as on several GPUs.
    """

    recipe: ClassVar[dict[str, Any]] = recipe(SSL_RECIPE, views=[view(count=2)])
    exported_head = "head"

    class Options(Section):
        """What only MoCo can be told."""

        temperature: float = Field(0.1, gt=0)
        queue: int = Field(4096, ge=1)
        momentum: float = Field(0.99, ge=0, le=1)
        symmetric: bool = True
        """Both views are queries; else the first alone, as in the paper."""
        splits: int = Field(8, ge=1)
        hidden: int | None = Field(512, ge=1)
        """None: a linear head."""
        projection: int = Field(128, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        splits = self.option("splits")
        resnet = config.encoder.name.startswith("resnet") and splits > 1
        norm: dict[str, Any] = {"norm_layer": partial(SplitBatchNorm2d, splits=splits)} if resnet else {}
        self.encoder = build_encoder(config.encoder, **norm)
        width, hidden, out = (
            feature_dim(self.encoder, config.encoder),
            self.option("hidden"),
            self.option("projection"),
        )
        self.head = mlp([width, out] if hidden is None else [width, hidden, out], norm=False)
        self.key_encoder, self.key_head = momentum_copy(self.encoder), momentum_copy(self.head)
        self.queue: Tensor
        self.register_buffer("queue", fresh_rows(self.option("queue"), out))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._keys: Tensor | None = None

    def cautions(self) -> Iterable[str]:
        """A queue that holds every image holds the image itself, as a negative of its own."""
        queue, samples = self.option("queue"), self.facts.samples
        if queue >= samples:
            yield f"options.queue = {queue}: with {samples} images each is in the queue, a negative of itself"

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns queries and keys; both ways if symmetric."""
        sides = (0, 1) if self.option("symmetric") else (0,)
        vectors = {f"query{i}": self._query(views[i]) for i in sides}
        return vectors | {f"key{i}": self._key(views[1 - i], generator) for i in sides}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean over the directions; remembers the keys for the queue."""
        sides = [name[-1] for name in vectors if name.startswith("query")]
        losses = [
            info_nce(
                vectors[f"query{i}"], vectors[f"key{i}"].detach(), self.option("temperature"), self.queue
            )
            for i in sides
        ]
        self._keys = torch.cat([vectors[f"key{i}"].detach() for i in sides])
        return torch.stack(losses).mean(), {}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Moves the key encoder, then enqueues the keys of this step."""
        momentum = self.option("momentum")
        follow(self.key_encoder, self.encoder, momentum)
        follow(self.key_head, self.head, momentum)
        if self._keys is not None:
            enqueue(self.queue, self.get_buffer("place"), self._keys)

    def _query(self, view: Tensor) -> Tensor:
        return F.normalize(self.head(self.encoder(view)).float(), dim=1)

    @torch.no_grad()
    def _key(self, view: Tensor, generator: torch.Generator) -> Tensor:
        shuffle = torch.randperm(len(view), generator=generator).to(view.device)
        mixed = view[shuffle].contiguous(memory_format=torch.channels_last)
        keys = F.normalize(self.key_head(self.key_encoder(mixed)).float(), dim=1)
        return keys[shuffle.argsort()]
