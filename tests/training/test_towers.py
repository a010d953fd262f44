import open_clip
import pytest
import torch

from nearlight.training.config import ModelSection
from nearlight.training.errors import ConfigError
from nearlight.training.towers import build_towers, encode_text, is_trimmable, vocab_size
from nearlight.training.vocabulary import clip_tokenizer_json, open_tokenizer

SMALL = ModelSection(
    embed_dim=16, image_px=32, text={"width": 32, "heads": 2, "layers": 2}, context_length=24, merges=300
)


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    torch.manual_seed(0)
    return build_towers(SMALL).eval()


def test_an_architecture_by_name_has_open_clips_parameters() -> None:
    with torch.device("meta"):
        ours = build_towers(ModelSection(architecture="RN50", image_px=224, context_length=77))
        theirs = open_clip.CLIP(**open_clip.get_model_config("RN50"))
    assert {k: v.shape for k, v in ours.named_parameters()} == {
        k: v.shape for k, v in theirs.named_parameters()
    }
    assert is_trimmable(ours)
    with pytest.raises(ConfigError, match="'ViT-B-16-SigLIP' is not causal"):
        build_towers(ModelSection(architecture="ViT-B-16-SigLIP"))
    with pytest.raises(ConfigError, match="no architecture 'ViT-B32'; did you mean 'ViT-B-32'"):
        build_towers(ModelSection(architecture="ViT-B32"))


def test_trimmed_text_equals_open_clip_at_full_length(model: open_clip.CLIP) -> None:
    tokenizer = open_tokenizer(clip_tokenizer_json(SMALL.merges), SMALL)
    texts = ["a", "a dog on the beach", "words " * 40]
    full, trimmed = tokenizer.encode(texts), tokenizer.encode(texts[:2], trim=True)
    assert full.shape == (3, 24)
    assert trimmed.shape[1] < 24
    with torch.no_grad():
        expected = model.encode_text(torch.from_numpy(full))
        assert torch.allclose(encode_text(model, torch.from_numpy(full)), expected, atol=1e-5)
        assert torch.allclose(encode_text(model, torch.from_numpy(trimmed)), expected[:2], atol=1e-5)


def test_what_is_behind_the_end_token_does_not_matter(model: open_clip.CLIP) -> None:
    tokens = torch.full((1, 12), 7)
    tokens[0, 5] = vocab_size(SMALL.merges) - 1
    other = tokens.clone()
    other[0, 6:] = 99
    with torch.no_grad():
        assert torch.equal(encode_text(model, tokens), encode_text(model, other))
    assert is_trimmable(model)


def test_a_small_resnet_keeps_resolution_for_small_images(model: open_clip.CLIP) -> None:
    feature_map = model.visual.trunk.forward_features(torch.zeros(1, 3, 64, 64))
    assert feature_map.shape == (1, 512, 4, 4)  # 1/16, where a plain ResNet has 1/32


def test_an_impossible_model_names_the_section() -> None:
    with pytest.raises(ConfigError, match="model section"):
        build_towers(ModelSection(vision={"timm_model_name": "no_such_net"}))
