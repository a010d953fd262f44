"""Where an open_clip model's settings, weights and tokenizer come from."""

import copy
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import _find_checkpoint_in_dir
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.hub import fetch_tokenizer

RANDOM = "random"
RANDOM_SEED = 0
CONFIG_FILE = "open_clip_config.json"

_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
_PREPARING = ("mean", "std", "interpolation", "resize_mode")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weights:
    """The parts of a model.

    Attributes:
        config: open_clip's model configuration.
        preprocess: What the source says of preprocessing, in open_clip's words.
        file: Weights; None for random ones.
        tokenizer: Folder with tokenizer.json; None where CLIP's own vocabulary is meant.
        label: How the command named the weights, without folders.
        tag: The pretrained tag, if one is known.
    """

    config: dict[str, Any]
    preprocess: dict[str, Any]
    file: Path | None
    tokenizer: Path | None
    label: str
    tag: str | None = None


def find_weights(arch: str, weights: str, choice: Choice) -> Weights:
    """The parts of `open_clip:arch:weights`; downloads what a tag names.

    Raises:
        SourceError: Something is unknown, missing or cannot be downloaded.
    """
    place = Path(weights)
    if weights != RANDOM and place.is_dir():
        return _from_folder(place, choice)
    tags = _tags(arch)
    config = builtin_config(arch)
    if weights in tags:
        settings, file = tags[weights], _download(arch, weights, tags[weights])
    elif weights == RANDOM:
        settings, file = shared_settings(arch, choice.tag), None
    else:
        _check_file(place, arch, tags)
        settings, file = shared_settings(arch, choice.tag), place
    tag = weights if weights in tags else choice.tag
    if tag and settings.get("quick_gelu"):
        config["quick_gelu"] = True  # the published weights need it, whatever the architecture's default
    near = file.parent if file is not None else None
    return Weights(
        config=_with_local_text(config, choice.tokenizer or near),
        preprocess={key: settings[key] for key in _PREPARING if key in settings},
        file=file,
        tokenizer=_tokenizer_folder(config, choice.tokenizer, near),
        label=weights if file is None or weights in tags else place.name,
        tag=tag,
    )


def _from_folder(folder: Path, choice: Choice) -> Weights:
    """The layout of open_clip's own `local-dir:` and of its models on the hub."""
    try:
        document = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        config, preprocess = document["model_cfg"], document.get("preprocess_cfg", {})
        if not isinstance(config["vision_cfg"], dict) or not isinstance(config["text_cfg"], dict):
            raise TypeError("its sections are not objects")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{folder} has no {CONFIG_FILE} that open_clip would read: {error!r}") from error
    found = _find_checkpoint_in_dir(folder)
    if found is None:
        raise SourceError(f"{folder} holds no weights; one of {', '.join(_WEIGHTS)} is needed")
    return Weights(
        config=_with_local_text(config, choice.tokenizer or folder),
        preprocess={key: preprocess[key] for key in (*_PREPARING, "size") if key in preprocess},
        file=Path(found),
        tokenizer=_tokenizer_folder(config, choice.tokenizer, folder),
        label=folder.name,
    )


def builtin_config(arch: str) -> dict[str, Any]:
    """A copy of open_clip's configuration of an architecture.

    Raises:
        SourceError: There is none of that name.
    """
    config = open_clip.get_model_config(arch)
    if config is None:
        raise SourceError(f"open_clip has no architecture {arch!r}; `open_clip.list_models()` names them")
    found: dict[str, Any] = copy.deepcopy(config)
    return found


def _tags(arch: str) -> dict[str, dict[str, Any]]:
    return {tag: get_pretrained_cfg(arch, tag) for tag in list_pretrained_tags_by_model(arch)}


def shared_settings(arch: str, tag: str | None) -> dict[str, Any]:
    """The settings of one published tag, else those that all tags of an architecture share.

    Raises:
        SourceError: There is no such tag.
    """
    tags = _tags(arch)
    if tag is not None:
        if tag not in tags:
            raise SourceError(f"open_clip:{arch} has no tag {tag!r}; it has: {', '.join(tags) or 'none'}")
        return tags[tag]
    settings = [{key: found[key] for key in _PREPARING} for found in tags.values()]
    if any(other != settings[0] for other in settings[1:]):
        _log.warning(
            "open_clip:%s: its published weights differ in how images are prepared; open_clip's default is"
            " taken. --tag says whose settings to take: %s",
            arch,
            ", ".join(tags),
        )
        return {}
    return settings[0] if settings else {}


def _download(arch: str, tag: str, settings: dict[str, Any]) -> Path:
    _log.info("downloading the weights %s of open_clip:%s", tag, arch)
    try:
        return Path(download_pretrained(settings))
    except Exception as error:  # urllib, huggingface_hub and httpx each raise their own
        reason = " ".join(str(error).split())[:300]
        raise SourceError(
            f"the weights {tag!r} of open_clip:{arch} cannot be downloaded: {reason}"
        ) from error


def _check_file(file: Path, arch: str, tags: dict[str, dict[str, Any]]) -> None:
    if not file.is_file():
        known = f", or one of the tags {', '.join(tags)}" if tags else ""
        raise SourceError(
            f"no weights at {file}; give a local file or folder, `{RANDOM}`{known} (open_clip:{arch})"
        )
    if file.suffix not in _WEIGHTS:
        raise SourceError(f"weights {file.name} end in {file.suffix!r}; supported: {', '.join(_WEIGHTS)}")


def _with_local_text(config: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A text tower of transformers is built from the folder's config.json, where there is one."""
    text = config["text_cfg"]
    if not text.get("hf_model_name") or folder is None or not (folder / "config.json").is_file():
        return config
    return {**config, "text_cfg": {**text, "hf_model_name": str(folder)}}


def _tokenizer_folder(config: dict[str, Any], chosen: Path | None, near: Path | None) -> Path | None:
    name = config["text_cfg"].get("hf_tokenizer_name")
    if chosen is not None:
        return chosen
    if not name:
        return None
    if near is not None and (near / "tokenizer.json").is_file():
        return near
    return fetch_tokenizer(name)
