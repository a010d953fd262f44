"""The loop: batch → loss → step, with checkpoints a run can be continued from exactly.

Everything random is a function of the seed and the step (batches, sentences, views), so a checkpoint
needs only weights, optimiser, step and the generators of torch for models that use dropout.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from nearlight.bundle.text import Tokenizer
from nearlight.training.allocator import keep_freed_memory
from nearlight.training.batches import Batch, BatchMaker
from nearlight.training.captions import load_templates
from nearlight.training.checkpoint import load_checkpoint, save_checkpoint, save_text
from nearlight.training.config import RunConfig
from nearlight.training.errors import CheckpointError, ConfigError, Diverged
from nearlight.training.evaluation import evaluate_sources
from nearlight.training.journal import Journal
from nearlight.training.methods.clip import Clip
from nearlight.training.pixels import open_readers
from nearlight.training.schedule import lr_factor
from nearlight.training.sources import open_source
from nearlight.training.vocabulary import clip_tokenizer_json, open_tokenizer


class Trainer:
    """One training run in one folder."""

    def __init__(self, config: RunConfig, run: Path, resume: bool = False) -> None:
        """Builds or restores everything but the data.

        Args:
            config: the whole configuration.
            run: the folder to write; made if missing.
            resume: continue from `checkpoint.pt` in it.

        Raises:
            ConfigError: there is no training data, or the towers cannot be built.
            CheckpointError: the folder holds a run and `resume` is false, or holds none and it is true, or it
                cannot be made.
        """
        if not config.data.train:
            raise ConfigError("nothing to train on: give at least one --data PATH (data.train)")
        self.config = config
        self.run = run
        self.device = pick_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        state = load_checkpoint(run) if resume else None
        if not resume and (run / "checkpoint.pt").exists():
            raise CheckpointError(
                f"{run} already holds a run: continue it with --resume, or choose another --out"
            )
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot make the run folder {run}: {error.strerror}") from None
        torch.manual_seed(config.seed)
        self.method = Clip(config).to(self.device)
        self.optimiser = build_optimiser(self.method, config)
        self.step = 0
        if state is not None:
            self._restore(state)
        save_text(run / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
        self.tokenizer_json = clip_tokenizer_json(config.model.merges)
        save_text(run / "tokenizer.json", self.tokenizer_json)

    def train(self) -> bool:
        """Trains to the last step; returns False when it was interrupted (a checkpoint is saved then).

        Raises:
            DataError: a source of training or validation cannot be read; said before the first step.
            Diverged: the loss is not finite; the last checkpoint is kept.
        """
        config = self.config
        batches = self._open_data()
        with Journal(self.run, self.step, config.steps) as journal, _interrupts() as interrupted:
            journal.say(self._plan(batches))
            for warning in batches.warnings():
                journal.say(warning)
            meter = _Meter(config.batch_size)
            for batch in batches.ahead(self.step, config.steps):
                values = self._step(batch.to(self.device))
                self.step += 1
                meter.add(values["loss"])
                journal.advance(self.step)
                last = self.step == config.steps
                if last or self.step % config.log_every == 0:
                    journal.write(self.step, {**values, **meter.read()})
                if last or interrupted() or self.step % config.checkpoint_every == 0:
                    self.save()
                if config.data.val and (last or (config.eval_every and self.step % config.eval_every == 0)):
                    journal.write(self.step, self.evaluate())
                if last:
                    journal.say(f"done: {self.run}; next: nearlight export {self.run} --out BUNDLE")
                elif interrupted():
                    journal.say(f"interrupted at step {self.step}; continue with --resume --out {self.run}")
                    return False
        return True

    def evaluate(self) -> dict[str, float]:
        """Returns the metrics of the validation sources, as `SOURCE/METRIC`."""
        self.method.eval()
        tokenizer = self._tokenizer()
        templates = load_templates(self.config.data.templates)
        sources = [open_source(s) for s in self.config.data.val]
        found = evaluate_sources(self.method.towers, self.config.model, tokenizer, sources, templates)
        self.method.train()
        return {f"{name}/{metric}": v for name, values in found.items() for metric, v in values.items()}

    def save(self) -> None:
        """Writes the checkpoint of the present step."""
        save_checkpoint(
            self.run,
            {
                "step": self.step,
                "method_id": self.config.method,
                "method": self.method.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "rng": torch.get_rng_state(),
            },
        )

    def _step(self, batch: Batch) -> dict[str, float]:
        config = self.config
        factor = lr_factor(batch.step, config.steps, config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = config.optimiser.lr * factor
        generator = torch.Generator().manual_seed(_seed_of(config.seed, batch.step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss, logged = self.method.loss(batch, generator)
        if not math.isfinite(loss.item()):
            raise Diverged(
                f"the loss is {loss.item()} at step {batch.step}; the checkpoint before it is kept in "
                f"{self.run}. A lower optimiser.lr or longer optimiser.warmup_steps usually helps"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.method.parameters(), config.optimiser.clip_grad_norm or math.inf)
        self.optimiser.step()
        self.method.after_step()
        values = {"loss": loss.item(), "grad_norm": float(norm), "lr": config.optimiser.lr * factor}
        return values | {name: float(value) for name, value in logged.items()}

    def _open_data(self) -> BatchMaker:
        config, data = self.config, self.config.data
        for spec in data.val:
            open_source(spec)  # they are needed at the end: a wrong path must not cost a night
        sources = [open_source(spec) for spec in data.train]
        readers = open_readers(sources, data.cache_px, data.decode_threads, data.cache_limit_mb)
        with Progress(transient=True) as bar:
            task = bar.add_task("decoding", total=sum(len(s) for s in sources))
            for reader in readers:
                reader.preload(lambda n: bar.advance(task, n))
        for source, reader in zip(sources, readers, strict=True):
            reader.refuse_if_hopeless(source.name)
        return BatchMaker(config, sources, readers, self._tokenizer(), load_templates(data.templates))

    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(self.tokenizer_json, self.config.model)

    def _plan(self, batches: BatchMaker) -> str:
        config = self.config
        millions = sum(p.numel() for p in self.method.parameters()) / 1e6
        shares = ", ".join(
            f"{n} of {spec}" for n, spec in zip(batches.shares, config.data.train, strict=True)
        )
        return (
            f"{config.method}: {millions:.1f}M parameters on {self.device}, {config.precision}; steps "
            f"{self.step} to {config.steps} of {config.batch_size} ({shares})"
        )

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("method_id") != self.config.method:
            raise CheckpointError(
                f"{self.run} was trained with {state.get('method_id')}, not {self.config.method}"
            )
        try:
            self.method.load_state_dict(state["method"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self.run}/checkpoint.pt does not fit its config.json: {error}") from None
        torch.set_rng_state(state["rng"])
        self.step = int(state["step"])


def pick_device(name: str) -> torch.device:
    """Returns the device of a name; `auto` is the first GPU, else the CPU.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device = {name!r} cannot be used on this machine: {reason}") from None


def build_optimiser(method: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    """Returns AdamW with weight decay on matrices only, not on norms, biases and logit scale, as CLIP."""
    section = config.optimiser
    decayed = [p for p in method.parameters() if p.ndim >= 2]
    plain = [p for p in method.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": section.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps)


def _seed_of(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63


class _Meter:
    """Images per second and mean loss since it was read last."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._start, self._steps, self._loss = time.monotonic(), 0, 0.0

    def add(self, loss: float) -> None:
        self._steps += 1
        self._loss += loss

    def read(self) -> dict[str, float]:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        values = {
            "mean_loss": self._loss / self._steps,
            "images_per_s": self._steps * self._batch_size / elapsed,
        }
        self._start, self._steps, self._loss = time.monotonic(), 0, 0.0
        return values


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a step ends before the run stops."""
    flagged: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if flagged:
            raise KeyboardInterrupt
        flagged.append(number)

    former = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: the caller handles signals
        pass
    try:
        yield lambda: bool(flagged)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
