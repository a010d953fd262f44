import io
from pathlib import Path

import pytest
from PIL import Image

from nearlight.client.bench.inputs import TEXTS, images_of, made_up_images, mixed, texts_of
from nearlight.client.bench.target import requests_of
from nearlight.client.errors import InvalidInput
from nearlight.v1 import embedding_pb2


def test_made_up_images_are_like_photographs() -> None:
    images = made_up_images(3)
    assert len(set(images)) == 3
    assert images == made_up_images(3)
    for image in images:
        assert 40_000 < len(image) < 250_000
        with Image.open(io.BytesIO(image)) as opened:
            assert (opened.format, opened.size) == ("JPEG", (640, 480))


def test_images_of_a_folder_and_texts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    (tmp_path / "texts").write_text("one\n\n  two  \n")
    assert images_of(tmp_path) == [b"a", b"b"]
    assert texts_of(tmp_path / "texts") == ["one", "two"]
    assert texts_of(None) == list(TEXTS)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "folder").mkdir()
    for call, path, words in (
        (images_of, tmp_path / "folder", "there are no images in"),
        (images_of, tmp_path / "no", "cannot read images"),
        (texts_of, tmp_path / "empty", "there are no texts in"),
        (texts_of, tmp_path / "no", "cannot read texts"),
    ):
        with pytest.raises(InvalidInput, match=words):
            call(path)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_a_mix_has_its_share_of_texts_everywhere(share: float) -> None:
    images, texts = [bytes([n]) for n in range(60)], ["x", "y", "z"]
    mix = mixed(images, texts, share)
    assert set(images) <= set(mix)
    for end in range(1, len(mix) + 1):
        n_texts = sum(isinstance(item, str) for item in mix[:end])
        assert abs(n_texts - share * end) <= 1
    assert mixed(images, texts, 0) == images
    assert mixed(images, texts, 1) == texts


def test_requests_hold_every_input_and_pass_by_the_cache() -> None:
    inputs: list[str | bytes] = [b"one", "two", b"three", "four", b"five"]
    requests = [
        embedding_pb2.EmbedRequest.FromString(content)
        for content in requests_of(inputs, 2, "m", use_cache=False)
    ]
    sent = [item.text or item.image for request in requests for item in request.inputs]
    assert sent == [*inputs, b"one"]
    assert {request.model for request in requests} == {"m"}
    assert all(request.cache.skip_read and request.cache.skip_write for request in requests)
    [cached] = requests_of(inputs, 5, "", use_cache=True)
    assert not embedding_pb2.EmbedRequest.FromString(cached).cache.skip_read
