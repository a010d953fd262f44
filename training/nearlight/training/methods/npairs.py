"""N-pairs: one positive against one negative of each other class (Sohn 2016)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, Section
from nearlight.training.defaults import SUPERVISED_RECIPE, recipe, view
from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.losses import n_pairs
from nearlight.training.method import DataFacts, Method, Truth, Vectors


class NPairs(Method):
    """Pairs drawn from the batch: in each round one pair of every class that has two images left."""

    needs_labels = True
    recipe: ClassVar[dict[str, Any]] = recipe(
        SUPERVISED_RECIPE, views=[view(crop_scale=[0.2, 1.0])], optimiser={"lr": 0.05}, batch_size=256
    )
    exported_head = "head"

    class Options(Section):
        """What only this method can be told."""

        length: float = Field(0.002, ge=0)
        """Weight of the mean squared length of the vectors, which are not normalised."""
        projection: int = Field(64, ge=2)

    def __init__(self, config: RunConfig, facts: DataFacts) -> None:
        super().__init__(config, facts)
        self.encoder = build_encoder(config.encoder)
        self.head = nn.Linear(feature_dim(self.encoder, config.encoder), self.option("projection"))

    def embed(self, views: Sequence[Tensor], batch: Batch, generator: torch.Generator) -> Vectors:
        """Returns vectors of any length."""
        return {"z": self.head(self.encoder(views[0]))}

    def loss(
        self, vectors: Vectors, truth: Truth, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean over rounds, with the penalty on length."""
        z = vectors["z"].float()
        rounds = pair_rounds(truth.labels)
        penalty = self.option("length") * z.square().sum(dim=1).mean()
        if not rounds:
            return penalty + 0 * z.sum(), {"rounds": torch.zeros(())}
        losses = [n_pairs(z[first], z[second]) for first, second in rounds]
        return torch.stack(losses).mean() + penalty, {"rounds": torch.tensor(float(len(rounds)))}


def pair_rounds(labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns rounds of pairs, anchors and positives as rows; in each round every class comes once at most.

    Rounds with a single pair are left out: it would have nothing to be told from.
    """
    order = labels.argsort(stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    starts = counts.cumsum(0) - counts  # (C,)
    rounds = []
    for turn in range(int(counts.max()) // 2):
        first = starts[counts >= 2 * turn + 2] + 2 * turn
        if len(first) > 1:
            rounds.append((order[first], order[first + 1]))
    return rounds
