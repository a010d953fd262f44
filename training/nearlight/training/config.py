"""The configuration of a training run: read once, checked, frozen, written beside the weights."""

import copy
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from nearlight.training.defaults import AUGMENTATIONS
from nearlight.training.errors import ConfigError
from nearlight.training.sections import IMAGENET_MEAN as IMAGENET_MEAN
from nearlight.training.sections import IMAGENET_STD as IMAGENET_STD
from nearlight.training.sections import UNNAMED as UNNAMED
from nearlight.training.sections import AugmentSection as AugmentSection
from nearlight.training.sections import DataSection as DataSection
from nearlight.training.sections import EncoderSection as EncoderSection
from nearlight.training.sections import ModelSection as ModelSection
from nearlight.training.sections import OptimiserSection as OptimiserSection
from nearlight.training.sections import RunConfig as RunConfig
from nearlight.training.sections import Section as Section
from nearlight.training.sections import ViewSection as ViewSection

if TYPE_CHECKING:
    from nearlight.training.method import Method


def load_config(
    file: Path | None,
    overrides: Mapping[str, Any],
    assignments: Sequence[str],
    method: str | None = None,
    saved: bool = False,
) -> RunConfig:
    """Returns the configuration: method's recipe < file (TOML or JSON) < overrides < `key=value` assignments.

    Args:
        file: TOML or JSON, or the name of a recipe that ships with Nearlight; None for defaults.
        overrides: dotted keys with values already typed, e.g. {"data.train": [...]}; None values are skipped.
        assignments: `dotted.key=value`, the value as JSON or else as a bare string; a number between dots is
            a place in a list (`views.0.flip=0`).
        method: the id of a method; None takes the file's, or clip.
        saved: the file is a run's own, whose views are as `augmentation` made them.

    Raises:
        ConfigError: an unreadable file, an unknown key (the nearest known one is named), a bad value, a file
            for another method.
    """
    given = _read(file) if file else {}
    named = given.get("method", method or "clip")
    if method is not None and named != method:
        raise ConfigError(f"{file} is a configuration of {named}, not of {method}")
    tree = _merged(_method(named).recipe, {**given, "method": named})
    for key, value in overrides.items():
        if value is not None:
            _assign(tree, key, value)
    pairs = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r} is not of the form key=value")
        pairs.append((key.strip(), _parse(text)))
    wanted = dict(pairs).get("augmentation", given.get("augmentation"))
    if isinstance(wanted, str) and wanted in AUGMENTATIONS and not saved:
        tree["views"] = [{**view, **AUGMENTATIONS[wanted]} for view in tree.get("views", ())]
    for key, value in pairs:
        _assign(tree, key, value)
    return check_config(tree)


_MAY_CHANGE = (
    "steps",
    "compile",
    "curves",
    "log_every",
    "checkpoint_every",
    "eval_every",
    "device",
    "model.image_px",  # a convolutional tower takes any; another refuses its checkpoint
    "data.train",
    "data.val",
    "data.decode_threads",
    "data.device_limit_mb",
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
    return load_config(run / "config.json", {}, assignments, saved=True)


def check_config(tree: Mapping[str, Any]) -> RunConfig:
    """Returns the checked configuration of a nested mapping.

    Raises:
        ConfigError: names every key that is wrong.
    """
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        known = sorted(_known_keys(RunConfig))
        raise ConfigError("; ".join(_explain(dict(item), known) for item in error.errors())) from None
    options = _method(config.method).Options
    try:
        checked = options.model_validate(config.options)
    except ValidationError as error:
        known = [f"options.{key}" for key in options.model_fields] or ["options"]
        raise ConfigError(
            "; ".join(_explain({**item, "loc": ("options", *item["loc"])}, known) for item in error.errors())
        ) from None
    return config.model_copy(update={"options": checked.model_dump(mode="json")})


def _method(name: object) -> "type[Method]":
    from nearlight.training.method import find_method  # methods read the configuration themselves

    return find_method(str(name))


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a deep copy of two trees laid on each other; lists are replaced whole."""
    tree: dict[str, Any] = copy.deepcopy(dict(under))
    for key, value in over.items():
        lower = tree.get(key)
        tree[key] = _merged(lower, value) if isinstance(lower, dict) and isinstance(value, dict) else value
    return tree


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
    node: Any = tree
    for parent in parents:
        node = _place(node, parent, dotted) if isinstance(node, list) else node.setdefault(parent, {})
        if not isinstance(node, dict | list):
            raise ConfigError(f"{dotted!r}: {parent!r} is a value, not a section")
    if isinstance(node, list):
        _place(node, last, dotted)
        node[int(last)] = value
    else:
        node[last] = value


def _place(items: list[Any], number: str, dotted: str) -> Any:
    if not number.isdecimal() or int(number) >= len(items):
        raise ConfigError(f"{dotted!r}: {number!r} must be a place in a list of {len(items)}, counted from 0")
    return items[int(number)]


def _explain(error: Mapping[str, Any], known: Sequence[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where} = {error['input']!r}: {error['msg']}"
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
