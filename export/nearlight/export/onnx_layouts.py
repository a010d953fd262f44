"""The folders in which ONNX towers are handed around, and what each says of its model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearlight.bundle.manifest import ImageTower
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.hf_preprocess import hf_image_tower
from nearlight.export.open_clip_source import image_tower as open_clip_image_tower
from nearlight.export.open_clip_weights import builtin_config, shared_settings

_GRAPHS = ("vision_model", "text_model", "model")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder says.

    Attributes:
        maker: Whose layout it is.
        image_file, text_file: The towers; None without a text tower.
        image: Preprocessing.
        tokenizer: Folder of tokenizer.json; None for CLIP's own vocabulary.
        context_length: Most tokens of a text, unless the graph fixes it.
        clean: What is done to a text before its tokenizer.
        sigmoid: Whether the model was trained with sigmoids.
        whole: A file that holds both towers and their logit scale, where there is one.
    """

    maker: str
    image_file: Path
    text_file: Path | None
    image: ImageTower
    tokenizer: Path | None = None
    context_length: int = 77
    clean: str = "none"
    sigmoid: bool = False
    whole: Path | None = None


def find_layout(folder: Path, choice: Choice) -> Layout:
    """What the folder of a transformers.js or optimum, Immich or clip-as-service model says.

    Raises:
        SourceError: None of these, or a file of it is missing or damaged.
    """
    if not folder.is_dir():
        raise SourceError(f"no folder {folder}")
    if (folder / "visual").is_dir() or (folder / "textual").is_dir():
        return _immich(folder)
    if (folder / "visual.onnx").is_file() or (folder / "textual.onnx").is_file():
        return _clip_as_service(folder, choice)
    return _optimum(folder, choice)


def _immich(folder: Path) -> Layout:
    config = _read(folder / "config.json")
    settings = _read(folder / "visual" / "preprocess_cfg.json")
    try:
        text = config["text_cfg"]
        image = open_clip_image_tower({"resize_mode": "shortest", **settings}, "visual/preprocess_cfg.json")
        return Layout(
            maker="Immich",
            image_file=folder / "visual" / "model.onnx",
            text_file=folder / "textual" / "model.onnx",
            image=image,
            tokenizer=folder / "textual",
            context_length=int(text.get("context_length", 77)),
            clean=text.get("tokenizer_kwargs", {}).get("clean", "whitespace"),
            sigmoid="init_logit_bias" in config,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"config.json or visual/preprocess_cfg.json lacks {error}") from error


def _clip_as_service(folder: Path, choice: Choice) -> Layout:
    if choice.arch is None:
        raise SourceError(
            f"{folder} holds visual.onnx and textual.onnx, which do not say their architecture;"
            " name it with --arch, such as --arch ViT-B-32"
        )
    config = builtin_config(choice.arch)
    settings = shared_settings(choice.arch, choice.tag)
    clip = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
    size = config["vision_cfg"]["image_size"]
    text = config["text_cfg"]
    return Layout(
        maker="clip-as-service",
        image_file=folder / "visual.onnx",
        text_file=folder / "textual.onnx",
        image=open_clip_image_tower(
            {**clip, "interpolation": "bicubic", "resize_mode": "shortest", **settings, "size": size},
            f"open_clip:{choice.arch}",
        ),
        tokenizer=choice.tokenizer,
        context_length=int(text.get("context_length", 77)),
        clean=text.get("tokenizer_kwargs", {}).get("clean", "whitespace" if choice.tokenizer else "lower"),
        sigmoid="init_logit_bias" in config,
    )


def _optimum(folder: Path, choice: Choice) -> Layout:
    places = [folder / "onnx", folder]
    found = {
        name: place / f"{name}.onnx"
        for place in reversed(places)
        for name in _GRAPHS
        if (place / f"{name}.onnx").is_file()
    }
    image_file = found.get("vision_model") or (found.get("model") if "text_model" not in found else None)
    if image_file is None:
        raise SourceError(
            f"{folder} is of no known layout: it holds neither vision_model.onnx (transformers.js, optimum),"
            " nor visual/model.onnx (Immich), nor visual.onnx (clip-as-service)"
        )
    config = _read(folder / "config.json") if (folder / "config.json").is_file() else {}
    text = config.get("text_config") or {}
    sigmoid = str(config.get("model_type", "")).startswith("siglip")
    vision = config.get("vision_config") or config
    tokenizer = choice.tokenizer or folder
    return Layout(
        maker="transformers.js or optimum",
        image_file=image_file,
        text_file=found.get("text_model"),
        image=hf_image_tower(_read(folder / "preprocessor_config.json"), vision.get("image_size")),
        tokenizer=tokenizer,
        context_length=_context_length(tokenizer, text, 64 if sigmoid else 77),
        sigmoid=sigmoid,
        whole=found.get("model") if "vision_model" in found else None,
    )


def _context_length(tokenizer: Path, text: dict[str, Any], default: int) -> int:
    file = tokenizer / "tokenizer_config.json"
    stated = _read(file).get("model_max_length") if file.is_file() else None
    # transformers writes a number of thirty digits where a tokenizer has no limit
    return int(stated) if stated and stated < 65_536 else int(text.get("max_position_embeddings", default))


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{file.name} is missing in {file.parent}") from error
    except ValueError as error:
        raise SourceError(f"{file.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SourceError(f"{file.name} holds a {type(document).__name__}, not an object")
    return document
