"""A watch for collapse: vectors that all point one way, or a scale that has run into its bound."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.sections import WatchSection

_ROWS = 512  # enough to see a collapse, little enough to cost nothing


def spread(vectors: Tensor) -> float:
    """Returns the standard deviation of unit vectors over that of vectors in all directions, 1/sqrt(D).

    1: spread evenly; 0: all the same (Chen and He 2021, section 4.1).

    Args:
        vectors: (N, D), N >= 2; normalised here.
    """
    unit = F.normalize(vectors.float(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(unit.shape[1])


def effective_rank(vectors: Tensor) -> float:
    """Returns exp of the entropy of the normalised singular values, 1 to min(N, D) (Roy and Vetterli 2007).

    Args:
        vectors: (N, D), centred here.
    """
    values = torch.linalg.svdvals((vectors - vectors.mean(dim=0)).double())
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def uniformity(vectors: Tensor) -> float:
    """Returns log E exp(-2 |x - y|²) over pairs of unit vectors; lower is more even.

    Wang and Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere", equation 2 with t = 2.

    Args:
        vectors: (N, D), N >= 2; normalised here.
    """
    squared = torch.pdist(F.normalize(vectors.float(), dim=1)).square()
    return float((-2 * squared).exp().mean().log())


@dataclass(slots=True)
class Watch:
    """Looks at vectors now and then, and remembers how often they looked bad."""

    section: WatchSection
    max_scale: float = math.inf
    bad: int = field(default=0)

    def look(self, vectors: Tensor | None, logged: dict[str, float]) -> tuple[dict[str, float], str | None]:
        """Returns figures to log, and a warning if there is cause for one.

        Args:
            vectors: (B, D), or None where the method has none to show.
            logged: what the method logs; `logit_scale` is compared with its bound.
        """
        values: dict[str, float] = {}
        warning = None
        if logged.get("logit_scale", 0.0) >= 0.999 * self.max_scale:
            warning = f"logit_scale is at its bound, {self.max_scale:g}: the temperature cannot fall further"
        if vectors is not None and len(vectors) > 1:
            rows = vectors[:_ROWS].float().cpu()
            values = {
                "spread": spread(rows),
                "effective_rank": effective_rank(F.normalize(rows, dim=1)),
                "uniformity": uniformity(rows),
            }
            if values["spread"] < self.section.spread:
                self.bad += 1
                return values, (
                    f"the vectors are collapsing: their spread is {values['spread']:.3f} of 1 "
                    f"(watch.spread = {self.section.spread:g}), effective rank {values['effective_rank']:.1f}"
                )
        self.bad = 0
        return values, warning
