"""What is left of a linear probe's accuracy and calibration when images are corrupted."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nearlight.training.probes.calibration import BINS, calibration_error
from nearlight.training.probes.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from nearlight.training.probes.features import labels_of
from nearlight.training.probes.linear import fit_best
from nearlight.training.probes.probed import Answer, Limits, Probed, Task, first_labelled
from nearlight.training.probes.transfer import top1
from nearlight.training.sources import Source


def corruption(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    """Returns top-1 and calibration error on the test images and at severities 1 to 5.

    The means over the corruptions are the figures; those of each corruption and severity are the details.
    """
    rows = limits.rows(source)
    pixels = probed.features.pixels_of(source, rows)  # (N, S, S, 3)
    classify: Callable[[Tensor], Tensor]
    if probed.is_classifier and probed.head is not None:
        classes, classify = list(probed.facts.classes), probed.head
    else:
        train = first_labelled(known)
        classes = sorted(train.classes)
        y = labels_of(train, classes)
        fitted, _ = fit_best(probed.features.of(train), y, len(classes), limits.seed)
        classify = fitted.logits
    truth = labels_of(source, classes)[rows]

    @torch.no_grad()
    def score(images: Tensor) -> tuple[float, float]:
        logits = classify(probed.features.of_pixels(images))
        return top1(logits.argmax(dim=1), truth), calibration_error(logits.softmax(dim=1), truth)

    clean = score(pixels)
    found = {
        name: [score(corrupt(pixels, name, severity, limits.seed)) for severity in SEVERITIES]
        for name in CORRUPTIONS
    }
    figures = {"top1_test": clean[0]}
    figures |= {f"top1_severity_{s}": _mean(found, s, 0) for s in SEVERITIES}
    figures["top1_corrupted"] = sum(_mean(found, s, 0) for s in SEVERITIES) / len(SEVERITIES)
    figures["ece_test"] = clean[1]
    figures |= {f"ece_severity_{s}": _mean(found, s, 1) for s in SEVERITIES}
    details = {
        "top1": {name: [t for t, _ in scores] for name, scores in found.items()},
        "ece": {name: [e for _, e in scores] for name, scores in found.items()},
    }
    return Answer({**figures, "images": float(len(truth))}, details)


def _mean(found: dict[str, list[tuple[float, float]]], severity: int, place: int) -> float:
    return sum(scores[severity - 1][place] for scores in found.values()) / len(found)


CORRUPTION = Task(
    f"{len(CORRUPTIONS)} corruptions of Hendrycks and Dietterich 2019 at the severities of their CIFAR-10-C, "
    "made here (lengths in proportion to the side; frost is drawn, not photographed) on the preprocessed "
    "images; top-1 and expected calibration error "
    f"({BINS} bins) of the linear probe fitted on clean images (see `linear`), of a ce run those of its own "
    "classifier; means over the corruptions",
    corruption,
)
