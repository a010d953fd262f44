"""The loop: batch → views → vectors → loss → step, with checkpoints a run can be continued from exactly.

Everything random is a function of the seed and the step (batches, sentences, views), so a checkpoint
needs only weights, buffers, optimiser, step and the generators of torch for models that use dropout.
"""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from nearlight.training.allocator import keep_freed_memory
from nearlight.training.average import WeightAverage
from nearlight.training.batches import Batch, BatchMaker, class_names
from nearlight.training.captions import load_templates
from nearlight.training.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
    save_text,
)
from nearlight.training.compiling import compile_parts
from nearlight.training.config import RunConfig
from nearlight.training.curves import save_curves
from nearlight.training.devices import pick_device
from nearlight.training.errors import CheckpointError, Collapsed, ConfigError, Diverged
from nearlight.training.gradients import Outcome, add_gradients
from nearlight.training.interrupts import interrupts
from nearlight.training.journal import Journal, Meter
from nearlight.training.method import DataFacts, find_method
from nearlight.training.optimisers import build_optimiser, decay_at, set_rates
from nearlight.training.pixels import on_device, open_readers
from nearlight.training.plan import Plan, resolve
from nearlight.training.processes import join_processes
from nearlight.training.schedule import lr_factor
from nearlight.training.sources import Source, open_source
from nearlight.training.validation import validate
from nearlight.training.vocabulary import clip_tokenizer_json, open_tokenizer
from nearlight.training.watch import Watch

_BAD_LOOKS = 3  # in a row, before `watch.stop` stops a run


class Trainer:
    """One training run in one folder."""

    def __init__(self, config: RunConfig, run: Path, resume: bool = False) -> None:
        """Builds or restores everything but decoded data.

        Args:
            config: the whole configuration.
            run: the folder to write; made if missing.
            resume: continue from `checkpoint.pt` in it.

        Raises:
            ConfigError: there is no training data, or the method cannot be built.
            DataError: a source cannot be read.
            CheckpointError: the folder holds a run and `resume` is false, or holds none and it is true, or it
                cannot be made.
        """
        if not config.data.train:
            raise ConfigError("nothing to train on: give at least one --data PATH (data.train)")
        self.run = run
        self.device = pick_device(config.device)
        self.processes = join_processes(self.device)
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
        method = find_method(config.method)
        self.has_text = method.towers_kind == "towers"
        self.sources = [open_source(spec, words=self.has_text) for spec in config.data.train]
        self.facts = DataFacts(sum(len(s) for s in self.sources), _classes(self.sources))
        self.config = config = resolve(config, self.facts.samples)
        torch.manual_seed(config.seed)
        self.method = method(config, self.facts).to(self.device)
        self.plan = Plan(config, self.facts, self.sources)
        self.optimiser = build_optimiser(
            self.method, config.optimiser, self.plan.peak_lr, self.method.steady()
        )
        self.average = WeightAverage(self.method, config.ema) if config.ema else None
        self.step = 0
        if state is not None:
            self._restore(state)
        compile_parts(self.method, config.compile)
        self.tokenizer_json = clip_tokenizer_json(config.model.merges) if self.has_text else None
        if self.processes.first:
            save_text(run / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
            if self.tokenizer_json:
                save_text(run / "tokenizer.json", self.tokenizer_json)

    def train(self) -> bool:
        """Trains to the last step; returns False when it was interrupted (a checkpoint is saved then).

        Raises:
            DataError: a source of training or validation cannot be read; said before the first step.
            Diverged: the loss is not finite; see `_note_divergence`.
            Collapsed: the vectors collapsed and `watch.stop` is set; a checkpoint is saved.
        """
        config = self.config
        batches = self._open_data()
        with (
            Journal(self.run, self.step, config.steps, self.processes.first) as journal,
            interrupts() as interrupted,
        ):
            journal.say(self.plan.line(self.method, self.device, self.step, batches.shares))
            for warning in (*self.plan.warnings(self.method), *batches.warnings()):
                journal.say(warning)
            meter = Meter(config.batch_size)
            watch = Watch(config.watch, config.model.max_logit_scale)
            for batch in batches.ahead(self.step, config.steps):
                values = self._step(batch.to(self.device))
                self.step += 1
                meter.add(values["loss"])
                journal.advance(self.step)
                last = self.step == config.steps
                if self.step % config.watch.every == 0:
                    self._look(watch, values, journal)
                if last or self.step % config.log_every == 0:
                    journal.write(self.step, {**values, **meter.read()})
                stop = self.processes.agree(interrupted())
                if last or stop or self.step % config.checkpoint_every == 0:
                    self.save()
                if config.data.val and (last or (config.eval_every and self.step % config.eval_every == 0)):
                    journal.write(self.step, self.evaluate())
                if last and config.curves and self.processes.first:
                    save_curves(self.run)
                if last:
                    journal.say(f"done: {self.run}; next: {self._next()}")
                elif stop:
                    journal.say(f"interrupted at step {self.step}; continue with --resume --out {self.run}")
                    return False
        return True

    def evaluate(self) -> dict[str, float]:
        """Returns the metrics of the validation sources, as `SOURCE/METRIC`."""
        self.method.eval()
        with self.average.applied() if self.average else nullcontext():
            found = validate(self.method, self.config, self.sources, self.tokenizer_json)
        self.method.train()
        return {f"{name}/{metric}": v for name, values in found.items() for metric, v in values.items()}

    def save(self) -> None:
        """Writes the checkpoint of the present step."""
        if not self.processes.first:
            return
        save_checkpoint(
            self.run,
            {
                "step": self.step,
                "method_id": self.config.method,
                "method": self.method.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                **({"average": self.average.weights} if self.average else {}),
                "facts": {"samples": self.facts.samples, "classes": list(self.facts.classes)},
                **random_state(),
            },
        )

    def _step(self, batch: Batch) -> dict[str, float]:
        config = self.config
        factor = lr_factor(batch.step, config.steps, config.optimiser)
        decay = decay_at(self.method.progress(batch.step), config.optimiser)
        set_rates(self.optimiser, self.plan.peak_lr, factor, decay)
        self.optimiser.zero_grad(set_to_none=True)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16")
        try:
            outcome = add_gradients(self.method, batch, self.processes, config.chunk, autocast)
        except Diverged as error:
            raise self._note_divergence(batch, str(error)) from None
        self.outcome: Outcome = outcome
        self.method.after_backward(batch.step)
        norm = nn.utils.clip_grad_norm_(self.method.parameters(), config.optimiser.clip_grad_norm or 1e30)
        if not math.isfinite(norm):
            raise self._note_divergence(
                batch, f"the gradient is {float(norm)} at step {batch.step}, of a loss of {outcome.loss:g}"
            )
        self.optimiser.step()
        self.method.after_step(batch.step)
        if self.average is not None:
            self.average.update(batch.step)
        values = {"loss": outcome.loss, "grad_norm": float(norm), "lr": self.plan.peak_lr * factor}
        return values | outcome.logged

    def _next(self) -> str:
        if self.has_text:
            return f"nearlight export {self.run} --out BUNDLE"
        bank = "" if self.facts.classes else "--train LABELLED "
        return (
            f"nearlight evaluate {self.run} --task knn {bank}--data LABELLED-TEST, "
            f"nearlight export {self.run} --out BUNDLE"
        )

    def _look(self, watch: Watch, values: dict[str, float], journal: Journal) -> None:
        """Watches for collapse; figures join `values`."""
        figures, warning = watch.look(self.method.watched(self.outcome.vectors), values)
        values |= figures
        if warning:
            journal.say(f"warning at step {self.step}: {warning}")
        if watch.bad >= _BAD_LOOKS and self.config.watch.stop:
            self.save()
            raise Collapsed(f"stopped at step {self.step}: {warning}")

    def _note_divergence(self, batch: Batch, reason: str) -> Diverged:
        """Writes diverged.json, and the state before the step unless weights are broken already."""
        sound = all(bool(p.isfinite().all()) for p in self.method.parameters())
        if self.processes.first:
            note = {"step": batch.step, "reason": reason, "samples": batch.index.tolist()}
            save_text(self.run / "diverged.json", json.dumps(note, indent=2) + "\n")
        if sound:
            self.save()
        kept = "the state before it is saved" if sound else "the checkpoint before it is kept"
        return Diverged(
            f"{reason}; {kept} in {self.run}, its samples in diverged.json. A lower optimiser.lr or longer "
            "optimiser.warmup_steps usually helps"
        )

    def _open_data(self) -> BatchMaker:
        config, data = self.config, self.config.data
        for spec in data.val:
            open_source(spec)  # they are needed at the end: a wrong path must not cost a night
        if data.val and not self.has_text and not any(s.label_names for s in self.sources):
            raise ConfigError(
                "data.val: kNN needs training data with a label_name for each image; leave it out"
            )
        readers = open_readers(self.sources, data.cache_px, data.decode_threads, data.cache_limit_mb)
        with Progress(transient=True, disable=not self.processes.first) as bar:
            task = bar.add_task("decoding", total=self.facts.samples)
            for reader in readers:
                reader.preload(lambda n: bar.advance(task, n))
        for source, reader in zip(self.sources, readers, strict=True):
            reader.refuse_if_hopeless(source.name)
        tokenizer = open_tokenizer(self.tokenizer_json, config.model) if self.tokenizer_json else None
        templates = load_templates(data.templates) if tokenizer else ()
        place = self.processes
        held = on_device(readers, self.device, data.device_limit_mb)
        return BatchMaker(config, self.sources, readers, tokenizer, templates, place.rank, place.world, held)

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("method_id") != self.config.method:
            raise CheckpointError(
                f"{self.run} was trained with {state.get('method_id')}, not {self.config.method}"
            )
        try:
            self.method.load_state_dict(state["method"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.average is not None:
                self.average.load(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self.run}/checkpoint.pt does not fit its config.json: {error}") from None
        restore_random_state(state)
        self.step = int(state["step"])
        if self.step > self.config.steps:
            raise ConfigError(f"steps = {self.config.steps}: {self.run} has done {self.step} already")


def _classes(sources: list[Source]) -> tuple[str, ...]:
    """Returns the class names, if every source has them."""
    return class_names(sources) if all(s.label_names is not None for s in sources) else ()
