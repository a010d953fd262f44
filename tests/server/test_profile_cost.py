"""Fast decoding is asked for, never given unasked; what it costs is measured and shown."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.client import Client, InvalidInput
from nearlight.server.cache import keys_of
from nearlight.server.call import Input
from nearlight.server.config import ServerConfig
from nearlight.server.errors import BundleUnusable
from nearlight.server.local import LocalServer
from nearlight.server.models import load_model
from nearlight.server.profile_cost import files_in, profile_cost
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.v1 import embedding_pb2

Oracle = Callable[..., Any]


def jpeg(new_image: Callable[..., bytes], size: tuple[int, int]) -> bytes:
    return new_image(3, size=size, kind="JPEG")


@pytest.fixture
def oracle(tiny_bundle: Path) -> Oracle:
    """A vector of one profile, made in this process by hand."""
    bundle = Bundle.open(tiny_bundle)
    encoder = OnnxEncoder(bundle.image_path, dim=bundle.manifest.dim, threads=1)

    def embed(content: bytes, profile: str) -> Any:
        image = Image.open(io.BytesIO(content))
        if profile == "fast":
            image.draft("RGB", (32, 32))
        again = io.BytesIO()
        image.convert("RGB").save(again, "PNG")
        spec = bundle.manifest.towers.image.preprocess
        return encoder.encode(load_pixels(again.getvalue(), spec, ImageLimits())[np.newaxis])[0]

    return embed


@pytest.mark.parametrize("default", ["exact", "fast"])
def test_a_call_chooses_and_the_server_has_a_default(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    new_image: Callable[..., bytes],
    oracle: Oracle,
    default: str,
) -> None:
    large = jpeg(new_image, (300, 200))
    assert abs(oracle(large, "exact") - oracle(large, "fast")).max() > 1e-4
    config = config_of([tiny_bundle], tmp_path, engine={"image_profile": default})
    with LocalServer(config) as server, Client(server.address) as client:
        # Round and round: a cache that mixed them up would answer the second with the first.
        for wish in ("", "exact", "fast", "exact", "", "fast"):
            [vector] = client.embed([large], image_profile=wish).vectors
            np.testing.assert_allclose(vector, oracle(large, wish or default), atol=1e-5)
        with pytest.raises(InvalidInput, match="image_profile is 'slow'"):
            client.embed([large], image_profile="slow")  # type: ignore[arg-type]


def test_exact_is_the_default(tmp_path: Path, config_of: Callable[..., ServerConfig]) -> None:
    assert config_of([], tmp_path).engine.image_profile == "exact"


def test_an_unknown_profile_is_named(stubs: Any, images: list[bytes]) -> None:
    request = embedding_pb2.EmbedRequest(inputs=[{"image": images[0]}], image_profile=9)  # type: ignore[arg-type]
    with pytest.raises(grpc.RpcError, match=r"image_profile is 9; it must be 1 \(EXACT\) or 2 \(FAST\)"):
        stubs.embedding.Embed(request)


async def test_each_profile_has_keys_of_its_own(tiny_bundle: Path, calm_supervisor: Any) -> None:
    model = load_model(Bundle.open(tiny_bundle), ServerConfig(), calm_supervisor)
    keys = [await keys_of(model, [Input("image", b"x", "", profile)]) for profile in (None, "exact", "fast")]
    assert keys[0] == keys[1] != keys[2]
    model.close()


def test_the_cost_is_measured_on_the_images_given(
    tiny_bundle: Path, tmp_path: Path, new_image: Callable[..., bytes], oracle: Oracle
) -> None:
    bundle = Bundle.open(tiny_bundle)
    large, small = jpeg(new_image, (300, 200)), jpeg(new_image, (60, 50))
    (tmp_path / "deep").mkdir()
    for name, content in {"a.jpg": large, "deep/b.JPEG": small, "c.png": b"broken", "d.txt": b""}.items():
        (tmp_path / name).write_bytes(content)
    files = files_in(tmp_path)
    assert len(files) == 3
    cost = profile_cost(bundle, files, 1)
    expected = float(oracle(large, "exact") @ oracle(large, "fast"))
    assert (cost.images, cost.reduced, cost.are_generated) == (2, 1, False)
    assert cost.cosine == pytest.approx(expected, abs=1e-5)
    assert cost.mean_cosine == pytest.approx((1 + expected) / 2, abs=1e-5)
    assert cost.exact_ms > 0
    assert "1 of them decoded smaller" in str(cost)
    assert "large enough" in str(profile_cost(bundle, [small], 1))
    with pytest.raises(BundleUnusable, match="none of the 1 images"):
        profile_cost(bundle, [b"broken"], 1)
    generated = profile_cost(bundle, [], 1)
    assert generated.are_generated
    assert generated.reduced == generated.images == 12
