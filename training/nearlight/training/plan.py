"""What a run will do, said before it does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nearlight.training.batches import Batch, class_names
from nearlight.training.config import RunConfig
from nearlight.training.devices import pick_device
from nearlight.training.errors import ConfigError
from nearlight.training.method import DataFacts, Method, find_method
from nearlight.training.sources import Source, open_source
from nearlight.training.views import Share


def resolve(config: RunConfig, samples: int) -> RunConfig:
    """Returns the configuration with epochs turned into steps, for data of so many samples."""
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

    def table(self, method: Method, device: torch.device) -> dict[str, str]:
        """Returns what `--plan` prints."""
        config, section = self.config, self.config.optimiser
        trained = [p for p in method.parameters() if p.requires_grad]
        kept = sum(p.numel() for p in method.parameters()) - sum(p.numel() for p in trained)
        views = sum(v.count for v in config.views) if config.views else 1
        states = {"adamw": 2, "sgd": 1, "lars": 1, "rmsprop": 2}[section.name]
        fixed = sum(t.numel() * t.element_size() for t in (*method.parameters(), *method.buffers()))
        fixed += sum(p.numel() * p.element_size() for p in trained) * (1 + states)
        epochs = config.steps * config.batch_size / self.facts.samples
        return {
            "method": config.method,
            "data": f"{self.facts.samples} images, {len(self.facts.classes)} classes",
            "parameters": f"{sum(p.numel() for p in trained) / 1e6:.2f}M trained, {kept / 1e6:.2f}M kept",
            "steps": f"{config.steps} of {config.batch_size} images, {views} views each: {epochs:.1f} epochs",
            "optimiser": f"{section.name}, learning rate {self.peak_lr:g} at its peak, "
            f"{section.warmup_steps} steps of warm-up, then {section.schedule}",
            "weight decay": f"{section.weight_decay:g}",
            "device": f"{device}, {config.precision}",
            "memory": f"{fixed / 2**20:.0f} MiB of weights, gradients and optimiser, "
            f"{self._activations_mb(method, device):.0f} MiB of activations",
        }

    def _activations_mb(self, method: Method, device: torch.device) -> float:
        """Returns an estimate: what four images leave for the backward pass, times a quarter of the batch."""
        if not self.config.views:
            return float("nan")
        config = self.config
        views = [
            torch.zeros(4, 3, side, side, device=device)
            for v in config.views
            for side in [v.side_px or config.encoder.image_px] * v.count
        ]
        seen: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        weights = {p.untyped_storage().data_ptr() for p in method.parameters()}
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
        before = {k: v.clone() for k, v in method.state_dict().items()}
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t), autocast:
            kept = method.embed(views, _four_blanks(device), torch.Generator().manual_seed(0))
        total = sum(size for place, size in seen.items() if place not in weights)
        del kept
        method.load_state_dict(before)
        return total / 4 * min(config.chunk or config.batch_size, config.batch_size) / 2**20


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
    table = Table(title="plan", show_header=False)
    for name, value in Plan(config, facts, sources).table(method, device).items():
        table.add_row(name, value)
    Console().print(table)


def _four_blanks(device: torch.device) -> Batch:
    four = torch.zeros(4, dtype=torch.int64, device=device)
    pixels = torch.zeros(4, 8, 8, 3, dtype=torch.uint8, device=device)
    return Batch(0, pixels, (), four, four, four, four, Share(0, 4))
