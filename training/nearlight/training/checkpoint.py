"""What a run leaves on disk, and how it is picked up again.

A run folder holds `config.json`, `tokenizer.json`, `checkpoint.pt`, `metrics.jsonl` and TensorBoard's
event files. `checkpoint.pt` is written aside, synced and renamed: a crash or a full disk leaves the
one before.
"""

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from torch import nn

from nearlight.training.config import EncoderSection, RunConfig, check_config
from nearlight.training.encoders import feature_dim
from nearlight.training.errors import CheckpointError, ConfigError
from nearlight.training.method import DataFacts, find_method

FORMAT = 1


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """The trained towers of a run, in evaluation mode."""

    model: open_clip.CLIP
    config: RunConfig
    tokenizer_json: str
    step: int


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Writes `checkpoint.pt` of a run atomically and durably.

    Raises:
        CheckpointError: it cannot be written (a full disk, say); the former one is untouched.
    """
    target, aside = run / "checkpoint.pt", run / "checkpoint.pt.part"
    try:
        with aside.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        _sync_folder(run)
    except (OSError, RuntimeError) as error:
        free_mb = shutil.disk_usage(run).free >> 20
        aside.unlink(missing_ok=True)
        former = "the checkpoint before it is kept" if target.exists() else "there is none before it"
        raise CheckpointError(
            f"cannot write {target} ({free_mb} MiB free on its disk): {error}; {former}"
        ) from error


def load_checkpoint(run: Path) -> dict[str, Any]:
    """Returns the state saved last in a run folder, on the CPU; nothing in it is executed.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or one of a newer format.
    """
    path = run / "checkpoint.pt"
    if not path.is_file():
        raise CheckpointError(f"{run} holds no checkpoint.pt; is it the --out of a training run?")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    if not isinstance(state, dict) or not 1 <= state.get("format", 0) <= FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise CheckpointError(f"{path} has checkpoint format {found}; this version reads up to {FORMAT}")
    return state


def load_config_of(run: Path) -> RunConfig:
    """Returns the configuration a run was started with.

    Raises:
        CheckpointError: no config.json, or one that does not hold a configuration.
    """
    try:
        return check_config(json.loads((run / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{run} is not a training run: {error}") from None


def random_state() -> dict[str, Any]:
    """Returns the state of every global generator, as plain lists and tensors."""
    name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    cuda = {"rng_cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {
        "rng": torch.get_rng_state(),
        "rng_python": random.getstate(),
        "rng_numpy": (name, keys.tolist(), *rest),
        **cuda,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets the global generators to what `random_state` returned, as far as it is there."""
    torch.set_rng_state(state["rng"])
    if "rng_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng_cuda"])
    if "rng_python" in state:
        random.setstate(state["rng_python"])
    if "rng_numpy" in state:
        np.random.set_state(state["rng_numpy"])


def save_text(path: Path, text: str) -> None:
    """Writes a small text file atomically."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load_model(run: Path) -> LoadedRun:
    """Returns the towers of a run's last checkpoint.

    Raises:
        CheckpointError: the folder is no run, or its weights do not fit its configuration.
    """
    config = load_config_of(run)
    found = find_method(config.method)
    if found.towers_kind != "towers":
        raise CheckpointError(f"{run} was trained with {config.method}: it has no text tower")
    state = load_checkpoint(run)
    try:
        method = found(config, DataFacts(0))
        method.load_state_dict(state["method"])
        method.load_state_dict(state.get("average", {}), strict=False)
        tokenizer_json = (run / "tokenizer.json").read_text(encoding="utf-8")
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{run} does not hold the model its config.json describes: {error}") from None
    model: open_clip.CLIP = method.get_submodule(found.exported)
    return LoadedRun(model.eval(), config, tokenizer_json, int(state["step"]))


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """The trained image encoder of a run without a text tower, in evaluation mode."""

    encoder: nn.Module
    """(B, 3, S, S) float, normalised by `section.mean` and `section.std` → (B, D), not of unit length."""
    head: nn.Module | None
    """(B, D) → (B, P), what the loss was computed on; None where the method has no such part."""
    section: EncoderSection
    dim: int
    config: RunConfig
    facts: DataFacts
    step: int


def load_encoder(run: Path) -> LoadedEncoder:
    """Returns the image encoder of a run's last checkpoint.

    Raises:
        CheckpointError: the folder is no run or one with a text tower (`load_model` reads those), or its
            weights do not fit its configuration.
    """
    config = load_config_of(run)
    found = find_method(config.method)
    if found.towers_kind != "encoder":
        raise CheckpointError(f"{run} was trained with {config.method}: it has towers, not one encoder")
    state = load_checkpoint(run)
    facts = DataFacts(int(state["facts"]["samples"]), tuple(state["facts"]["classes"]))
    try:
        method = found(config, facts)
        method.load_state_dict(state["method"])
        method.load_state_dict(state.get("average", {}), strict=False)
    except (RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{run} does not hold the model its config.json describes: {error}") from None
    method.eval().requires_grad_(False)
    encoder = method.get_submodule(found.exported)
    head = method.get_submodule(found.exported_head) if found.exported_head else None
    dim = feature_dim(encoder, config.encoder)
    return LoadedEncoder(encoder, head, config.encoder, dim, config, facts, int(state["step"]))


def is_encoder_run(run: Path) -> bool:
    """Whether a run folder holds one image encoder (`load_encoder`) and not two towers (`load_model`).

    Raises:
        CheckpointError: the folder is no run.
    """
    return find_method(load_config_of(run).method).towers_kind == "encoder"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
