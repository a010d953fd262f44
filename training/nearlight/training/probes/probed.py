"""The trained encoder a probe looks at, what it asks, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nearlight.training.checkpoint import is_encoder_run, load_config_of, load_encoder, load_model
from nearlight.training.config import RunConfig
from nearlight.training.errors import DataError
from nearlight.training.method import DataFacts, find_method
from nearlight.training.probes.features import EncoderFeatures
from nearlight.training.sections import EncoderSection
from nearlight.training.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class Probed:
    """A trained image encoder with what it was trained on."""

    features: EncoderFeatures
    section: EncoderSection
    train: tuple[str, ...]
    head: nn.Module | None
    """(B, D) → (B, P), what the loss was computed on; None where there is no such part."""
    config: RunConfig
    facts: DataFacts

    @property
    def is_classifier(self) -> bool:
        """Whether the head gives the logits of the training data's classes."""
        return self.config.method == "ce"

    def untrained(self, seed: int) -> nn.Module:
        """Returns the same encoder with fresh weights."""
        torch.manual_seed(seed)
        found = find_method(self.config.method)
        made: nn.Module = found(self.config, self.facts).get_submodule(found.exported)
        return made


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a probe may look at."""

    images: int | None = None
    """At most so many of the images measured on, chosen by `seed`; None: all."""
    fractions: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labelled images that fine-tuning learns from."""
    seed: int = 0

    def rows(self, source: Source) -> Tensor:
        """Returns the rows of a source to look at, in order."""
        if self.images is None or self.images >= len(source):
            return torch.arange(len(source))
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(self.seed))
        return order[: self.images].sort().values


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found on one source."""

    figures: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    """Figures too many for a table."""


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of measurement."""

    protocol: str
    """In words, all that must be equal for two figures to be compared."""
    run: Callable[[Probed, Source, Sequence[str], Limits], Answer]
    """Of an encoder, a source to measure on, and labelled sources to learn from."""


def open_run(run: Path) -> Probed:
    """Returns the encoder of a run's last checkpoint; of two towers that of images."""
    config = load_config_of(run)
    if is_encoder_run(run):
        loaded = load_encoder(run)
        features = EncoderFeatures(loaded.encoder, loaded.section)
        return Probed(features, loaded.section, config.data.train, loaded.head, config, loaded.facts)
    towers = load_model(run)
    model = towers.config.model
    section = EncoderSection(image_px=model.image_px, mean=model.mean, std=model.std)
    features = EncoderFeatures(towers.model.visual, section)
    return Probed(features, section, config.data.train, None, config, DataFacts(0))


def first_labelled(specs: Sequence[str]) -> Source:
    """Returns the first source that has class names.

    Raises:
        DataError: none has.
    """
    sources = [open_source(spec, words=False) for spec in specs]
    found = next((s for s in sources if s.label_names is not None), None)
    if found is None:
        raise DataError("no training source has a label_name for each image; name one with --train")
    return found
