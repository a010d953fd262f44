"""A hand-made bundle: real manifest and tokenizer, graphs that nothing runs here."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from nearlight.bundle.clip_bpe import build_tokenizer_json
from nearlight.bundle.folder import Bundle, write_bundle
from nearlight.bundle.manifest import ImagePreprocess, ImageTower, Manifest, Scoring, TextTower, Towers

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
IMAGE = ImageTower(preprocess=ImagePreprocess(size_px=64), mean=MEAN, std=STD)
TEXT = TextTower(context_length=16, sot_id=514, eot_id=515, trimmable=True)
FILES: Mapping[str, bytes] = {
    "image.onnx": b"an image graph" * 100,
    "text.onnx": b"a text graph" * 100,
    "tokenizer.json": build_tokenizer_json(["d o", "do g</w>"]).encode(),
    "README.md": b"# tiny\n",
}


def manifest_of(**changes: object) -> Manifest:
    """The manifest of the hand-made bundle, some fields changed."""
    fields: dict[str, object] = {
        "name": "hand-made",
        "created": "2025-01-02T03:04:05Z",
        "licence": "Apache-2.0",
        "description": "A bundle for tests.",
        "dim": 8,
        "towers": Towers(image=IMAGE, text=TEXT),
        "scoring": Scoring(logit_scale=20.0),
        "opset": 18,
        "metrics": {"zeroshot": {"top1": 0.5}},
        "parity": {"image": {"min_cosine": 0.999999}},
    }
    return Manifest.model_validate({**fields, **changes})


@pytest.fixture(autouse=True)
def no_library(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see the bundles of whoever runs them."""
    monkeypatch.setenv("NEARLIGHT_BUNDLES", str(tmp_path_factory.getbasetemp() / "no-library"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "hand-made", manifest_of(), FILES)
