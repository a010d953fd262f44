"""The configuration of a training run: read once, checked, frozen, written beside the weights."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nearlight.training.errors import ConfigError

IMAGENET_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGENET_STD = (0.26862954, 0.26130258, 0.27577711)


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(Section):
    """The two towers, in open_clip's own terms."""

    embed_dim: int = Field(256, ge=8, le=4096)
    image_px: int = Field(64, ge=16, le=1024)
    vision: dict[str, Any] = Field(
        default_factory=lambda: {
            "timm_model_name": "nearlight_resnet10",
            "timm_pool": "avg",
            "timm_proj": "linear",
        }
    )
    """open_clip's CLIPVisionCfg, without image_size."""
    text: dict[str, Any] = Field(default_factory=lambda: {"width": 256, "heads": 4, "layers": 3})
    """open_clip's CLIPTextCfg, without context_length and vocab_size."""
    context_length: int = Field(32, ge=8, le=256)
    merges: int = Field(48894, ge=0, le=48894)
    """How many merges of CLIP's byte-pair vocabulary to keep; the first ones are the most frequent."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    max_logit_scale: float = Field(100.0, gt=1)


class DataSection(Section):
    """Where samples come from, and how they are held."""

    train: tuple[str, ...] = ()
    """Sources, each `PATH` or `PATH@weight`."""
    val: tuple[str, ...] = ()
    templates: str | None = None
    """A JSON file of prompt templates for class names; None means the built-in list."""
    cache_px: int = Field(80, ge=16, le=1024)
    """Decoded images are held with this side, before augmentation."""
    cache_limit_mb: int = Field(6144, ge=0)
    """Sources are decoded once and kept when they fit here together; else decoded batch by batch."""
    decode_threads: int = Field(2, ge=1, le=64)
    prefetch: int = Field(2, ge=1, le=64)


class AugmentSection(Section):
    """Random resized crop and flip, done on whole batches."""

    crop_scale: tuple[float, float] = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    crop_px: tuple[int, int] | None = None
    """Side of the crops at the first and at the last step, in multiples of 8; None means image_px."""

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentSection":
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low}, {high}); it must hold 0 < low <= high")
        return self


class OptimiserSection(Section):
    """AdamW and its schedule."""

    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine: to zero over all steps; wsd: warm up, stay, decay linearly over the last `decay_share`."""
    decay_share: float = Field(0.3, gt=0, le=1)
    clip_grad_norm: float = Field(1.0, ge=0)
    """0 switches gradient clipping off."""


class RunConfig(Section):
    """All of one training run."""

    method: Literal["clip"] = "clip"
    name: str = "run"
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(256, ge=2)
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = "bf16"
    device: str = "auto"
    log_every: int = Field(10, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    eval_every: int = Field(0, ge=0)
    """Steps between evaluations on `data.val`; 0 evaluates at the end only."""
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    optimiser: OptimiserSection = OptimiserSection()


def load_config(file: Path | None, overrides: Mapping[str, Any], assignments: Sequence[str]) -> RunConfig:
    """Returns the configuration: defaults < file (TOML or JSON) < overrides < `key=value` assignments.

    Args:
        file: TOML or JSON, or the name of a recipe that ships with Nearlight; None for defaults.
        overrides: dotted keys with values already typed, e.g. {"data.train": [...]}; None values are skipped.
        assignments: `dotted.key=value`, the value as JSON or else as a bare string.

    Raises:
        ConfigError: an unreadable file, an unknown key (the nearest known one is named), a bad value.
    """
    tree = _read(file) if file else {}
    for key, value in overrides.items():
        if value is not None:
            _assign(tree, key, value)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r} is not of the form key=value")
        _assign(tree, key.strip(), _parse(text))
    return check_config(tree)


_MAY_CHANGE = (
    "steps",
    "log_every",
    "checkpoint_every",
    "eval_every",
    "device",
    "model.image_px",  # a convolutional tower takes any; another refuses its checkpoint
    "data.train",
    "data.val",
    "data.decode_threads",
    *(f"augment.{name}" for name in AugmentSection.model_fields),
    "optimiser.lr",
    "optimiser.schedule",
    "optimiser.decay_share",
    "optimiser.clip_grad_norm",
)


def resumed_config(run: Path, given: Sequence[object], assignments: Sequence[str]) -> RunConfig:
    """Returns the configuration of a run to be continued, with what may change about it changed.

    Args:
        run: the run folder; its config.json says how it was started.
        given: values of flags that a resumed run may not be given; any that is set is an error.
        assignments: `key=value` of keys that leave the finished steps as they are.

    Raises:
        ConfigError: no readable config.json, or a key that a resumed run cannot change.
    """
    if any(given):
        raise ConfigError(
            "--resume takes data and configuration from the run itself; give only --out and --set"
        )
    wrong = [a for a in assignments if a.partition("=")[0].strip() not in _MAY_CHANGE]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: a resumed run may change only {', '.join(_MAY_CHANGE)}")
    return load_config(run / "config.json", {}, assignments)


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """Returns the checked configuration of a nested mapping.

    Raises:
        ConfigError: names every key that is wrong.
    """
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(dict(item)) for item in error.errors())) from None


def _read(file: Path) -> dict[str, Any]:
    recipe = Path(__file__).parent / "recipes" / f"{file.name}.toml"
    if not file.exists() and recipe.is_file():
        file = recipe
    try:
        text = file.read_text(encoding="utf-8")
        tree = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {file}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration {file} must be a table, not a {type(tree).__name__}")
    return tree


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{dotted!r}: {parent!r} is a value, not a section")
    node[last] = value


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where} = {error['input']!r}: {error['msg']}"
    known = sorted(_known_keys(RunConfig))
    nearest = difflib.get_close_matches(where, known, n=1, cutoff=0.0)
    return f"unknown key {where!r}; did you mean {nearest[0]!r}?"


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            keys += _known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
