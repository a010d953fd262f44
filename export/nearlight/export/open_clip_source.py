"""An open_clip model as a subject of export: any architecture, weights by tag, from disk, or random."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.transform import PreprocessCfg
from pydantic import JsonValue, ValidationError
from torch import nn

from nearlight.bundle.checksums import file_digest
from nearlight.bundle.clip_bpe import CLIP_MERGES
from nearlight.bundle.manifest import ImagePreprocess, ImageTower, TextTower
from nearlight.bundle.text import Tokenizer
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.graphs import encode_trimmed, may_trim
from nearlight.export.hf_tokenizer import open_hf_tokenizer
from nearlight.export.open_clip_weights import RANDOM, RANDOM_SEED, Weights, find_weights
from nearlight.export.subject import Subject, scoring_of
from nearlight.export.torch_encoders import TorchEncoders
from nearlight.training.vocabulary import clip_tokenizer_json

_TRIM_ERROR = 1e-5
_TRIM_TEXTS = ("a", "a dog on the beach", "two children and an old red bicycle in front of a white wall .")

_log = logging.getLogger(__name__)


def open_open_clip(arch: str, weights: str, choice: Choice | None = None) -> Subject:
    """An open_clip model.

    Args:
        arch: A name of `open_clip.list_models()`.
        weights: A pretrained tag; a local .pt, .pth, .bin or .safetensors file; a folder as open_clip
            saves it (open_clip_config.json, weights, tokenizer); or `random` for seeded random weights.
        choice: What a user may say about weights and tokenizer.

    Raises:
        SourceError: An unknown or unsupported architecture; weights that are missing, damaged, pickled code
            or of another architecture; a tokenizer that is missing or does not fit.
    """
    choice = choice or Choice()
    found = find_weights(arch, weights, choice)
    label = f"open_clip:{arch}"
    model = _build(found.config, label)
    _load(model, found, label, choice.trust_pickle)
    model.eval()
    model.visual.preprocess_cfg = {
        **asdict(PreprocessCfg()),
        **found.preprocess,
        "size": found.preprocess.get("size", model.visual.image_size),
    }
    image = image_tower(model.visual.preprocess_cfg, label)
    text, tokenizer_json = _text(model, found, label)
    return Subject(
        encoders=TorchEncoders(model, image, text),
        name=arch.lower() if weights != RANDOM else f"{arch.lower()}-random",
        image=image,
        text=text,
        tokenizer_json=tokenizer_json,
        scoring=scoring_of(model),
        training=_provenance(arch, found, choice),
        made_with=f"open_clip:{arch}:{found.label}",
    )


def image_tower(settings: dict[str, Any], label: str) -> ImageTower:
    """The manifest's image section from settings named as in open_clip's preprocessing.

    Raises:
        SourceError: Images that are not square, or a way to prepare them that Nearlight does not have.
    """
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise SourceError(f"{label} takes images of {width}x{height} px; only squares are supported")
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
        raise SourceError(f"{label} prepares images as {settings}, which is not supported") from error
    return ImageTower(preprocess=preprocess, mean=tuple(settings["mean"]), std=tuple(settings["std"]))


@contextmanager
def no_advice() -> Iterator[None]:
    """open_clip warns, through the root logger, that a model built without weights is random: we know."""

    def serious(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    root = logging.getLogger()
    root.addFilter(serious)
    try:
        yield
    finally:
        root.removeFilter(serious)


def _build(config: dict[str, Any], label: str) -> Any:
    """The model of a configuration, its weights random but the same every time."""
    settings = {key: value for key, value in config.items() if key != "custom_text"}
    settings["vision_cfg"] = {**settings["vision_cfg"], "timm_model_pretrained": False}
    settings["text_cfg"] = {**settings["text_cfg"], "hf_model_pretrained": False}
    custom = config.get("custom_text") or settings["text_cfg"].get("hf_model_name")
    towers = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if custom and "multimodal_cfg" in settings:
        towers = open_clip.CoCa
    try:
        # The architecture is built from random numbers even when weights replace them all.
        with torch.random.fork_rng(devices=[]), no_advice():
            torch.manual_seed(RANDOM_SEED)
            return towers(**settings)
    except Exception as error:  # open_clip, timm and transformers each raise their own
        raise SourceError(f"{label} cannot be built: {_first_lines(error)}") from error


def _load(model: nn.Module, found: Weights, label: str, trust_pickle: bool) -> None:
    if found.file is None:
        return
    try:
        load_checkpoint(model, str(found.file), strict=True, weights_only=not trust_pickle)
    except Exception as error:  # torch, pickle, zip and safetensors each raise their own
        raise SourceError(f"{found.file.name} does not load as {label}: {_first_lines(error)}") from error


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:600]


def _text(model: Any, found: Weights, label: str) -> tuple[TextTower, str]:
    """The manifest's text section and the tokenizer document."""
    config = found.config["text_cfg"]
    settings = config.get("tokenizer_kwargs", {})
    if settings.get("reduction_mask"):
        raise SourceError(
            f"{label} shortens texts by {settings['reduction_mask']!r}; only cutting at the end is supported"
        )
    if config.get("tokenizer_mode"):
        raise SourceError(
            f"{label} frames texts in the way {config['tokenizer_mode']!r}, which is not supported"
        )
    context_length = int(config.get("context_length", 77))  # of tokens, as `open_clip.get_tokenizer` takes it
    if found.tokenizer is None:
        document = clip_tokenizer_json(CLIP_MERGES)
        text = TextTower(
            context_length=context_length,
            sot_id=512 + CLIP_MERGES,
            eot_id=513 + CLIP_MERGES,
            clean=settings.get("clean", "lower"),
        )
    else:
        tokenizer = open_hf_tokenizer(found.tokenizer, vocab_size=_vocab_size(model))
        document = tokenizer.document
        text = TextTower(
            context_length=context_length,
            pad_id=tokenizer.pad_id,
            sot_id=tokenizer.sot_id,
            # CLIPA blanks the separator that its tokenizer puts at the end.
            eot_id=0 if settings.get("strip_sep_token") else tokenizer.eot_id,
            clean=settings.get("clean", "whitespace"),
        )
    return text.model_copy(update={"trimmable": _trims_exactly(model, document, text)}), document


def _vocab_size(model: Any) -> int:
    text = getattr(model, "text", model)
    return int(text.vocab_size)


@torch.inference_mode()
def _trims_exactly(model: Any, document: str, text: TextTower) -> bool:
    """Whether texts cut to their own lengths give the vectors of whole contexts: promised, then tried."""
    if not may_trim(model):
        return False
    tokenizer = Tokenizer.load(document, text.model_copy(update={"trimmable": True}))
    whole = model.encode_text(torch.from_numpy(tokenizer.encode(_TRIM_TEXTS)))  # (3, D)
    for index, words in enumerate(_TRIM_TEXTS):
        cut = encode_trimmed(model, torch.from_numpy(tokenizer.encode([words], trim=True)))[0]  # (D,)
        if not float((cut - whole[index]).norm()) <= _TRIM_ERROR * float(whole[index].norm()):
            _log.warning("texts are not trimmed: a vector changes when its padding is cut")
            return False
    return True


def _provenance(arch: str, found: Weights, choice: Choice) -> dict[str, JsonValue]:
    noted: dict[str, JsonValue] = {"kind": "open_clip", "arch": arch, "open_clip": open_clip.__version__}
    if found.file is None:
        return noted | {"weights": f"random, seed {RANDOM_SEED}"}
    noted |= {"weights": found.file.name, "sha256": file_digest(found.file)}
    if found.tag:
        noted["tag"] = found.tag
    if choice.trust_pickle and found.file.suffix != ".safetensors":
        noted["pickle_trusted"] = True
    return noted
