"""ONNX towers of other tools: each layout becomes a bundle with the vectors of the original graphs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import pytest
from onnx import TensorProto, helper
from PIL import Image

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import preprocess
from nearlight.export.choice import Choice
from nearlight.export.errors import ExportError, SourceError
from nearlight.export.exporter import export_source
from nearlight.export.onnx_source import open_onnx
from tests.export.conftest import add_arch, runner
from tests.export.foreign import (
    CLIP_MEAN,
    CLIP_STD,
    LENGTH,
    ROWS,
    SIDE,
    image_model,
    model_of,
    text_model,
    value,
    weight,
    write_clip_as_service,
    write_immich,
    write_json,
    write_transformers_js,
)

TEXTS = ["a dog", "two dogs on the red ball", "", "running child " * 20]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


def unit(features: np.ndarray) -> np.ndarray:
    found: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return found


def original(file: Path, output: str, one_by_one: bool = False, **feeds: np.ndarray) -> np.ndarray:
    """Unit vectors by the foreign file itself, fed by hand."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    if not one_by_one:
        return unit(session.run([output], feeds)[0])
    rows = range(len(next(iter(feeds.values()))))
    return unit(
        np.concatenate([session.run([output], {n: v[i : i + 1] for n, v in feeds.items()})[0] for i in rows])
    )


def normal(pixels: np.ndarray) -> np.ndarray:
    scaled = (pixels / np.float32(255) - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    moved: np.ndarray = scaled.transpose(0, 3, 1, 2).astype(np.float32)
    return moved


def images_agree(bundle: Bundle, file: Path, output: str, given: str, one_by_one: bool = False) -> None:
    expected = original(file, output, one_by_one, **{given: normal(PIXELS)})
    np.testing.assert_allclose(runner(bundle.image_path)(PIXELS), expected, atol=2e-6)


def test_transformers_js(tmp_path: Path) -> None:
    folder = write_transformers_js(tmp_path / "clip")
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle", choice=Choice(logit_scale=42.0))
    images_agree(bundle, folder / "onnx" / "vision_model.onnx", "image_embeds", "pixel_values")
    manifest = bundle.manifest
    text = manifest.towers.text
    assert text is not None
    assert (text.context_length, text.pad_id, text.sot_id, text.eot_id) == (LENGTH, 0, 2, 3)
    assert text.clean == "none"
    assert text.trimmable  # the mask keeps padding out, and trying it proved so
    assert manifest.towers.image.preprocess.crop == "center_floor"
    assert manifest.scoring is not None
    assert (manifest.scoring.kind, manifest.scoring.logit_scale) == ("softmax", 42.0)
    assert manifest.training["layout"] == "transformers.js or optimum"
    assert manifest.opset == 17
    tokens = bundle.tokenizer().encode(TEXTS)
    mask = (tokens != 0).astype(np.int64)
    expected = original(
        folder / "onnx" / "text_model.onnx", "text_embeds", input_ids=tokens, attention_mask=mask
    )
    np.testing.assert_allclose(runner(bundle.text_path)(tokens), expected, atol=2e-6)
    for index, words in enumerate(TEXTS):
        cut = bundle.tokenizer().encode([words], trim=True)
        np.testing.assert_allclose(runner(bundle.text_path)(cut)[0], expected[index], atol=2e-6)
    assert b"laptop" not in bundle.image_path.read_bytes()


def test_siglip_of_transformers_js(tmp_path: Path) -> None:
    folder = write_transformers_js(tmp_path / "siglip", siglip=True)
    with pytest.raises(SourceError, match="give --logit-scale and --logit-bias"):
        open_onnx(folder, Choice())
    weights = [onnx.numpy_helper.from_array(np.array([n], np.float32), f"m.{name}")
               for name, n in (("logit_scale", 4.7), ("logit_bias", -12.9))]  # fmt: skip
    whole = image_model()
    whole.graph.initializer.extend(weights)
    onnx.save(whole, folder / "onnx" / "model.onnx")
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle")
    scoring, text = bundle.manifest.scoring, bundle.manifest.towers.text
    assert scoring is not None
    assert text is not None
    assert scoring.kind == "sigmoid"
    assert scoring.logit_scale == pytest.approx(np.exp(4.7), rel=1e-6)
    assert scoring.logit_bias == pytest.approx(-12.9, rel=1e-6)
    assert not text.trimmable  # it sums over the padding too
    assert bundle.manifest.towers.image.preprocess.resize == "squash"
    assert bundle.manifest.towers.image.preprocess.interpolation == "bilinear"
    tokens = bundle.tokenizer().encode(TEXTS, trim=True)
    assert tokens.shape == (4, LENGTH)
    expected = original(folder / "onnx" / "text_model.onnx", "pooler_output", input_ids=tokens)
    np.testing.assert_allclose(runner(bundle.text_path)(tokens), expected, atol=2e-6)


def test_immich_is_fixed_to_one_row_and_served_in_batches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_immich(tmp_path / "immich")
    with caplog.at_level("WARNING"):
        bundle = export_source(f"onnx:{folder}", tmp_path / "bundle")
    assert "model.onnx is fixed to one row a batch: it will run row by row" in caplog.text
    assert "a logit scale; 100 is taken" in caplog.text
    images_agree(bundle, folder / "visual" / "model.onnx", "embedding", "image", one_by_one=True)
    tokens = bundle.tokenizer().encode(TEXTS)
    assert tokens.shape == (4, LENGTH)
    expected = original(folder / "textual" / "model.onnx", "embedding", True, text=tokens.astype(np.int32))
    np.testing.assert_allclose(runner(bundle.text_path)(tokens), expected, atol=2e-6)


def test_immich_with_a_varying_batch(tmp_path: Path) -> None:
    folder = write_immich(tmp_path / "immich", "batch")
    subject = open_onnx(folder, Choice())
    assert subject.text is not None
    assert subject.text.clean == "whitespace"
    assert not [n for n in subject.encoders.image_onnx().graph.node if n.op_type == "Scan"]


def test_clip_as_service(tmp_path: Path) -> None:
    folder = write_clip_as_service(tmp_path / "pair")
    with pytest.raises(SourceError, match="name it with --arch, such as --arch ViT-B-32"):
        open_onnx(folder, Choice())
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": SIDE, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    arch = add_arch(
        tmp_path, "nearlight-test-pair", {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    )
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle", choice=Choice(arch=arch))
    images_agree(bundle, folder / "visual.onnx", "out", "pixel_values")
    tokens = bundle.tokenizer().encode(TEXTS)
    assert tokens.tolist() == open_clip.tokenizer.SimpleTokenizer()(TEXTS).tolist()
    assert bundle.manifest.towers.text is not None
    assert bundle.manifest.towers.text.trimmable
    expected = original(folder / "textual.onnx", "out", input_ids=tokens)
    np.testing.assert_allclose(runner(bundle.text_path)(tokens), expected, atol=2e-6)


def test_an_image_encoder_alone(tmp_path: Path) -> None:
    folder = write_transformers_js(tmp_path / "eye")
    (folder / "onnx" / "text_model.onnx").unlink()
    (folder / "onnx" / "vision_model.onnx").rename(folder / "model.onnx")
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle")
    assert bundle.manifest.towers.text is None
    images_agree(bundle, folder / "model.onnx", "image_embeds", "pixel_values")


def test_half_precision_and_outside_weights_of_a_foreign_graph(tmp_path: Path) -> None:
    folder = write_transformers_js(tmp_path / "clip")
    file = folder / "onnx" / "vision_model.onnx"
    onnx.save(
        onnx.load(file), file, save_as_external_data=True, location="vision_model.onnx_data", size_threshold=0
    )
    assert (folder / "onnx" / "vision_model.onnx_data").is_file()
    bundle = export_source(f"onnx:{folder}", tmp_path / "bundle", "fp16")
    found = runner(bundle.image_path)(PIXELS)
    expected = original(file, "image_embeds", pixel_values=normal(PIXELS))
    assert (found * expected).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (33, 32), (500, 37)])
def test_images_are_prepared_as_hugging_face_does(tmp_path: Path, size: tuple[int, int]) -> None:
    """By hand: shortest side to 36, then the middle 32 with half pixels rounded down."""
    folder = write_transformers_js(tmp_path / "clip")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    write_json(folder / "preprocessor_config.json", {**settings, "size": {"shortest_edge": 36}})
    tower = open_onnx(folder, Choice()).image
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8))
    short, long = min(image.size), max(image.size)
    longer = int(36 * long / short)
    resized = image.resize(
        (36, longer) if image.width <= image.height else (longer, 36), Image.Resampling.BICUBIC
    )
    left, top = (resized.width - 32) // 2, (resized.height - 32) // 2
    expected = np.array(resized)[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(preprocess(image, tower.preprocess), expected)


def outside(folder: Path, location: str) -> None:
    model = onnx.load(folder / "onnx" / "vision_model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "onnx" / "vision_model.onnx").write_bytes(model.SerializeToString())


def replace_vision(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        model = image_model()
        change(model)
        (folder / "onnx" / "vision_model.onnx").write_bytes(model.SerializeToString())

    return apply


def custom(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "evil.ops"
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))


def no_vector(model: onnx.ModelProto) -> None:
    model.graph.output.pop()


def settings_of(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "preprocessor_config.json"
        write_json(file, {**json.loads(file.read_text()), **changes})

    return apply


def cut(folder: Path) -> None:
    file = folder / "onnx" / "vision_model.onnx"
    file.write_bytes(file.read_bytes()[:700])


def two_inputs(folder: Path) -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["text_embeds"])
    inputs = [value("a", TensorProto.INT64, ["batch", 4]), value("b", TensorProto.FLOAT, [4, 4])]
    outputs = [value("text_embeds", TensorProto.FLOAT, ["batch", 4])]
    onnx.save(model_of([node], inputs, outputs, []), folder / "onnx" / "text_model.onnx")


def tokenizer_too_large(folder: Path) -> None:
    onnx.save(text_model(masked=True, causal=False, rows=12), folder / "onnx" / "text_model.onnx")


def fixed_batch(folder: Path) -> None:
    onnx.save(image_model(batch=4), folder / "onnx" / "vision_model.onnx")


def fixed_inside(folder: Path) -> None:
    """Says that its batch varies, but its nodes know only one row."""
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "one_row"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["image_embeds"]),
    ]
    size = 3 * SIDE * SIDE
    weights = [
        onnx.numpy_helper.from_array(np.array([1, size], np.int64), "one_row"),
        weight("projection", size, 12),
    ]
    inputs = [value("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])]
    outputs = [value("image_embeds", TensorProto.FLOAT, ["batch", 12])]
    onnx.save(model_of(nodes, inputs, outputs, weights), folder / "onnx" / "vision_model.onnx")


def old_opset(folder: Path) -> None:
    onnx.save(image_model(opset=12), folder / "onnx" / "vision_model.onnx")


def new_opset(folder: Path) -> None:
    onnx.save(image_model(opset=22), folder / "onnx" / "vision_model.onnx")


def other_size(folder: Path) -> None:
    settings_of(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"vision_model\.onnx is truncated or not ONNX|holds no graph"),
        (lambda f: (f / "onnx" / "vision_model.onnx").write_bytes(b"x" * 100), "not ONNX"),
        (lambda f: (f / "onnx" / "vision_model.onnx").unlink(), "of no known layout"),
        (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer\.json in"),
        (lambda f: (f / "preprocessor_config.json").unlink(), r"preprocessor_config\.json is missing in"),
        (
            lambda f: (f / "preprocessor_config.json").write_text("{"),
            r"preprocessor_config\.json is not JSON",
        ),
        (
            lambda f: outside(f, "../../../etc/passwd"),
            r"keeps the weight 'patch' at '\.\./.*outside its folder",
        ),
        (lambda f: outside(f, "/etc/passwd"), "outside its folder"),
        (lambda f: outside(f, "absent.bin"), r"keeps weights in absent\.bin, which is missing"),
        (replace_vision(custom), r"uses custom operators, which no server has: evil\.ops\.Tanh"),
        (replace_vision(no_vector), "one of them must be `image_embeds` or `pooler_output`"),
        (two_inputs, "a text tower takes integer tokens"),
        (tokenizer_too_large, r"the tokenizer has id 16 .* the model's embedding has 12 rows"),
        (fixed_batch, "the batch of `pixel_values` is fixed at 4; it must vary, or be 1"),
        (fixed_inside, r"vision_model\.onnx does not run"),
        (old_opset, "has opset 12; supported: 13 to 21"),
        (new_opset, "has opset 22; supported: 13 to 21"),
        (other_size, r"takes images of 32x32 px; its settings make 48x48 px"),
        (settings_of(do_rescale=False), r"scales pixels by other than 1/255"),
        (settings_of(resample=1), r"preprocessor_config\.json is not supported"),
        (settings_of(size={"height": 32, "width": 48}), "only squares"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = write_transformers_js(tmp_path / "clip")
    damage(folder)
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises((ExportError, BundleError), match=message):
        export_source(f"onnx:{folder}", tmp_path / "bundle")
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_more_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        open_onnx(tmp_path / "absent", Choice())
    folder = write_immich(tmp_path / "immich")
    (folder / "textual" / "model.onnx").unlink()
    with pytest.raises(SourceError, match="no ONNX file at"):
        open_onnx(folder, Choice())
    write_json(folder / "config.json", {"vision_cfg": {}})
    with pytest.raises(SourceError, match="lacks 'text_cfg'"):
        open_onnx(folder, Choice())
    half = write_immich(tmp_path / "half")
    (half / "visual" / "preprocess_cfg.json").unlink()
    with pytest.raises(SourceError, match=r"preprocess_cfg\.json is missing in"):
        open_onnx(half, Choice())
    alone = write_clip_as_service(tmp_path / "alone")
    (alone / "textual.onnx").unlink()
    with pytest.raises(SourceError, match="no ONNX file at .*textual"):
        open_onnx(alone, Choice(arch="ViT-B-32"))
    pair = write_clip_as_service(tmp_path / "pair")
    onnx.save(text_model(output="out", rows=ROWS), pair / "textual.onnx")
    with pytest.raises(SourceError, match="embeds 64 tokens; CLIP's vocabulary has 49408"):
        open_onnx(pair, Choice(arch="ViT-B-32"))
    link = write_transformers_js(tmp_path / "linked")
    (tmp_path / "elsewhere.bin").write_bytes(b"x" * 10_000)
    (link / "onnx" / "w.bin").symlink_to(tmp_path / "elsewhere.bin")
    outside(link, "w.bin")
    with pytest.raises(SourceError, match="outside its folder"):
        open_onnx(link, Choice())
