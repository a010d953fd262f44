"""Towers too large for one file: the same path, its limit brought down to a few kilobytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nearlight.bundle.errors import BundleCorrupt
from nearlight.bundle.folder import Bundle, copy_bundle
from nearlight.bundle.golden import prove_golden
from nearlight.bundle.manifest import ImagePreprocess, ImageTower
from nearlight.export import onnx_file
from nearlight.export.candidates import DriftTarget
from nearlight.export.exporter import ExportOptions, export_source, export_subject
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import ImageOnly, TorchEncoders
from tests.export.conftest import runner
from tests.export.foreign import write_transformers_js


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_ONE_FILE_BYTES", 20_000)


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_weights_stand_beside_the_graphs(
    exported: Subject, full: Bundle, tmp_path: Path, precision: str
) -> None:
    options = ExportOptions(drift=DriftTarget(0.98, 0.5))
    bundle = export_subject(exported, tmp_path / "bundle", precision, options)  # type: ignore[arg-type]
    towers = Bundle.open(bundle.path).manifest.towers
    assert towers.text is not None
    assert (towers.image.weights_file, towers.text.weights_file) == ("image.onnx.data", "text.onnx.data")
    assert bundle.image_path.stat().st_size < 100_000 < (bundle.path / "text.onnx.data").stat().st_size
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found, expected = runner(bundle.image_path)(pixels), runner(full.image_path)(pixels)
    assert (found * expected).sum(axis=1).min() > (0.98 if precision == "int8" else 0.99999)
    cosines = prove_golden(bundle)
    assert cosines is not None
    assert min(cosines.values()) > 0.9999
    assert bundle.manifest.space_id != full.manifest.space_id


@pytest.mark.usefixtures("low_limit")
def test_outside_weights_are_verified_and_travel(exported: Subject, tmp_path: Path) -> None:
    bundle = export_subject(exported, tmp_path / "bundle")
    assert prove_golden(copy_bundle(bundle, tmp_path / "copy")) is not None
    weights = bundle.path / "image.onnx.data"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(BundleCorrupt, match=r"image\.onnx\.data is altered"):
        Bundle.open(bundle.path)
    weights.unlink()
    with pytest.raises(BundleCorrupt, match=r"image\.onnx\.data is missing"):
        Bundle.open(bundle.path, verify=False)


@pytest.mark.usefixtures("low_limit")
def test_a_foreign_graph_with_outside_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_ONE_FILE_BYTES", 200)
    folder = write_transformers_js(tmp_path / "clip")
    file = folder / "onnx" / "vision_model.onnx"
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="vision.data", size_threshold=0)
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle")
    assert bundle.manifest.towers.image.weights_file == "image.onnx.data"
    assert prove_golden(Bundle.open(bundle.path)) is not None


class Wide(nn.Module):
    """An image tower of 2.3 GB, nearly all of it two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Linear(192, 17_000)
        self.wide = nn.Sequential(
            nn.Linear(17_000, 17_000, bias=False), nn.GELU(), nn.Linear(17_000, 17_000, bias=False)
        )
        self.out = nn.Linear(17_000, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = F.adaptive_avg_pool2d(images, 8).flatten(1)  # (B, 192)
        found: torch.Tensor = self.out(F.gelu(self.wide(F.gelu(self.narrow(patches)))))
        return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_tower_beyond_two_gigabytes(tmp_path: Path) -> None:
    """What protobuf cannot hold: written, proven, verified. Needs some 14 GB of memory."""
    torch.manual_seed(0)
    image = ImageTower(preprocess=ImagePreprocess(size_px=32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    subject = Subject(TorchEncoders(ImageOnly(Wide()), image, None), "wide", image, None, None, None, {})
    bundle = export_subject(subject, tmp_path / "bundle")
    assert (bundle.path / "image.onnx.data").stat().st_size > 2**31
    assert bundle.image_path.stat().st_size < 1_000_000
    cosines = prove_golden(Bundle.open(bundle.path))
    assert cosines is not None
    assert cosines["image"] > 0.9999
