"""Each family of open_clip becomes graphs that give its vectors, prepared and tokenised its own way."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch

from nearlight.bundle.text import Tokenizer
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.exporter import export_source
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.open_clip_weights import CONFIG_FILE
from nearlight.export.parity import prove_images, prove_texts
from nearlight.export.samples import gather
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import TorchEncoders
from tests.export.conftest import runner
from tests.export.towers import FAMILIES, write_arch, write_unigram, write_wordpiece

TEXTS = ["two dogs", "The red ball, on a child!", "", "x " * 40, "naïve_café  DOGS"]


@pytest.fixture(scope="module")
def archs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("archs")
    return {family: write_arch(folder, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unigram(tmp_path_factory.mktemp("tokenizers") / "unigram")


def opened(archs: dict[str, str], family: str, tokenizer: Path | None = None) -> Subject:
    return open_open_clip(archs[family], "random", Choice(tokenizer=tokenizer))


def prove(subject: Subject) -> None:
    samples = gather(None, (), subject.image.preprocess)
    prove_images(subject, subject.encoders.image_onnx(), samples, 0.99999)
    prove_texts(subject, subject.encoders.text_onnx(), samples, 0.99999)


SLOW = [pytest.param(family, marks=pytest.mark.slow) for family in ("resnet", "convnext")]


@pytest.mark.parametrize("family", ["mobileclip", *SLOW])
def test_image_towers(archs: dict[str, str], family: str) -> None:
    subject = opened(archs, family)
    content = subject.encoders.image_onnx()
    prove_images(subject, content, gather(None, (), subject.image.preprocess), 0.99999)
    if family == "mobileclip":  # branches that training keeps apart are merged
        assert content.ByteSize() < 4.2 * subject.encoders.weights()[0]


def test_a_causal_custom_text_tower_is_trimmed(archs: dict[str, str]) -> None:
    subject = opened(archs, "eva")
    assert subject.text is not None
    assert subject.text.trimmable
    prove(subject)


def test_coca_keeps_its_padding(archs: dict[str, str]) -> None:
    """Its class token stands behind the padding, so that a cut would move it."""
    subject = opened(archs, "coca")
    assert subject.text is not None
    assert not subject.text.trimmable
    prove(subject)


def test_siglip_as_a_bundle(archs: dict[str, str], unigram: Path, tmp_path: Path) -> None:
    source = f"open_clip:{archs['siglip']}:random"
    bundle = export_source(source, tmp_path / "siglip", choice=Choice(tokenizer=unigram))
    manifest = bundle.manifest
    assert manifest.scoring is not None
    assert (manifest.scoring.kind, manifest.scoring.logit_bias) == ("sigmoid", -10.0)
    text = manifest.towers.text
    assert text is not None
    assert (text.context_length, text.pad_id, text.sot_id, text.eot_id) == (10, 1, None, 1)
    assert (text.trimmable, text.clean) == (False, "canonicalize")
    tokens = bundle.tokenizer().encode(TEXTS, trim=True)
    assert tokens.shape == (5, 10)
    model = opened(archs, "siglip", unigram).encoders
    np.testing.assert_allclose(runner(bundle.text_path)(tokens), model.embed_texts(tokens), atol=2e-6)


def test_the_end_token_that_clipa_blanks(archs: dict[str, str], tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path / "bert")
    config = {"embed_dim": 16, **FAMILIES["vit"]}
    text = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
    config["text_cfg"] = {**text, "context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1,
                          "pool_type": "last", "no_causal_mask": True}  # fmt: skip
    (tmp_path / "nearlight-small-clipa.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "nearlight-small-clipa.json")
    subject = open_open_clip("nearlight-small-clipa", "random", Choice(tokenizer=folder))
    assert subject.text is not None
    assert subject.tokenizer_json is not None
    rows = Tokenizer.load(subject.tokenizer_json, subject.text).encode(["Two dogs", "a . " * 9])
    assert rows.tolist() == [[2, 5, 6, 7, 0, 0, 0, 0], [2, 4, 15, 4, 15, 4, 15, 0]]


def test_a_folder_as_open_clip_saves_it(archs: dict[str, str], unigram: Path, tmp_path: Path) -> None:
    settings = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    document = {
        "model_cfg": {"embed_dim": 48, **FAMILIES["siglip"]},
        "preprocess_cfg": {"size": [32, 32], **settings},
    }
    (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
    for file in unigram.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(5)
    state = open_clip.create_model(archs["siglip"], load_weights=False).state_dict()
    safetensors.torch.save_file(state, tmp_path / "open_clip_model.safetensors")
    subject = open_open_clip("ViT-B-32", str(tmp_path))
    assert subject.image.preprocess.model_dump() == {
        "size_px": 32, "resize": "squash", "crop": "none", "interpolation": "bilinear", "resize_px": None
    }  # fmt: skip
    assert (subject.image.mean, subject.image.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert isinstance(subject.encoders, TorchEncoders)
    loaded = subject.encoders.model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(SourceError, match="holds no weights"):
        open_open_clip("ViT-B-32", str(tmp_path))
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(SourceError, match=r"no open_clip_config\.json that open_clip would read"):
        open_open_clip("ViT-B-32", str(tmp_path))


@pytest.mark.parametrize(
    ("arch", "tag", "mean", "resize", "interpolation"),
    [
        ("ViT-B-16-SigLIP", None, 0.5, "squash", "bicubic"),
        ("MobileCLIP-S1", None, 0.0, "shortest", "bilinear"),
        ("ViT-B-16-SigLIP2", "webli", 0.5, "squash", "bicubic"),
        ("PE-Core-T-16-384", None, 0.5, "squash", "bilinear"),
        ("RN50", None, 0.48145466, "shortest", "bicubic"),
        ("ViT-L-14", "laion2b_s32b_b82k", 0.5, "shortest", "bicubic"),
    ],
)
def test_images_are_prepared_as_the_published_weights_were(
    arch: str, tag: str | None, mean: float, resize: str, interpolation: str
) -> None:
    from nearlight.export.open_clip_weights import shared_settings

    settings = shared_settings(arch, tag)
    assert settings["mean"][0] == mean
    assert (settings["resize_mode"], settings["interpolation"]) == (resize, interpolation)


def test_tags_that_disagree_are_said(caplog: pytest.LogCaptureFixture) -> None:
    from nearlight.export.open_clip_weights import shared_settings

    assert shared_settings("ViT-L-14", None) == {}
    assert "--tag says whose settings to take" in caplog.text
    with pytest.raises(
        SourceError, match="open_clip:RN50 has no tag 'laion9b'; it has: openai, yfcc15m, cc12m"
    ):
        shared_settings("RN50", "laion9b")


def test_a_tag_brings_its_gelu(
    archs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip only warns when the weights of a tag need QuickGELU; we build what they need."""
    from nearlight.export import open_clip_weights

    with_tag = {"quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "shortest",
                "interpolation": "bicubic"}  # fmt: skip
    monkeypatch.setattr(open_clip_weights, "_tags", lambda arch: {"openai": with_tag})
    torch.manual_seed(3)
    reference = open_clip.create_model(archs["vit-quickgelu"], load_weights=False).eval()
    torch.save(reference.state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(open_clip_weights, "download_pretrained", lambda settings: str(tmp_path / "w.pt"))
    subject = open_open_clip(archs["vit"], "openai")
    assert subject.training["tag"] == "openai"
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=12)(["a dog", "two cats"])
    with torch.inference_mode():
        expected = reference.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(subject.encoders.embed_texts(tokens.numpy()), expected, atol=1e-6)


def test_a_download_that_fails(archs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        SourceError, match="the tokenizer of 'nearlight/absent' cannot be downloaded; give its folder"
    ):
        open_open_clip(archs["siglip"], "random")
