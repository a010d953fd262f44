import pytest
import torch

from nearlight.training.encoders import build_encoder, feature_dim
from nearlight.training.errors import ConfigError
from nearlight.training.heads import SplitBatchNorm2d, mlp
from nearlight.training.sections import EncoderSection

# Parameters of torchvision's models without their classifiers, in millions.
IMAGENET_MILLIONS = {"resnet18": 11.177, "resnet34": 21.285, "resnet50": 23.508, "resnet101": 42.500}


@pytest.mark.parametrize(("name", "millions"), IMAGENET_MILLIONS.items())
def test_resnets_have_the_papers_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSection(name=name, stem="imagenet", image_px=224))
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)


@pytest.mark.parametrize(
    ("section", "dim"),
    [
        (EncoderSection(name="resnet18", stem="cifar", image_px=32, width=0.25), 128),
        (EncoderSection(name="resnet50", stem="small", image_px=32, width=0.125), 256),
        (EncoderSection(name="resnet10", stem="imagenet", image_px=64), 512),
        (EncoderSection(name="vit-tiny", image_px=32), 192),
        (EncoderSection(name="convnext_atto", image_px=32), 320),
    ],
)
def test_images_become_features(section: EncoderSection, dim: int) -> None:
    encoder = build_encoder(section).eval()
    images = torch.randn(2, 3, section.image_px, section.image_px)
    assert encoder(images).shape == (2, dim)
    assert feature_dim(encoder, section) == dim


def test_stems_differ_in_what_they_leave() -> None:
    sides = {}
    for stem in ("cifar", "small", "imagenet"):
        encoder = build_encoder(EncoderSection(name="resnet10", stem=stem, image_px=64, width=0.125)).eval()
        sides[stem] = encoder.forward_features(torch.randn(1, 3, 64, 64)).shape[-1]  # type: ignore[operator]
    assert sides == {"cifar": 8, "small": 4, "imagenet": 2}


@pytest.mark.parametrize(
    ("name", "dim"),
    [("open_clip:RN50", 1024), ("open_clip:coca_ViT-B-32", 512), ("open_clip:EVA02-B-16", 512)],
)
def test_image_towers_of_open_clip(name: str, dim: int) -> None:
    section = EncoderSection(name=name, image_px=64)
    with torch.device("meta"):
        encoder = build_encoder(section).eval()
    assert encoder(torch.randn(2, 3, 64, 64, device="meta")).shape == (2, dim)
    assert feature_dim(encoder, section) == dim


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(
        ConfigError, match="'open_clip:RN5' cannot be built: open_clip has no architecture 'RN5'"
    ):
        build_encoder(EncoderSection(name="open_clip:RN5"))
    with pytest.raises(ConfigError, match="encoder.name = 'resnet19'.*resnet18"):
        build_encoder(EncoderSection(name="resnet19"))
    with pytest.raises(ConfigError, match="'imagenet' needs images of 32 px, not 16"):
        build_encoder(EncoderSection(stem="imagenet", image_px=16))


def test_split_batch_norm_is_batch_norm_of_each_part() -> None:
    torch.manual_seed(0)
    images = torch.randn(12, 4, 3, 3) * 3 + 1
    split = SplitBatchNorm2d(4, splits=3).train()
    wanted = torch.cat([torch.nn.BatchNorm2d(4).train()(part) for part in images.chunk(3)])
    torch.testing.assert_close(split(images), wanted)
    for _ in range(200):
        split(images)
    torch.testing.assert_close(split.running_mean, images.mean(dim=(0, 2, 3)), atol=0.2, rtol=0.2)
    whole = torch.nn.BatchNorm2d(4).eval()
    whole.load_state_dict(split.state_dict())
    torch.testing.assert_close(split.eval()(images), whole(images))


def test_heads_as_the_papers_have_them() -> None:
    kinds = [type(layer).__name__ for layer in mlp([8, 16, 4])]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    simsiam = mlp([8, 16, 4], last_norm=True, last_affine=False)
    assert simsiam[-1].weight is None
    assert simsiam[-2].bias is None
