"""What a run leaves on disk, and how it is picked up again.

A run folder holds `config.json`, `tokenizer.json`, `checkpoint.pt`, `metrics.jsonl` and TensorBoard's
event files. `checkpoint.pt` is written aside, synced and renamed: a crash or a full disk leaves the
one before.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch

from nearlight.training.config import RunConfig, check_config
from nearlight.training.errors import CheckpointError, ConfigError
from nearlight.training.towers import build_towers

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
        aside.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {target}: {error}; the checkpoint before it is kept") from error


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
    state = load_checkpoint(run)
    model = build_towers(config.model)
    towers = {
        key.removeprefix("towers."): value
        for key, value in state["method"].items()
        if key.startswith("towers.")
    }
    try:
        model.load_state_dict(towers)
        tokenizer_json = (run / "tokenizer.json").read_text(encoding="utf-8")
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{run} does not hold the model its config.json describes: {error}") from None
    return LoadedRun(model.eval(), config, tokenizer_json, int(state["step"]))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
