"""Fine-tuning on few labels: encoder and linear classifier, from the run's weights and from fresh ones."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.encoders import normalise_pixels
from nearlight.training.errors import DataError
from nearlight.training.probes.features import labels_of
from nearlight.training.probes.probed import Answer, Limits, Probed, Task, first_labelled
from nearlight.training.sections import ViewSection
from nearlight.training.sources import Source
from nearlight.training.views import make_views

BATCH, RATE, MOMENTUM, STEPS, EPOCHS = 64, 0.02, 0.9, 200, 30
_VIEW = ViewSection(crop_scale=(0.35, 1.0))


def finetune(probed: Probed, source: Source, known: Sequence[str], limits: Limits) -> Answer:
    """Returns top-1 and top-5 after fine-tuning on each share of the labels, with and without the run.

    Raises:
        DataError: class names are missing, or the test has one the training images have not.
    """
    train = first_labelled(known)
    classes = sorted(train.classes)
    if len(classes) < 2:
        raise DataError(f"{train.name}: fine-tuning needs at least two classes; it has {len(classes)}")
    y = labels_of(train, classes)
    rows = limits.rows(source)
    test, truth = probed.features.pixels_of(source, rows), labels_of(source, classes)[rows]
    figures: dict[str, float] = {}
    for fraction in limits.fractions:
        chosen = balanced_rows(y, fraction, limits.seed)
        pixels, labels = probed.features.pixels_of(train, chosen), y[chosen]
        for start in ("finetuned", "scratch"):
            encoder = copy.deepcopy(probed.features.encoder)
            if start == "scratch":
                encoder = probed.untrained(limits.seed)
            net = fit_whole(encoder, pixels, labels, len(classes), probed, limits.seed)
            logits = _logits(net, test, probed)
            for k in (1, 5):
                hits = (logits.topk(min(k, len(classes)), dim=1).indices == truth[:, None]).any(dim=1)
                figures[f"{start}_{100 * fraction:g}%_top{k}"] = 100 * float(hits.float().mean())
        figures[f"labels_{100 * fraction:g}%"] = float(len(chosen))
    return Answer({**figures, "classes": float(len(classes)), "images": float(len(truth))})


def balanced_rows(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Returns the rows, in order, of a share of each class: at least one, rounded.

    Args:
        labels: (N,) int64.
        fraction: > 0 to 1.
        seed: which ones.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in torch.unique(labels):
        own = (labels == label).nonzero()[:, 0]
        count = max(round(fraction * len(own)), 1)
        chosen.append(own[torch.randperm(len(own), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def fit_whole(
    encoder: nn.Module, pixels: Tensor, labels: Tensor, classes: int, probed: Probed, seed: int
) -> nn.Sequential:
    """Returns encoder and classifier after training both, in evaluation mode.

    Args:
        encoder: changed in place.
        pixels: (N, S, S, 3) uint8.
        labels: (N,) int64 below `classes`.
        classes: how many.
        probed: what the encoder takes.
        seed: of order and views.
    """
    device = next(probed.features.encoder.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    encoder.to(device).requires_grad_(True).eval()
    with torch.no_grad():
        width = encoder(normalise_pixels(pixels[:1].to(device), probed.section)).shape[1]
    encoder.train()
    classifier = nn.Linear(width, classes).to(device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    net = nn.Sequential(encoder, classifier)
    trained = [p for p in net.parameters() if p.requires_grad]
    solver = torch.optim.SGD(trained, lr=RATE, momentum=MOMENTUM, nesterov=True)
    steps = steps_for(len(labels))
    batch = min(BATCH, len(labels))
    order = torch.empty(0, dtype=torch.int64)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=probed.config.precision == "bf16")
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(labels), generator=generator)
        rows, order = order[:batch], order[batch:]
        for group in solver.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        (view,) = make_views(pixels[rows].to(device), (_VIEW,), probed.section, generator)
        with autocast:
            logits = net(view)
        solver.zero_grad()
        F.cross_entropy(logits.float(), labels[rows].to(device)).backward()  # type: ignore[no-untyped-call]
        solver.step()
    return net.eval()


def steps_for(labels: int) -> int:
    """Returns the steps of fine-tuning on so many labels: `EPOCHS` epochs, `STEPS` at least."""
    return max(STEPS, math.ceil(EPOCHS * labels / min(BATCH, labels)))


@torch.no_grad()
def _logits(net: nn.Sequential, pixels: Tensor, probed: Probed) -> Tensor:
    device = next(net.parameters()).device
    parts = [net(normalise_pixels(part.to(device), probed.section)) for part in torch.split(pixels, 256)]
    return torch.cat(parts).float().cpu()


FINETUNE = Task(
    "encoder and a linear classifier that starts at zero, trained on a share of each class of the training "
    f"images (seeded): SGD, momentum {MOMENTUM:g} (Nesterov), learning rate {RATE:g} with a cosine to 0, "
    f"no weight decay, batches of {BATCH}, {EPOCHS} epochs but {STEPS} steps at least, crop of 0.35 to 1 and "
    "flip; tested on one centre view after the last step; `scratch` is the same with fresh weights",
    finetune,
)
