"""Repositories of the hub, by the hub's own client, and what a dry run and the way back to torch give."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants

from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.estimate import estimate
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.open_clip_weights import CONFIG_FILE
from nearlight.export.source import open_subject
from nearlight.export.torch_encoders import TorchEncoders
from nearlight.export.weights_file import save_weights
from tests.bundle.hub import SHA, serving
from tests.bundle.test_remote import point_at
from tests.export.foreign import write_json, write_transformers_js
from tests.export.test_open_clip_source import Payload
from tests.export.towers import FAMILIES, VIT, write_arch


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of a repository on a hub that the client takes for the real one."""
    folder = tmp_path / "repo"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(folder) as address:
        point_at(address, monkeypatch)
        yield folder


def test_open_clip_on_the_hub(repo: Path, tmp_path: Path) -> None:
    write_json(repo / CONFIG_FILE, {"model_cfg": {"embed_dim": 48, **FAMILIES["vit"]}})
    torch.manual_seed(8)
    state = open_clip.create_model(write_arch(tmp_path, "vit"), load_weights=False).state_dict()
    safetensors.torch.save_file(state, repo / "open_clip_model.safetensors")
    torch.save({"state_dict": Payload()}, repo / "open_clip_pytorch_model.bin")
    subject = open_subject("hf:some/model@main", Choice())
    assert isinstance(subject.encoders, TorchEncoders)
    loaded = subject.encoders.model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert subject.training["hf"] == {"repo": "some/model", "commit": SHA}
    assert subject.made_with == f"hf:some/model@{SHA}"
    assert not list((tmp_path / "cache").rglob("*.bin"))  # pickles are not even downloaded


def test_only_a_pickle_on_the_hub(repo: Path, tmp_path: Path) -> None:
    write_json(repo / CONFIG_FILE, {"model_cfg": {"embed_dim": 48, **FAMILIES["vit"]}})
    state = open_clip.create_model(write_arch(tmp_path, "vit"), load_weights=False).state_dict()
    torch.save(state, repo / "open_clip_pytorch_model.bin")
    with pytest.raises(SourceError, match="holds no weights"):
        open_subject("hf:some/model", Choice())
    subject = open_subject("hf:some/model", Choice(trust_pickle=True))
    assert subject.training["pickle_trusted"] is True


def test_timm_on_the_hub(repo: Path) -> None:
    torch.manual_seed(9)
    model = timm.create_model("test_vit")
    safetensors.torch.save_file(model.state_dict(), repo / "model.safetensors")
    write_json(repo / "config.json", {"architecture": "test_vit", "pretrained_cfg": {"std": [0.1, 0.2, 0.3]}})
    subject = open_subject("hf:some/model", Choice())
    assert subject.image.std == (0.1, 0.2, 0.3)
    assert subject.training["model"] == "test_vit"


def test_onnx_on_the_hub(repo: Path, tmp_path: Path) -> None:
    write_transformers_js(tmp_path / "made")
    for file in (tmp_path / "made").rglob("*.*"):
        place = repo / file.relative_to(tmp_path / "made")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(file.read_bytes())
    (repo / "onnx" / "vision_model_q4f16.onnx").write_bytes(b"x" * 1000)
    subject = open_subject("hf:some/model", Choice())
    assert subject.training["layout"] == "transformers.js or optimum"
    assert not list((tmp_path / "cache").rglob("*q4f16*"))


def test_repositories_that_are_refused(repo: Path) -> None:
    with pytest.raises(SourceError, match="is not hf:OWNER/NAME"):
        open_subject("hf:model", Choice())
    (repo / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(SourceError, match="of no known layout"):
        open_subject("hf:some/model", Choice())


def test_a_bundle_on_the_hub_is_pulled_instead(repo: Path) -> None:
    (repo / "manifest.json").write_text("{}")
    with pytest.raises(SourceError, match="is a bundle already: nearlight bundle pull hf:some/model"):
        open_subject("hf:some/model", Choice())


def test_an_estimate_counts_the_weights(tmp_path: Path) -> None:
    subject = open_open_clip(write_arch(tmp_path, "vit"), "random")
    found = estimate(subject, "fp32")
    assert isinstance(subject.encoders, TorchEncoders)
    every = sum(weight.numel() for weight in subject.encoders.model.parameters())
    assert found.image_bytes + found.text_bytes == pytest.approx(4 * every, rel=0.001)
    assert (found.dim, found.image_px, found.context_length, found.trimmable) == (
        48,
        VIT["image_size"],
        12,
        True,
    )
    assert estimate(subject, "fp16").image_bytes == found.image_bytes // 2
    assert found.seconds >= 1
    image_only = estimate(open_subject("timm:test_vit:random", Choice()), "fp32")
    assert (image_only.context_length, image_only.text_bytes) == (None, 0)


def test_the_way_back_to_torch(tmp_path: Path) -> None:
    arch = write_arch(tmp_path, "vit")
    first = open_open_clip(arch, "random")
    save_weights(first, tmp_path / "clip.safetensors")
    again = open_open_clip(arch, str(tmp_path / "clip.safetensors"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(first.encoders.embed_images(pixels), again.encoders.embed_images(pixels))
    theirs = open_clip.create_model(arch, pretrained=str(tmp_path / "clip.safetensors")).state_dict()
    assert isinstance(first.encoders, TorchEncoders)
    assert all(torch.equal(theirs[name], value) for name, value in first.encoders.model.state_dict().items())
    eye = open_subject("timm:test_vit:random", Choice())
    save_weights(eye, tmp_path / "eye.safetensors")
    open_subject(f"timm:test_vit:{tmp_path / 'eye.safetensors'}", Choice())
    assert not list(tmp_path.glob("*.tmp"))


def test_weights_that_are_not_saved(tmp_path: Path) -> None:
    subject = open_subject(f"onnx:{write_transformers_js(tmp_path / 'clip')}", Choice())
    with pytest.raises(SourceError, match="came as ONNX"):
        save_weights(subject, tmp_path / "w.safetensors")
    with pytest.raises(SourceError, match=r"w\.pt must end in \.safetensors"):
        save_weights(subject, tmp_path / "w.pt")
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    with pytest.raises(SourceError, match="exists already"):
        save_weights(subject, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == b"mine"
