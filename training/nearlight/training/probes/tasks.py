"""The probes as tasks of `nearlight evaluate`, each with the protocol its figures hold under."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nearlight.training.encoders import normalise_pixels
from nearlight.training.errors import ConfigError
from nearlight.training.probes.alignment import alignment
from nearlight.training.probes.calibration import BINS, calibration_error
from nearlight.training.probes.corruption import CORRUPTION
from nearlight.training.probes.features import labels_of
from nearlight.training.probes.finetune import FINETUNE
from nearlight.training.probes.head_information import HEAD_INFORMATION
from nearlight.training.probes.knn import TEMPERATURE, K, knn
from nearlight.training.probes.linear import DECAYS, HELD_OUT, fit_best, linear_probe
from nearlight.training.probes.probed import Answer, Limits, Probed, Task, first_labelled, open_run
from nearlight.training.probes.transfer import TRANSFER
from nearlight.training.sections import ViewSection
from nearlight.training.sources import Source, open_source
from nearlight.training.views import make_views
from nearlight.training.watch import effective_rank, uniformity

_MOST = 2000


def _knn(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    return Answer(knn(probed.features, first_labelled(known), source))


def _linear(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    return Answer(linear_probe(probed.features, first_labelled(known), source))


def _alignment(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    features, section = probed.features, probed.section
    pixels = features.pixels(source, _MOST)  # (N, S, S, 3)
    generator = torch.Generator().manual_seed(0)
    kinds = (ViewSection(count=2, crop_scale=(0.2, 1.0)),)
    pair: list[list[Tensor]] = [[], []]
    plain = []
    with torch.no_grad():
        for part in torch.split(pixels, 256):
            for place, view in enumerate(make_views(part, kinds, section, generator)):
                pair[place].append(features.encoder(view).float())
            plain.append(features.encoder(normalise_pixels(part, section)).float())
    still = torch.cat(plain)
    return Answer(
        {
            "alignment": alignment(torch.cat(pair[0]), torch.cat(pair[1])),
            "uniformity": uniformity(still),
            "effective_rank": effective_rank(torch.nn.functional.normalize(still, dim=1)),
            "images": float(len(still)),
        }
    )


def _calibration(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    x = probed.features.of(source)
    if probed.is_classifier and probed.head is not None:
        classes = list(probed.facts.classes)
        with torch.no_grad():
            logits = probed.head(x)
    else:
        train = first_labelled(known)
        classes = sorted(train.classes)
        fitted, _ = fit_best(probed.features.of(train), labels_of(train, classes), len(classes), seed=0)
        logits = fitted.logits(x)
    truth = labels_of(source, classes)
    hits = (logits.argmax(dim=1) == truth).float().mean()
    return Answer(
        {
            "ece": calibration_error(logits.softmax(dim=1), truth),
            "top1": 100 * float(hits),
            "images": float(len(truth)),
        }
    )


TASKS: dict[str, Task] = {
    "knn": Task(
        f"weighted kNN, cosine, k = {K}, T = {TEMPERATURE}, features before the head, one centre view", _knn
    ),
    "linear": Task(
        "logistic regression on frozen standardised features before the head, L-BFGS, L2 penalty of "
        f"{', '.join(f'{d:g}' for d in DECAYS)} chosen on {HELD_OUT:.0%} of the training images, one centre "
        "view",
        _linear,
    ),
    "finetune": FINETUNE,
    "transfer": TRANSFER,
    "corruption": CORRUPTION,
    "calibration": Task(
        f"expected calibration error, {BINS} bins of equal width, of the probabilities of the linear probe "
        "(see `linear`); of a ce run, those of its own classifier",
        _calibration,
    ),
    "alignment": Task(
        "alignment (two views: crop of 0.2 to 1 and flip; α = 2), uniformity (t = 2) and effective rank of "
        "unit features before the head, at most 2,000 images",
        _alignment,
    ),
    "head-information": HEAD_INFORMATION,
}


def probe(
    model: str, task: str, data: Sequence[str], bank: Sequence[str], limits: Limits | None = None
) -> dict[str, Any]:
    """Returns the figures of a task on each source, with their protocol.

    Args:
        model: a run folder.
        task: one of `TASKS`.
        data: sources.
        bank: labelled sources to learn from; empty: the run's training data. For `transfer` one for each
            source of `data`.
        limits: how much to look at.

    Raises:
        ConfigError: the model is a bundle, or `transfer` has not as many banks as sources.
        DataError: a source that does not suit the task.
    """
    if not (Path(model) / "checkpoint.pt").is_file():
        raise ConfigError(f"--task {task} is made on a run folder; {model!r} is none")
    limits = limits or Limits()
    probed = open_run(Path(model))
    known = [tuple(bank) or probed.train] * len(data)
    if task == "transfer":
        if len(bank) != len(data):
            raise ConfigError(
                f"--task transfer needs one --train for each --data, in their order; there are {len(bank)} "
                f"for {len(data)}"
            )
        known = [(spec,) for spec in bank]
    answers = {}
    for spec, banks in zip(data, known, strict=True):
        source = open_source(spec, words=False)
        answers[source.name] = TASKS[task].run(probed, source, banks, limits)
    return {
        "model": model,
        "method": probed.config.method,
        "task": task,
        "protocol": TASKS[task].protocol,
        "train": [Path(spec).name for spec in dict.fromkeys(s for banks in known for s in banks)],
        "seed": limits.seed,
        "results": {name: answer.figures for name, answer in answers.items()},
        "details": {name: answer.details for name, answer in answers.items() if answer.details},
    }
