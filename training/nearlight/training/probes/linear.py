"""A linear classifier on frozen features, its regularisation chosen on held-out training images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.errors import DataError
from nearlight.training.probes.features import Features, labels_of
from nearlight.training.sources import Source

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted classifier."""

    weight: Tensor
    """(C, D)"""
    bias: Tensor
    """(C,)"""
    mean: Tensor
    std: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Returns (N, C) of (N, D) features."""
        return F.linear((features - self.mean) / self.std, self.weight, self.bias)


def linear_probe(features: Features, train: Source, test: Source, seed: int = 0) -> dict[str, float]:
    """Returns top-1 in percent of a multinomial logistic regression on frozen features.

    Features before the head, standardised by the training images; one centre view; L-BFGS to
    convergence; the weight of the L2 penalty is swept over `DECAYS` on a tenth of the training images
    held out, then fitted on all of them. The test images choose nothing.

    Args:
        features: what makes them.
        train: labelled images.
        test: labelled images of the same classes.
        seed: of the split.

    Raises:
        DataError: class names are missing, or the test has one the training data has not.
    """
    if len(train.classes) < 2:
        raise DataError(f"{train.name}: a linear probe needs a label_name for each image and two classes")
    classes = sorted(train.classes)
    x, y = features.of(train), labels_of(train, classes)
    probe, decay = fit_best(x, y, len(classes), seed)
    logits = probe.logits(features.of(test))
    truth = labels_of(test, classes)
    hits = (logits.argmax(dim=1) == truth).float().mean()
    return {
        "linear_top1": 100 * float(hits),
        "decay": decay,
        "images": float(len(test)),
        "bank": float(len(y)),
    }


def fit_best(x: Tensor, y: Tensor, classes: int, seed: int) -> tuple[Probe, float]:
    """Returns the probe of the best penalty, and the penalty."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held = order[: max(round(HELD_OUT * len(x)), 1)]
    kept = order[len(held) :]
    scores = []
    for decay in DECAYS:
        probe = fit(x[kept], y[kept], classes, decay)
        scores.append(float((probe.logits(x[held]).argmax(dim=1) == y[held]).float().mean()))
    best = DECAYS[scores.index(max(scores))]
    return fit(x, y, classes, best), best


def fit(x: Tensor, y: Tensor, classes: int, decay: float, steps: int = 100) -> Probe:
    """Returns the logistic regression of (N, D) features and (N,) labels with penalty decay / 2 |w|²."""
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0).clamp(min=1e-6)
    rows = (x - mean) / std
    layer = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    solver = torch.optim.LBFGS(layer.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(layer(rows), y) + decay / 2 * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return Probe(layer.weight.detach(), layer.bias.detach(), mean, std)
