"""A timm image encoder as a subject of export: its pooled features, without the classifier."""

import json
import math
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import JsonValue, ValidationError
from timm.data.config import resolve_data_config

from nearlight.bundle.checksums import file_digest
from nearlight.bundle.manifest import ImagePreprocess, ImageTower
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.open_clip_weights import RANDOM, RANDOM_SEED
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import ImageOnly, TorchEncoders

PRETRAINED = "pretrained"

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def open_timm(name: str, weights: str, choice: Choice) -> Subject:
    """A timm model.

    Args:
        name: A name of `timm.list_models()`, with or without a tag (`resnet50.a1_in1k`).
        weights: `pretrained` for timm's own; a local file; a folder as timm saves it (config.json, weights);
            or `random` for seeded random weights.
        choice: Whether a pickle may be loaded.

    Raises:
        SourceError: An unknown name; weights that are missing, damaged or of another model; images that are
            prepared in a way Nearlight does not have.
    """
    label = f"timm:{name}"
    if not timm.is_model(name):
        raise SourceError(f"timm has no model {name.partition('.')[0]!r}; `timm.list_models()` names them")
    overlay, file = _place(label, weights)
    noted: dict[str, JsonValue] = {"kind": "timm", "model": name, "timm": timm.__version__}
    if weights == RANDOM:
        noted["weights"] = f"random, seed {RANDOM_SEED}"
    elif file is not None:
        noted |= {"weights": file.name, "sha256": file_digest(file)}
        if choice.trust_pickle and file.suffix != ".safetensors":
            noted["pickle_trusted"] = True
    else:
        noted["weights"] = "timm's own"
    model: Any = _built(name, label, weights, overlay, file, choice.trust_pickle)
    image = _image_tower(data_config(model.pretrained_cfg), label)
    stem = name.replace("/", "-").lower()
    return Subject(
        encoders=TorchEncoders(ImageOnly(model), image, None),
        name=f"{stem}-random" if weights == RANDOM else stem,
        image=image,
        text=None,
        tokenizer_json=None,
        scoring=None,
        training=noted,
        made_with=f"timm:{name}:{file.name if file else weights}",
    )


def data_config(settings: dict[str, Any]) -> dict[str, Any]:
    """How timm prepares images for weights with these settings, its defaults filled in."""
    found: dict[str, Any] = resolve_data_config(pretrained_cfg=settings)  # type: ignore[no-untyped-call]
    return found


def _place(label: str, weights: str) -> tuple[dict[str, Any], Path | None]:
    """What a folder's config.json says of the weights, and the file of the weights."""
    place = Path(weights)
    if weights in (RANDOM, PRETRAINED):
        return {}, None
    if place.is_file():
        return {}, place
    if not place.is_dir():
        raise SourceError(
            f"no weights at {place}; give a local file or folder, `{PRETRAINED}` or `{RANDOM}` ({label})"
        )
    try:
        document = json.loads((place / "config.json").read_text(encoding="utf-8"))
        overlay = dict(document.get("pretrained_cfg", {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"{place} has no config.json that timm would read: {error!r}") from error
    file = next((place / name for name in _WEIGHTS if (place / name).is_file()), None)
    if file is None:
        raise SourceError(f"{place} holds none of {', '.join(_WEIGHTS)}")
    return overlay, file


def _built(
    name: str, label: str, weights: str, overlay: dict[str, Any], file: Path | None, trust_pickle: bool
) -> Any:
    """The model with its weights and without its classifier."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            if file is None:
                return timm.create_model(name, pretrained=weights == PRETRAINED, num_classes=0).eval()
            state = timm.models.load_state_dict(str(file), weights_only=not trust_pickle)
            classes = _classes(name, state)
            overlay = {**overlay, "state_dict": state, "num_classes": classes}
            # With as many classes as the file has, timm insists on every weight.
            model: Any = timm.create_model(
                name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
            )
            model.reset_classifier(0)
            return model.eval()
    except Exception as error:  # timm, torch, pickle and safetensors each raise their own
        what = f"{file.name} does not load as {label}" if file else f"{label} cannot be loaded"
        raise SourceError(f"{what}: {' '.join(str(error).split())[:600]}") from error


def _classes(name: str, state: dict[str, torch.Tensor]) -> int:
    """Rows of the classifier in a file of weights; 0 without one."""
    classifier = timm.models.get_pretrained_cfg_value(name, "classifier")
    if isinstance(classifier, (tuple, list)):
        classifier = classifier[0]
    weight = state.get(f"{classifier}.weight")
    return 0 if weight is None else len(weight)


def _image_tower(settings: dict[str, Any], label: str) -> ImageTower:
    channels, height, width = settings["input_size"]
    if channels != 3 or height != width:
        raise SourceError(
            f"{label} takes images of {width}x{height} px, {channels} channels; only RGB squares are"
            " supported"
        )
    mode, scaled = settings["crop_mode"], math.floor(height / settings["crop_pct"])
    if mode not in ("center", "squash") or (mode == "squash" and scaled != height):
        raise SourceError(
            f"{label} crops images by {mode!r} at {settings['crop_pct']}, which is not supported"
        )
    try:
        preprocess = ImagePreprocess.model_validate(
            {
                "size_px": height,
                "resize": "squash" if mode == "squash" else "shortest",
                "crop": "none" if mode == "squash" else "center",
                "interpolation": settings["interpolation"],
                "resize_px": scaled if scaled != height else None,
            }
        )
    except ValidationError as error:
        raise SourceError(f"{label} prepares images as {settings}, which is not supported") from error
    return ImageTower(preprocess=preprocess, mean=tuple(settings["mean"]), std=tuple(settings["std"]))
