"""An open_clip architecture, with local or seeded random weights, as a subject of export."""

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.tokenizer import default_bpe
from pydantic import ValidationError
from torch import nn

from nearlight.bundle.checksums import file_digest
from nearlight.bundle.clip_bpe import CLIP_MERGES, build_tokenizer_json
from nearlight.bundle.manifest import ImagePreprocess, ImageTower, TextTower
from nearlight.export.errors import SourceError
from nearlight.export.subject import Subject, scoring_of
from nearlight.training.towers import is_trimmable

RANDOM = "random"
RANDOM_SEED = 0

_WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")


def open_open_clip(arch: str, weights: str) -> Subject:
    """An open_clip model.

    Args:
        arch: A name of `open_clip.list_models()`.
        weights: A local .pt, .pth, .bin or .safetensors file, or `random` for seeded random weights.

    Raises:
        SourceError: An unknown or unsupported architecture; weights that are missing, damaged, pickled code
            or of another architecture.
    """
    config = _supported(arch)
    file = None if weights == RANDOM else Path(weights)
    if file is not None:
        _check_file(file)
    # The architecture is built from random numbers even when weights replace them all.
    with torch.random.fork_rng(devices=[]), _no_advice():
        torch.manual_seed(RANDOM_SEED)
        model = open_clip.create_model(arch, load_weights=False, pretrained_image=False, pretrained_hf=False)
    provenance: dict[str, Any] = {"kind": "open_clip", "arch": arch, "open_clip": open_clip.__version__}
    if file is None:
        provenance["weights"] = f"random, seed {RANDOM_SEED}"
    else:
        _load(model, file, arch)
        provenance |= {"weights": file.name, "sha256": file_digest(file)}
    model.eval()
    return Subject(
        model=model,
        name=arch.lower() if file is not None else f"{arch.lower()}-random",
        image=_image_tower(model, arch),
        text=_text_tower(model, config["text_cfg"]),
        tokenizer_json=build_tokenizer_json(_merges()),
        scoring=scoring_of(model),
        training=provenance,
        made_with=f"open_clip:{arch}:{file.name if file is not None else RANDOM}",
    )


def _supported(arch: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(arch)
    if config is None:
        raise SourceError(f"open_clip has no architecture {arch!r}; `open_clip.list_models()` names them")
    text = config.get("text_cfg", {})
    foreign = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    if foreign:
        raise SourceError(
            f"open_clip:{arch} uses the tokenizer of {foreign!r}; only CLIP's own is supported so far"
        )
    if "multimodal_cfg" in config:
        raise SourceError(
            f"open_clip:{arch} has a multimodal decoder; only two-tower models are supported so far"
        )
    reduction = text.get("tokenizer_kwargs", {}).get("reduction_mask")
    if reduction:
        raise SourceError(
            f"open_clip:{arch} shortens texts by {reduction!r}; only cutting at the end is supported"
        )
    return config


@contextmanager
def _no_advice() -> Iterator[None]:
    """open_clip warns, through the root logger, that a model built without weights is random: we know."""

    def serious(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    root = logging.getLogger()
    root.addFilter(serious)
    try:
        yield
    finally:
        root.removeFilter(serious)


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise SourceError(f"no weights at {file}; give a local file, or `{RANDOM}`")
    if file.suffix not in _WEIGHTS:
        raise SourceError(f"weights {file.name} end in {file.suffix!r}; supported: {', '.join(_WEIGHTS)}")


def _load(model: nn.Module, file: Path, arch: str) -> None:
    try:
        load_checkpoint(model, str(file), strict=True, weights_only=True)
    except Exception as error:  # torch, pickle, zip and safetensors each raise their own
        first_lines = " ".join(str(error).split())[:600]
        raise SourceError(f"{file.name} does not load as open_clip:{arch}: {first_lines}") from error


def _image_tower(model: Any, arch: str) -> ImageTower:
    settings = model.visual.preprocess_cfg
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise SourceError(f"open_clip:{arch} takes images of {width}x{height} px; only squares are supported")
    squash = settings["resize_mode"] == "squash"
    try:
        preprocess = ImagePreprocess.model_validate(
            {
                "size_px": height,
                "resize": settings["resize_mode"],
                "crop": "none" if squash else "center",
                "interpolation": settings["interpolation"],
            }
        )
    except ValidationError as error:
        raise SourceError(
            f"open_clip:{arch} prepares images as {settings}, which is not supported"
        ) from error
    return ImageTower(preprocess=preprocess, mean=tuple(settings["mean"]), std=tuple(settings["std"]))


def _text_tower(model: Any, config: dict[str, Any]) -> TextTower:
    text = getattr(model, "text", model)
    return TextTower(
        context_length=text.context_length,
        sot_id=512 + CLIP_MERGES,
        eot_id=513 + CLIP_MERGES,
        trimmable=is_trimmable(model),
        clean=config.get("tokenizer_kwargs", {}).get("clean", "lower"),
    )


def _merges() -> list[str]:
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as lines:
        return lines.read().split("\n")[1 : CLIP_MERGES + 1]
