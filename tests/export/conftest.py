"""Small random towers of several kinds, and the bundles made of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import open_clip
import pytest
import torch

from nearlight.bundle.folder import Bundle
from nearlight.export.exporter import export_run, export_subject
from nearlight.export.run_source import open_run
from nearlight.export.subject import Encoders, Subject
from nearlight.training.checkpoint import save_checkpoint
from nearlight.training.config import RunConfig, load_config
from nearlight.training.method import DataFacts, find_method
from nearlight.training.towers import build_towers
from nearlight.training.vocabulary import clip_tokenizer_json

Vectors = npt.NDArray[np.float32]
Runner = Callable[[npt.NDArray[np.generic]], Vectors]

VIT = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"width": 64, "heads": 2, "layers": 2}
SMALL = {
    "embed_dim": 48,
    "image_px": 32,
    "vision": VIT,
    "text": TEXT,
    "context_length": 16,
    "merges": 500,
}


def write_run(run: Path, **changes: object) -> Path:
    """A run folder as training leaves it, its weights random."""
    config = RunConfig.model_validate(
        {
            "name": "small run",
            "model": {**SMALL, **changes},
            "data": {"train": ["/secret/place/photos.parquet@2"]},
        }
    )
    run.mkdir()
    torch.manual_seed(7)
    towers = build_towers(config.model)
    with torch.no_grad():
        for weight in towers.parameters():  # initial towers are too timid to tell vectors apart
            weight.add_(torch.randn_like(weight) * 0.05)
        towers.logit_scale.fill_(np.log(25.0))
    state = {f"towers.{name}": value for name, value in towers.state_dict().items()}
    save_checkpoint(run, {"step": 11, "method_id": "clip", "method": state})
    (run / "config.json").write_text(config.model_dump_json())
    (run / "tokenizer.json").write_text(clip_tokenizer_json(config.model.merges), encoding="utf-8")
    results = {"photos": {"top1": 12.5, "top5": 50.0}}
    document = {"model": "/secret/place/run", "task": "zeroshot", "results": results}
    (run / "evaluation-zeroshot.json").write_text(json.dumps(document))
    return run


def write_encoder_run(run: Path, method: str = "simclr", **encoder: object) -> Path:
    """A run folder of a method of images alone, its weights random."""
    small: dict[str, object] = {"name": "resnet10", "width": 0.125, "stem": "small", "image_px": 32}
    section = {**small, **encoder}
    config = load_config(None, {"name": "my photos", "steps": 1, "encoder": section}, ["epochs=null"], method)
    torch.manual_seed(3)
    facts = DataFacts(40, ("cat", "dog"))
    made = find_method(method)(config, facts)
    run.mkdir()
    known = {"samples": facts.samples, "classes": list(facts.classes)}
    save_checkpoint(run, {"step": 5, "method_id": method, "method": made.state_dict(), "facts": known})
    (run / "config.json").write_text(config.model_dump_json())
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="session")
def full(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_run(run, tmp_path_factory.mktemp("bundles") / "full")


class Remembered:
    """Encoders whose graphs were written before: exporting them again takes no tracing."""

    def __init__(self, encoders: Encoders, bundle: Bundle) -> None:
        self.embed_images, self.embed_texts = encoders.embed_images, encoders.embed_texts
        self.weights, self.digest = encoders.weights, encoders.digest
        self.bundle = bundle

    def image_onnx(self) -> onnx.ModelProto:
        return onnx.load(self.bundle.image_path)

    def text_onnx(self) -> onnx.ModelProto:
        assert self.bundle.text_path is not None
        return onnx.load(self.bundle.text_path)


@pytest.fixture(scope="session")
def exported(run: Path, full: Bundle) -> Subject:
    """The run's model with the graphs of its full bundle."""
    subject = open_run(run)
    return replace(subject, encoders=Remembered(subject.encoders, full))


@pytest.fixture(scope="session")
def half(exported: Subject, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_subject(exported, tmp_path_factory.mktemp("bundles") / "half", "fp16")


def runner(path: Path | None) -> Runner:
    """A function from input to vectors that runs a graph of a bundle."""
    assert path is not None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())

    def embed(batch: npt.NDArray[np.generic]) -> Vectors:
        vectors: Vectors = session.run(["vectors"], {name: batch})[0]
        return vectors

    return embed


def add_arch(folder: Path, name: str, config: dict[str, object]) -> str:
    """Register an architecture with open_clip."""
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


@pytest.fixture(scope="session")
def tiny_arch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP of 3M parameters, most of them its vocabulary."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {**VIT, "image_size": 32, "layers": 1}
    config: dict[str, object] = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    return add_arch(tmp_path_factory.mktemp("archs"), "nearlight-test-tiny", config)
