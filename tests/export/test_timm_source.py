"""timm's image encoders: weights in every format, images prepared as timm does, image-only bundles."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from nearlight.bundle.image import preprocess
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.exporter import export_source
from nearlight.export.timm_source import _image_tower, data_config, open_timm
from nearlight.export.torch_encoders import TorchEncoders
from tests.export.conftest import runner
from tests.export.test_open_clip_source import Payload

NAME = "test_vit"


@pytest.fixture(scope="module")
def whole() -> torch.nn.Module:
    """The model with its classifier, as its weights are published."""
    torch.manual_seed(4)
    model: torch.nn.Module = timm.create_model(NAME).eval()
    return model


def published(name: str) -> dict[str, Any]:
    """How timm prepares images for the published weights of a model."""
    settings = timm.get_pretrained_cfg(name)
    assert settings is not None
    return data_config(settings.to_dict())  # type: ignore[no-untyped-call]


def features(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Unit vectors of pooled features, by timm's own steps."""
    settings = published(NAME)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor(settings["mean"])[:, None, None]) / torch.tensor(settings["std"])[
        :, None, None
    ]
    with torch.inference_mode():
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    found: np.ndarray = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    return found


def test_a_timm_encoder_becomes_an_image_only_bundle(whole: torch.nn.Module, tmp_path: Path) -> None:
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "w.safetensors")
    bundle = export_source(f"timm:{NAME}:{tmp_path / 'w.safetensors'}", tmp_path / "bundle")
    manifest = bundle.manifest
    assert manifest.towers.text is None
    assert manifest.scoring is None
    assert bundle.text_path is None
    assert manifest.towers.image.preprocess.size_px == 160
    assert manifest.towers.image.preprocess.resize_px == math.floor(160 / 0.95)
    assert not (bundle.path / "tokenizer.json").exists()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    np.testing.assert_allclose(runner(bundle.image_path)(pixels), features(whole, pixels), atol=2e-6)


@pytest.mark.parametrize("layout", ["pt", "training checkpoint", "headless", "other classes", "folder"])
def test_weights_in_every_layout(whole: torch.nn.Module, tmp_path: Path, layout: str) -> None:
    state = whole.state_dict()
    place = tmp_path / "w.pt"
    if layout == "headless":
        state = {name: value for name, value in state.items() if not name.startswith("head.")}
    if layout == "other classes":
        state = {**state, "head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    torch.save({"epoch": 2, "state_dict": state} if layout == "training checkpoint" else state, place)
    if layout == "folder":
        place.unlink()
        place = tmp_path
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}))
    subject = open_timm(NAME, str(place), Choice())
    assert isinstance(subject.encoders, TorchEncoders)
    loaded = subject.encoders.model.state_dict()
    assert all(
        torch.equal(loaded[f"visual.{name}"], state[name]) for name in state if not name.startswith("head.")
    )
    assert not [name for name in loaded if name.startswith("visual.head")]
    assert subject.image.mean == ((0.1, 0.2, 0.3) if layout == "folder" else (0.5, 0.5, 0.5))


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (open_timm(NAME, "random", Choice()).encoders for _ in range(2))
    pixels = np.zeros((1, 160, 160, 3), np.uint8)
    np.testing.assert_array_equal(first.embed_images(pixels), second.embed_images(pixels))


@pytest.mark.parametrize(
    "name", ["resnet50.a1_in1k", "convnext_tiny.fb_in1k", "vit_base_patch16_224.augreg_in21k"]
)
@pytest.mark.parametrize("size", [(640, 427), (300, 301), (97, 500), (233, 233)])
def test_images_are_prepared_as_timm_does(name: str, size: tuple[int, int]) -> None:
    settings = published(name)
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    tower = _image_tower(settings, name)
    expected = create_transform(**settings)(image).numpy()  # (3, H, W)
    pixels = preprocess(image, tower.preprocess).astype(np.float32) / 255
    found = ((pixels - np.array(tower.mean, np.float32)) / np.array(tower.std, np.float32)).transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_refused(whole: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="timm has no model 'vit_nothing'"):
        open_timm("vit_nothing", "random", Choice())
    with pytest.raises(SourceError, match=r"no weights at .*absent\.pt"):
        open_timm(NAME, str(tmp_path / "absent.pt"), Choice())
    state = whole.state_dict()
    state.pop("norm.weight")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(SourceError, match=r"w\.pt does not load as timm:test_vit: .*norm\.weight"):
        open_timm(NAME, str(tmp_path / "w.pt"), Choice())
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-1000])
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(SourceError, match=r"cut\.safetensors does not load as timm:test_vit"):
        open_timm(NAME, str(tmp_path / "cut.safetensors"), Choice())
    with pytest.raises(SourceError, match=r"no config\.json that timm would read"):
        open_timm(NAME, str(tmp_path), Choice())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"holds none of model\.safetensors"):
        open_timm(NAME, str(tmp_path), Choice())
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(SourceError, match=r"evil\.pt does not load"):
        open_timm(NAME, str(tmp_path / "evil.pt"), Choice())
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (1, 28, 28)}, "only RGB squares"),
        ({"input_size": (3, 28, 32)}, "32x28 px"),
        ({"crop_mode": "border"}, "crops images by 'border'"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "crops images by 'squash' at 0.9"),
        ({"interpolation": "lanczos"}, "prepares images as"),
    ],
)
def test_preparations_that_nearlight_lacks(changes: dict[str, object], message: str) -> None:
    settings = {**published(NAME), **changes}
    with pytest.raises(SourceError, match=message):
        _image_tower(settings, "timm:it")
