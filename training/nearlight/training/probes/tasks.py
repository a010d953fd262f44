"""The probes as tasks of `nearlight evaluate`, each with the protocol its figures hold under."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nearlight.training.checkpoint import is_encoder_run, load_config_of, load_encoder, load_model
from nearlight.training.encoders import normalise_pixels
from nearlight.training.errors import ConfigError, DataError
from nearlight.training.probes.alignment import alignment
from nearlight.training.probes.calibration import BINS, calibration_error
from nearlight.training.probes.features import EncoderFeatures, labels_of
from nearlight.training.probes.knn import TEMPERATURE, K, knn
from nearlight.training.probes.linear import DECAYS, HELD_OUT, fit_best, linear_probe
from nearlight.training.sections import EncoderSection, ViewSection
from nearlight.training.sources import Source, open_source
from nearlight.training.views import make_views
from nearlight.training.watch import effective_rank, uniformity

TASKS = {
    "knn": f"weighted kNN, cosine, k = {K}, T = {TEMPERATURE}, features before the head, one centre view",
    "linear": f"logistic regression on frozen standardised features before the head, L-BFGS, L2 penalty of "
    f"{', '.join(f'{d:g}' for d in DECAYS)} chosen on {HELD_OUT:.0%} of the training images, one centre view",
    "alignment": "alignment (two views: crop of 0.2 to 1 and flip; α = 2), uniformity (t = 2) and effective "
    "rank of unit features before the head, at most 2,000 images",
    "calibration": f"expected calibration error, {BINS} bins of equal width, of the probabilities of the "
    "linear probe (see `linear`); of a ce run, those of its own classifier",
}
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Probed:
    """A trained image encoder with what it was trained on."""

    features: EncoderFeatures
    section: EncoderSection
    train: tuple[str, ...]
    head: torch.nn.Module | None
    classes: tuple[str, ...]


def probe(model: str, task: str, data: Sequence[str], bank: Sequence[str]) -> dict[str, Any]:
    """Returns the figures of a task on each source, with their protocol.

    Args:
        model: a run folder.
        task: one of `TASKS`.
        data: sources.
        bank: labelled sources to learn from; empty: the run's training data.

    Raises:
        ConfigError: the model is a bundle.
        DataError: a source that does not suit the task.
    """
    if not (Path(model) / "checkpoint.pt").is_file():
        raise ConfigError(f"--task {task} is made on a run folder; {model!r} is none")
    probed = _open(Path(model))
    known = tuple(bank) or probed.train
    results = {}
    for spec in data:
        source = open_source(spec, words=False)
        if task == "alignment":
            results[source.name] = _alignment(probed, source)
        elif task == "calibration":
            results[source.name] = _calibration(probed, source, known)
        else:
            measure = knn if task == "knn" else linear_probe
            results[source.name] = measure(probed.features, _labelled(known), source)
    return {
        "model": model,
        "task": task,
        "protocol": TASKS[task],
        "train": [Path(spec).name for spec in known],
        "results": results,
    }


def _open(run: Path) -> Probed:
    train = load_config_of(run).data.train
    if is_encoder_run(run):
        loaded = load_encoder(run)
        head = loaded.head if loaded.config.method == "ce" else None
        features = EncoderFeatures(loaded.encoder, loaded.section)
        return Probed(features, loaded.section, train, head, loaded.facts.classes)
    towers = load_model(run)
    model = towers.config.model
    section = EncoderSection(image_px=model.image_px, mean=model.mean, std=model.std)
    return Probed(EncoderFeatures(towers.model.visual, section), section, train, None, ())


def _labelled(specs: Sequence[str]) -> Source:
    sources = [open_source(spec, words=False) for spec in specs]
    found = next((s for s in sources if s.label_names is not None), None)
    if found is None:
        raise DataError("no training source has a label_name for each image; name one with --train")
    return found


def _alignment(probed: Probed, source: Source) -> dict[str, float]:
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
    return {
        "alignment": alignment(torch.cat(pair[0]), torch.cat(pair[1])),
        "uniformity": uniformity(still),
        "effective_rank": effective_rank(torch.nn.functional.normalize(still, dim=1)),
        "images": float(len(still)),
    }


def _calibration(probed: Probed, source: Source, known: Sequence[str]) -> dict[str, float]:
    x = probed.features.of(source)
    if probed.head is not None:
        classes = list(probed.classes)
        with torch.no_grad():
            logits = probed.head(x)
    else:
        train = _labelled(known)
        classes = sorted(train.classes)
        fitted, _ = fit_best(probed.features.of(train), labels_of(train, classes), len(classes), seed=0)
        logits = fitted.logits(x)
    truth = labels_of(source, classes)
    hits = (logits.argmax(dim=1) == truth).float().mean()
    return {
        "ece": calibration_error(logits.softmax(dim=1), truth),
        "top1": 100 * float(hits),
        "images": float(len(truth)),
    }
