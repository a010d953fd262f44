"""From a run to a bundle: what is in it, and what remains when it fails."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from nearlight.bundle.errors import BundleCorrupt, BundleExists
from nearlight.bundle.folder import Bundle, write_bundle
from nearlight.bundle.golden import load_golden, prove_golden
from nearlight.export import exporter
from nearlight.export.errors import ParityError, SourceError
from nearlight.export.exporter import ExportOptions, export_run, export_subject
from nearlight.export.graphs import ImageGraph
from nearlight.export.run_source import open_run
from nearlight.export.torch_encoders import TorchEncoders
from nearlight.training.checkpoint import load_model
from nearlight.training.config import IMAGENET_MEAN, IMAGENET_STD
from tests.export.conftest import runner, write_run


def test_the_bundle_is_whole_and_says_what_it_is(full: Bundle) -> None:
    manifest = Bundle.open(full.path).manifest
    assert manifest.name == "small-run"
    assert manifest.dim == 48
    assert manifest.precision == "fp32"
    assert manifest.opset == onnx.load(full.image_path).opset_import[0].version == 20
    assert manifest.towers.image.preprocess.size_px == 32
    assert manifest.towers.text is not None
    assert manifest.towers.text.trimmable
    assert (manifest.towers.text.sot_id, manifest.towers.text.eot_id) == (1012, 1013)
    assert manifest.scoring is not None
    assert manifest.scoring.logit_scale == pytest.approx(25.0, rel=1e-5)
    assert manifest.metrics == {"zeroshot": {"photos": {"top1": 12.5, "top5": 50.0}}}
    assert manifest.training["steps"] == 11
    for tower in ("image", "text"):
        report = manifest.parity[tower]
        assert isinstance(report, dict)
        assert report["min_cosine"] >= 0.99999  # type: ignore[operator]
        assert report["count"] >= 64  # type: ignore[operator]
    assert [file.name for file in full.files] == sorted(
        [
            "manifest.json",
            "image.onnx",
            "text.onnx",
            "tokenizer.json",
            "golden.npz",
            "README.md",
            "SHA256SUMS",
        ]
    )


def test_inputs_and_outputs(full: Bundle) -> None:
    image, text = onnx.load(full.image_path), onnx.load(str(full.text_path))

    def described(model: onnx.ModelProto) -> list[tuple[str, int, list[object]]]:
        return [
            (
                v.name,
                v.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in (*model.graph.input, *model.graph.output)
        ]

    out = ("vectors", TensorProto.FLOAT, ["batch", 48])
    assert described(image) == [("pixels", TensorProto.UINT8, ["batch", 32, 32, 3]), out]
    assert described(text) == [("tokens", TensorProto.INT64, ["batch", "length"]), out]


def test_vectors_are_those_of_the_model(run: Path, full: Bundle) -> None:
    model = load_model(run).model
    images, texts = runner(full.image_path), runner(full.text_path)
    rng = np.random.default_rng(0)
    for batch in range(1, 8):
        pixels = rng.integers(0, 256, (batch, 32, 32, 3), np.uint8)
        scaled = (
            torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]
        ) / (torch.tensor(IMAGENET_STD)[:, None, None])
        with torch.inference_mode():
            expected = F.normalize(model.encode_image(scaled), dim=-1).numpy()
        np.testing.assert_allclose(images(pixels), expected, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(images(pixels), axis=1), 1, atol=1e-6)
    tokenizer = full.tokenizer()
    said = ["a", "a dog", "a dog on the beach", "", "a very long text that has to be cut " * 3]
    full_length = tokenizer.encode(said)
    with torch.inference_mode():
        expected = F.normalize(model.encode_text(torch.from_numpy(full_length)), dim=-1).numpy()
    np.testing.assert_allclose(texts(full_length), expected, atol=2e-6)
    for index, text in enumerate(said):  # each alone and trimmed to its own length
        alone = tokenizer.encode([text], trim=True)
        assert alone.shape[1] <= 16
        np.testing.assert_allclose(texts(alone)[0], expected[index], atol=2e-6)


def test_golden_vectors_are_those_of_the_model(run: Path, full: Bundle) -> None:
    golden = load_golden(full)
    assert golden is not None
    assert golden.tokens is not None
    assert golden.text_vectors is not None
    scaled = (
        torch.from_numpy(golden.pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]
    ) / (torch.tensor(IMAGENET_STD)[:, None, None])
    model = load_model(run).model
    with torch.inference_mode():
        images = F.normalize(model.encode_image(scaled), dim=-1).numpy()
        texts = F.normalize(model.encode_text(torch.from_numpy(golden.tokens)), dim=-1).numpy()
    np.testing.assert_allclose(golden.image_vectors, images, atol=2e-6)
    np.testing.assert_allclose(golden.text_vectors, texts, atol=2e-6)
    cosines = prove_golden(full)
    assert cosines is not None
    assert sorted(cosines) == ["image", "text"]
    assert min(cosines.values()) > 1 - 1e-6


def test_a_bundle_with_other_weights_fails_its_golden_vectors(full: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(full.image_path)
    weight = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    numbers = np.frombuffer(weight.raw_data, np.float32)
    weight.raw_data = (
        (numbers * np.random.default_rng(0).normal(1, 0.2, len(numbers))).astype("<f4").tobytes()
    )
    files: dict[str, bytes | Path] = {file.name: file for file in full.files}
    files["image.onnx"] = graph.SerializeToString()
    del files["manifest.json"], files["SHA256SUMS"]
    altered = write_bundle(tmp_path / "altered", full.manifest, files)
    with pytest.raises(BundleCorrupt, match="image tower does not give its golden vectors"):
        prove_golden(Bundle.open(altered.path))


def test_a_vector_does_not_depend_on_its_batch_mates(full: Bundle, half: Bundle) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (9, 32, 32, 3), np.uint8)
    for bundle in (full, half):
        embed = runner(bundle.image_path)
        alone = embed(pixels[:1])
        for mates in (rng.integers(0, 256, (8, 32, 32, 3), np.uint8), np.zeros((3, 32, 32, 3), np.uint8)):
            np.testing.assert_allclose(embed(np.concatenate([pixels[:1], mates]))[:1], alone, atol=2e-6)


def test_the_same_model_gives_the_same_graph(run: Path, full: Bundle, half: Bundle) -> None:
    assert open_run(run).encoders.image_onnx() == onnx.load(full.image_path)
    assert half.manifest.space_id != full.manifest.space_id


def test_half_precision_halves_the_files_and_folds_away(full: Bundle, half: Bundle, tmp_path: Path) -> None:
    import onnxruntime

    for whole, halved in ((full.image_path, half.image_path), (full.text_path, half.text_path)):
        assert whole is not None
        assert halved is not None
        # The shapes of the graph weigh the same in both.
        weights = sum(tensor.ByteSize() for tensor in onnx.load(whole).graph.initializer)
        halved_weights = sum(tensor.ByteSize() for tensor in onnx.load(halved).graph.initializer)
        assert halved_weights < 0.56 * weights
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(str(halved), options, providers=["CPUExecutionProvider"])
        loaded = onnx.load(tmp_path / "optimised.onnx")
        assert not [
            tensor.name for tensor in loaded.graph.initializer if tensor.data_type == TensorProto.FLOAT16
        ]
        assert not [node.name for node in loaded.graph.node if node.name.endswith(".cast")]
    assert half.manifest.precision == "fp16"
    assert half.manifest.parity["min_cosine_allowed"] == 0.999


def test_nothing_of_this_machine_is_in_the_bundle(full: Bundle, half: Bundle) -> None:
    for bundle in (full, half):
        for file in bundle.files:
            content = file.read_bytes()
            for private in (
                b"site-packages",
                b"/secret/place",
                b'.py"',
                b"Traceback",
                str(Path.home()).encode() + b"/",
            ):
                assert private not in content, (file.name, private)
    assert full.manifest.training["config"]["data"]["train"] == ["photos.parquet@2"]  # type: ignore[index, call-overload]


@pytest.mark.slow
def test_towers_of_a_small_resnet(tmp_path: Path) -> None:
    vision = {"timm_model_name": "nearlight_resnet10", "timm_pool": "avg", "timm_proj": "linear"}
    bundle = export_run(write_run(tmp_path / "resnet", vision=vision), tmp_path / "bundle")
    assert runner(bundle.image_path)(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 48)


def test_failing_parity_leaves_what_was_there(
    run: Path, full: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, forward = TorchEncoders.image_onnx, ImageGraph.forward

    def off_by_a_little(self: TorchEncoders) -> onnx.ModelProto:
        monkeypatch.setattr(ImageGraph, "forward", lambda graph, pixels: forward(graph, 255 - pixels))
        return write(self)

    monkeypatch.setattr(TorchEncoders, "image_onnx", off_by_a_little)
    old = shutil.copytree(full.path, tmp_path / "old")
    message = r"image tower: the least cosine over 64 inputs is -?0\.\d+; it must be at least 0\.99999"
    for out in (old, tmp_path / "deep" / "new"):
        with pytest.raises(ParityError, match=message):
            export_run(run, out, options=ExportOptions(force=True))
    assert [place.name for place in tmp_path.iterdir()] == ["old"]
    assert Bundle.open(old).manifest == full.manifest


class LooksAround(nn.Module):
    """A tower whose vectors depend on the whole batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3)) + images.amax(dim=(2, 3)) * 2  # (B, 3)
        return means - means.mean(dim=0) * 0.5


def test_batch_mates_that_matter_are_refused(run: Path, tmp_path: Path) -> None:
    subject = open_run(run)
    assert isinstance(subject.encoders, TorchEncoders)
    subject.encoders.model.visual = LooksAround()
    message = r"image tower: a vector changes by .* with its batch mates; the limit is 1e-05"
    with pytest.raises(ParityError, match=message):
        export_subject(subject, tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_place_is_refused_before_the_work(full: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleExists, match="exists already"):
        export_run(tmp_path / "no run at all", full.path)


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a training run"):
        export_run(tmp_path, tmp_path / "out")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (broken / name).write_bytes((run / name).read_bytes())
    (broken / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(SourceError, match="damaged"):
        export_run(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_fall_back_to_the_last_validation(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "tokenizer.json", "checkpoint.pt"):
        (copy / name).write_bytes((run / name).read_bytes())
    assert open_run(copy).metrics == {}
    records: list[dict[str, float]] = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "val/top1": 10.0},
        {"step": 3, "loss": 2.0},
    ]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert open_run(copy).metrics == {"validation": {"val/top1": 10.0}}
    (copy / "evaluation-retrieval.json").write_text("[]")
    with pytest.raises(SourceError, match=r"evaluation-retrieval\.json is not what"):
        open_run(copy)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vit_b_32(tmp_path: Path) -> None:
    bundle = exporter.export_open_clip("ViT-B-32", "random", tmp_path / "vit", "fp16")
    assert bundle.manifest.name == "vit-b-32-random"
    assert bundle.manifest.dim == 512
    assert bundle.image_path.stat().st_size < 180e6
    assert runner(bundle.text_path)(bundle.tokenizer().encode(["a dog"], trim=True)).shape == (1, 512)
