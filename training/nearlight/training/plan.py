"""What a run will do, said before it does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from nearlight.training.average import WeightAverage
from nearlight.training.batches import class_names
from nearlight.training.config import RunConfig
from nearlight.training.devices import pick_device
from nearlight.training.errors import ConfigError
from nearlight.training.method import DataFacts, Method, find_method
from nearlight.training.rehearsal import activation_bytes, estimate_step
from nearlight.training.sources import Source, open_source


def resolve(config: RunConfig, samples: int) -> RunConfig:
    """Returns the configuration with epochs turned into steps, for data of so many samples.

    Raises:
        ConfigError: a single sample, which has nothing to be told from.
    """
    if samples < 2:
        raise ConfigError(f"data.train has {samples} image; at least 2 are needed, to be told apart")
    per_epoch = samples / config.batch_size
    section = config.optimiser
    if section.warmup_epochs is not None:
        steps = round(section.warmup_epochs * per_epoch)
        section = section.model_copy(update={"warmup_steps": steps, "warmup_epochs": None})
    update: dict[str, Any] = {"optimiser": section}
    if config.epochs is not None:
        update |= {"steps": max(round(config.epochs * per_epoch), 1), "epochs": None}
    return config.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a configuration and the data."""

    config: RunConfig
    facts: DataFacts
    sources: Sequence[Source]

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, for the batch there is."""
        section = self.config.optimiser
        if section.lr_batch_size is None:
            return section.lr
        return section.lr * self.config.batch_size / section.lr_batch_size

    def line(self, method: nn.Module, device: torch.device, step: int, shares: Sequence[int]) -> str:
        """Returns the line a run starts with."""
        config = self.config
        millions = sum(p.numel() for p in method.parameters()) / 1e6
        parts = ", ".join(f"{n} of {spec}" for n, spec in zip(shares, config.data.train, strict=True))
        return (
            f"{config.method}: {millions:.1f}M parameters on {device}, {config.precision}; steps "
            f"{step} to {config.steps} of {config.batch_size} ({parts})"
        )

    def warnings(self, method: Method) -> list[str]:
        """Returns a line for each thing that is allowed but hardly meant."""
        config, samples = self.config, self.facts.samples
        found = list(method.cautions())
        if config.batch_size > samples:
            found.append(
                f"batch_size = {config.batch_size}: there are {samples} images, so a batch holds some of "
                "them more than once"
            )
        if config.optimiser.warmup_steps >= config.steps:
            found.append(
                f"optimiser.warmup_steps = {config.optimiser.warmup_steps}: the run has {config.steps} "
                "steps, so the learning rate never gets to its peak"
            )
        return [f"warning: {line}" for line in found]

    def table(self, method: Method, device: torch.device) -> dict[str, str]:
        """Returns what `--plan` prints; the method is of no use afterwards."""
        config, section = self.config, self.config.optimiser
        trained = [p for p in method.parameters() if p.requires_grad]
        kept = sum(p.numel() for p in method.parameters()) - sum(p.numel() for p in trained)
        views = sum(v.count for v in config.views) if config.views else 1
        epochs = config.steps * config.batch_size / self.facts.samples
        peak = f"learning rate {self.peak_lr:g} at its peak"
        if section.lr_batch_size:
            peak += f" ({section.lr:g} for {section.lr_batch_size} images)"
        return {
            "method": config.method,
            "data": f"{self.facts.samples} images, {len(self.facts.classes)} classes",
            "parameters": f"{sum(p.numel() for p in trained) / 1e6:.2f}M trained, {kept / 1e6:.2f}M kept",
            "steps": f"{config.steps} of {config.batch_size} images, {views} views each: {epochs:.1f} epochs",
            "optimiser": f"{section.name}, {peak}, {section.warmup_steps} steps of warm-up, then "
            f"{section.schedule}",
            "weight decay": f"{section.weight_decay:g}",
            "device": f"{device}, {config.precision}",
            "memory": self._memory(method, device),
            "speed": self._speed(method, device, views),
        }

    def _memory(self, method: Method, device: torch.device) -> str:
        """Returns an estimate of what the weights, the batch and the data take."""
        config = self.config
        trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
        states = {"adamw": 2, "sgd": 1, "lars": 1, "rmsprop": 2}[config.optimiser.name]
        fixed = sum(t.numel() * t.element_size() for t in (*method.parameters(), *method.buffers()))
        fixed += trained * (1 + states)
        if config.ema:
            average = WeightAverage(method, config.ema)
            fixed += sum(t.numel() * t.element_size() for t in average.weights.values())
        pixels = self.facts.samples * config.data.cache_px**2 * 3
        held = "held decoded" if pixels <= config.data.cache_limit_mb * 2**20 else "decoded batch by batch"
        return (
            f"{fixed / 2**20:.0f} MiB of weights, gradients and optimiser, "
            f"{activation_bytes(method, device) / 2**20:.0f} MiB of activations, "
            f"{pixels / 2**20:.0f} MiB of images, {held}"
        )

    def _speed(self, method: Method, device: torch.device, views: int) -> str:
        """Returns an estimate of views a second and of the time of all steps."""
        try:
            seconds = estimate_step(method, device)
        except torch.OutOfMemoryError:
            return f"a batch of {self.config.batch_size} does not fit: a smaller batch_size, or chunk"
        images = self.config.batch_size / seconds
        whole = timedelta(seconds=round(seconds * self.config.steps))
        return f"about {views * images:.0f} views/s ({images:.0f} images/s): {whole} for all steps"


def print_plan(config: RunConfig) -> None:
    """Prints what a run of this configuration would do and need; trains and writes nothing.

    Raises:
        ConfigError: there is no training data, or the method cannot be built.
        DataError: a source cannot be read.
    """
    if not config.data.train:
        raise ConfigError("nothing to plan: give at least one --data PATH (data.train)")
    found = find_method(config.method)
    sources = [open_source(spec, words=found.towers_kind == "towers") for spec in config.data.train]
    labelled = all(s.label_names is not None for s in sources)
    facts = DataFacts(sum(len(s) for s in sources), class_names(sources) if labelled else ())
    config = resolve(config, facts.samples)
    device = pick_device(config.device)
    method = found(config, facts).to(device)
    table, plan = Table(title="plan", show_header=False), Plan(config, facts, sources)
    warnings = plan.warnings(method)
    for name, value in plan.table(method, device).items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for line in (*warnings, *(f"warning: {s.name}: {note}" for s in sources for note in s.notes)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
