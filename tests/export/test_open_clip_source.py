"""Public architectures with local weights in every format, and what is refused."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch

from nearlight.bundle.errors import BundleExists
from nearlight.export.errors import SourceError
from nearlight.export.exporter import export_open_clip
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import TorchEncoders
from tests.export.conftest import VIT, add_arch, runner

TEXTS = ["a dog", "two cats on a red sofa", "x" * 500, ""]


def model_of(subject: Subject) -> torch.nn.Module:
    assert isinstance(subject.encoders, TorchEncoders)
    return subject.encoders.model


def vectors_of(model: torch.nn.Module, texts: list[str]) -> np.ndarray:
    tokens = open_clip.tokenizer.SimpleTokenizer()(texts)
    with torch.inference_mode():
        found: np.ndarray = model.encode_text(tokens, normalize=True).numpy()  # type: ignore[operator]
    return found


def test_random_weights_are_the_same_every_time(tiny_arch: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first, second = (model_of(open_open_clip(tiny_arch, "random")).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not caplog.records


@pytest.fixture(scope="module")
def weights(tiny_arch: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(99)
    state: dict[str, torch.Tensor] = open_clip.create_model(tiny_arch, load_weights=False).state_dict()
    return state


@pytest.mark.parametrize("kind", ["pt", "safetensors", "training checkpoint"])
def test_local_weights(tiny_arch: str, weights: dict[str, torch.Tensor], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        safetensors.torch.save_file(weights, file)
    else:
        wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in weights.items()}}
        torch.save(weights if kind == "pt" else wrapped, file)
    subject = open_open_clip(tiny_arch, str(file))
    loaded = model_of(subject).state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert not model_of(subject).training
    assert subject.training["weights"] == file.name
    assert subject.name == "nearlight-test-tiny"


def test_a_clip_model_becomes_a_bundle(
    tiny_arch: str, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt")
    bundle = export_open_clip(tiny_arch, str(tmp_path / "w.pt"), tmp_path / "bundle")
    reference = open_clip.create_model(tiny_arch, load_weights=False).eval()
    reference.load_state_dict(weights)
    found = runner(bundle.text_path)(bundle.tokenizer().encode(TEXTS, trim=True))
    np.testing.assert_allclose(found, vectors_of(reference, TEXTS), atol=2e-6)


def test_a_custom_text_tower_keeps_its_full_length(tmp_path: Path) -> None:
    text = {
        "context_length": 20,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
    }
    config: dict[str, object] = {
        "embed_dim": 16,
        "custom_text": True,
        "init_logit_bias": -10.0,
        "vision_cfg": {**VIT, "image_size": 24, "layers": 1},
        "text_cfg": {**text, "pool_type": "last"},
    }
    arch = add_arch(tmp_path, "nearlight-test-custom", config)
    subject = open_open_clip(arch, "random")
    tower, scoring = subject.text, subject.scoring
    assert tower is not None
    assert not tower.trimmable
    assert scoring is not None
    assert scoring.kind == "sigmoid"
    assert scoring.logit_bias == -10.0


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("ViT-Z-99", "open_clip has no architecture 'ViT-Z-99'"),
    ],
)
def test_unsupported_architectures(arch: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        export_open_clip(arch, "random", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_load(tiny_arch: str, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(SourceError, match=r"no weights at .*absent\.pt"):
        export_open_clip(tiny_arch, str(tmp_path / "absent.pt"), out)
    (tmp_path / "w.npz").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"w\.npz end in '\.npz'; supported: \.pt"):
        export_open_clip(tiny_arch, str(tmp_path / "w.npz"), out)
    whole = tmp_path / "w.safetensors"
    safetensors.torch.save_file(weights, whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(SourceError, match=r"cut\.safetensors does not load as open_clip:nearlight-test-tiny"):
        export_open_clip(tiny_arch, str(tmp_path / "cut.safetensors"), out)
    safetensors.torch.save_file({name: weights[name] for name in list(weights)[:-2]}, whole)
    with pytest.raises(SourceError, match="Missing key"):
        export_open_clip(tiny_arch, str(whole), out)
    wider = {**weights, "visual.proj": torch.zeros(7, 3)}
    safetensors.torch.save_file({**wider, "visual.stranger": torch.zeros(2)}, whole)
    with pytest.raises(SourceError, match=r"visual\.stranger.*size mismatch for visual\.proj"):
        export_open_clip(tiny_arch, str(whole), out)
    assert not out.exists()


class Payload:
    """What an attacker would put into a checkpoint."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("pwned"),))


def test_pickled_code_is_never_run(tiny_arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(SourceError, match=r"evil\.pt does not load"):
        export_open_clip(tiny_arch, str(tmp_path / "evil.pt"), tmp_path / "bundle")
    assert [place.name for place in tmp_path.iterdir()] == ["evil.pt"]


def test_an_occupied_place(tiny_arch: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleExists):
        export_open_clip(tiny_arch, "random", tmp_path)
