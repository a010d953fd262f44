"""The linear stage trained by an optimiser of choice, as in tables of optimiser pairs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.optimisers import build_optimiser, set_rates
from nearlight.training.probes.features import Features, labels_of
from nearlight.training.probes.transfer import top1
from nearlight.training.schedule import lr_factor
from nearlight.training.sections import OptimiserSection
from nearlight.training.sources import Source

BATCH, EPOCHS = 256, 100
RATES = {"sgd": 0.1, "lars": 10.0, "rmsprop": 1e-3, "adamw": 1e-3}
"""For standardised features and batches of 256."""


def linear_stage(
    features: Features, train: Source, test: Source, optimiser: str, seed: int = 0, epochs: int = EPOCHS
) -> dict[str, float]:
    """Returns top-1 in percent of a linear classifier trained by an optimiser on frozen features.

    Features before the head, standardised by the training images, one centre view; 100 epochs of batches of
    256, no weight decay, cosine to 0, the learning rate of `RATES`; last epoch.

    Args:
        features: what makes them.
        train: labelled images.
        test: labelled images of the same classes.
        optimiser: one of `RATES`.
        seed: of the order.
        epochs: how many.

    Raises:
        DataError: class names are missing, or the test has one the training data has not.
    """
    classes = sorted(train.classes)
    x, y = features.of(train), labels_of(train, classes)
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0).clamp(min=1e-6)
    layer = fit_by_steps((x - mean) / std, y, len(classes), optimiser, seed, epochs)
    with torch.no_grad():
        guesses = layer((features.of(test) - mean) / std).argmax(dim=1)
    return {"linear_top1": top1(guesses, labels_of(test, classes)), "images": float(len(test))}


def fit_by_steps(x: Tensor, y: Tensor, classes: int, optimiser: str, seed: int, epochs: int) -> nn.Linear:
    """Returns the classifier of (N, D) features and (N,) labels."""
    section = OptimiserSection.model_validate(
        {"name": optimiser, "lr": RATES[optimiser], "weight_decay": 0.0, "warmup_steps": 0}
    )
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():  # LARS moves weights in proportion to their length, which must not be 0
        layer.weight.copy_(0.01 * torch.randn(layer.weight.shape, generator=generator))
    solver = build_optimiser(layer, section, section.lr)
    batch = min(BATCH, len(y))
    per_epoch = max(len(y) // batch, 1)
    for step in range(per_epoch * epochs):
        if step % per_epoch == 0:
            order = torch.randperm(len(y), generator=generator)
        rows = order[(step % per_epoch) * batch :][:batch]
        set_rates(solver, section.lr, lr_factor(step, per_epoch * epochs, section), 0.0)
        solver.zero_grad()
        F.cross_entropy(layer(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        solver.step()
    return layer
