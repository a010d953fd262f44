"""Runs of methods that learn from images alone, as bundles of an image tower."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import prove_golden
from nearlight.export.errors import SourceError
from nearlight.export.exporter import export_run
from nearlight.export.parity import prove_images
from nearlight.export.run_source import open_run
from nearlight.export.samples import gather
from nearlight.training.checkpoint import load_encoder
from nearlight.training.encoders import normalise_pixels
from tests.export.conftest import runner, write_encoder_run

PIXELS = np.random.default_rng(4).integers(0, 256, (5, 32, 32, 3), np.uint8)


def expected_of(run: Path) -> np.ndarray:
    """Unit vectors by the steps of the training room."""
    loaded = load_encoder(run)
    with torch.inference_mode():
        features = loaded.encoder(normalise_pixels(torch.from_numpy(PIXELS), loaded.section))
    found: np.ndarray = F.normalize(features, dim=-1).numpy()
    return found


def test_a_run_of_simclr_becomes_an_image_only_bundle(tmp_path: Path) -> None:
    run = write_encoder_run(tmp_path / "run")
    bundle = export_run(run, tmp_path / "bundle")
    manifest = Bundle.open(bundle.path).manifest
    assert (manifest.name, manifest.towers.text, manifest.scoring) == ("my-photos", None, None)
    assert manifest.training["steps"] == 5
    assert manifest.dim == load_encoder(run).dim  # of the encoder: the projection head stays behind
    np.testing.assert_allclose(runner(bundle.image_path)(PIXELS), expected_of(run), atol=2e-6)
    cosines = prove_golden(bundle)
    assert cosines is not None
    assert list(cosines) == ["image"]
    assert not (bundle.path / "text.onnx").exists()
    uses = manifest.parity["uses"]
    assert isinstance(uses, dict)
    assert list(uses) == ["image_neighbours_overlap_at_10"]
    assert uses["image_neighbours_overlap_at_10"] > 0.98  # type: ignore[operator]


@pytest.mark.parametrize(
    ("method", "encoder"),
    [
        ("cmc", {}),  # its encoder looks at lightness and colour
        pytest.param("dino", {"name": "vit-tiny", "patch_px": 16}, marks=pytest.mark.slow),
        pytest.param("cpc", {}, marks=pytest.mark.slow),
        pytest.param("moco-v3", {}, marks=pytest.mark.slow),
        pytest.param("supcon", {}, marks=pytest.mark.slow),
        pytest.param("ce", {}, marks=pytest.mark.slow),
    ],
)
def test_encoders_of_other_methods(tmp_path: Path, method: str, encoder: dict[str, object]) -> None:
    run = write_encoder_run(tmp_path / "run", method, **encoder)
    subject = open_run(run)
    graph = subject.encoders.image_onnx()
    prove_images(subject, graph, gather(None, (), subject.image.preprocess), 0.99999)
    onnx.save(graph, tmp_path / "image.onnx")
    np.testing.assert_allclose(runner(tmp_path / "image.onnx")(PIXELS), expected_of(run), atol=5e-6)


def test_the_head_stays_behind_unless_asked(tmp_path: Path) -> None:
    run = write_encoder_run(tmp_path / "run")
    loaded = load_encoder(run)
    assert loaded.head is not None
    subject = open_run(run, head=True)
    assert subject.training["head"] is True
    features = loaded.encoder(normalise_pixels(torch.from_numpy(PIXELS), loaded.section))
    wanted = F.normalize(loaded.head(features), dim=-1).detach().numpy()
    np.testing.assert_allclose(subject.encoders.embed_images(PIXELS), wanted, atol=2e-6)
    with pytest.raises(SourceError, match="--head: .* was trained with cmc: it has none"):
        open_run(write_encoder_run(tmp_path / "cmc", "cmc"), head=True)


def test_a_bundle_is_named_after_its_run_unless_the_run_has_a_name(tmp_path: Path) -> None:
    run = write_encoder_run(tmp_path / "my_photos (2)")
    tree = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**tree, "name": "run"}))
    assert open_run(run).name == "my_photos-2"


def test_a_run_of_another_encoder_than_its_weights(tmp_path: Path) -> None:
    run, other = write_encoder_run(tmp_path / "run"), write_encoder_run(tmp_path / "other", width=0.25)
    (run / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(SourceError, match=r"does not hold the model its config\.json describes"):
        export_run(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
