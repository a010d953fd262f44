"""Transfer: what the features are worth on other sets than the encoder was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nearlight.training.errors import DataError
from nearlight.training.probes.features import labels_of
from nearlight.training.probes.knn import TEMPERATURE, K, vote
from nearlight.training.probes.linear import fit_best
from nearlight.training.probes.probed import Answer, Limits, Probed, Task, first_labelled
from nearlight.training.sources import Source


def transfer(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    """Returns top-1 and the mean of the classes' accuracies of a linear probe, and of kNN, on another set.

    Raises:
        DataError: class names are missing, or the test has one the training images have not.
    """
    train = first_labelled(known)
    classes = sorted(train.classes)
    if len(classes) < 2:
        raise DataError(f"{train.name}: transfer needs at least two classes; it has {len(classes)}")
    x, y = probed.features.of(train), labels_of(train, classes)
    fitted, decay = fit_best(x, y, len(classes), limits.seed)
    rows = limits.rows(source)
    query = probed.features.of_pixels(probed.features.pixels_of(source, rows))
    truth = labels_of(source, classes)[rows]
    guesses = fitted.logits(query).argmax(dim=1)
    near = vote(x, y, query, len(classes), K, TEMPERATURE)
    return Answer(
        {
            "linear_top1": top1(guesses, truth),
            "linear_per_class": per_class(guesses, truth),
            "knn_top1": top1(near, truth),
            "decay": decay,
            "classes": float(len(classes)),
            "images": float(len(truth)),
            "bank": float(len(y)),
        }
    )


def top1(guesses: Tensor, truth: Tensor) -> float:
    """Returns the share of right guesses in percent; (N,) int64 each."""
    return 100 * float((guesses == truth).float().mean())


def per_class(guesses: Tensor, truth: Tensor) -> float:
    """Returns the mean over the classes that occur of the share of right guesses, in percent."""
    classes, place = torch.unique(truth, return_inverse=True)
    hits = torch.zeros(len(classes)).index_add_(0, place, (guesses == truth).float())
    return 100 * float((hits / torch.bincount(place)).mean())


TRANSFER = Task(
    "on each set: logistic regression on frozen standardised features before the head, fitted on its own "
    f"training images as in `linear` (top-1, and the mean over classes), and kNN with k = {K}, T = "
    f"{TEMPERATURE}; one centre view",
    transfer,
)
