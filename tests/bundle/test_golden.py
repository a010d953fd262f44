"""Golden vectors on disk; that graphs give them is tested where graphs are, in tests/export."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.bundle.errors import BundleCorrupt
from nearlight.bundle.folder import Bundle, write_bundle
from nearlight.bundle.golden import GOLDEN, Golden, check_tokens, load_golden, probe_pixels
from tests.bundle.conftest import FILES, manifest_of

TEXTS = ("dog", "a dog")


def golden_of(bundle: Bundle) -> Golden:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 8)).astype(np.float32)
    tokens = bundle.tokenizer().encode(TEXTS)
    return Golden(probe_pixels(64, 3), vectors[:3], TEXTS, tokens, vectors[3:])


def with_golden(bundle: Bundle, content: bytes) -> Bundle:
    out = bundle.path.parent / "golden"
    write_bundle(out, manifest_of(golden=GOLDEN), {**FILES, GOLDEN: content}, force=True)
    return Bundle.open(out)


def test_what_was_written_is_read(bundle: Bundle) -> None:
    golden = golden_of(bundle)
    assert load_golden(bundle) is None
    content = golden.to_npz()
    assert content == golden.to_npz()
    loaded = load_golden(with_golden(bundle, content))
    assert loaded is not None
    assert loaded.texts == TEXTS
    for name in ("pixels", "image_vectors", "tokens", "text_vectors"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(golden, name))


def test_golden_vectors_leave_the_space_as_it_is(bundle: Bundle) -> None:
    assert with_golden(bundle, golden_of(bundle).to_npz()).manifest.space_id == bundle.manifest.space_id


def test_another_tokenizer_is_noticed(bundle: Bundle) -> None:
    golden = golden_of(bundle)
    check_tokens(bundle.tokenizer(), golden)
    assert golden.tokens is not None
    tokens = golden.tokens.copy()
    tokens[1, 2] += 1
    with pytest.raises(BundleCorrupt, match="tokenizer makes .* of 'a dog'"):
        check_tokens(bundle.tokenizer(), replace(golden, tokens=tokens))


def test_a_wrong_file_is_named(bundle: Bundle) -> None:
    golden = golden_of(bundle)
    assert golden.tokens is not None
    wrong: list[tuple[bytes, str]] = [
        (b"no zip", "cannot be read"),
        (replace(golden, image_vectors=golden.image_vectors[:2]).to_npz(), "must be as many"),
        (replace(golden, pixels=golden.pixels[:, :8]).to_npz(), "golden pixels are"),
        (replace(golden, image_vectors=golden.image_vectors[:, :4]).to_npz(), "golden image_vectors are"),
        (replace(golden, tokens=None).to_npz(), "golden tokens are nothing"),
        (replace(golden, texts=TEXTS[:1]).to_npz(), "must be as many"),
        (_pickled(), "cannot be read"),
        (_bomb(), "the limit is"),
    ]
    for content, message in wrong:
        with pytest.raises(BundleCorrupt, match=message):
            load_golden(with_golden(bundle, content))


def _pickled() -> bytes:
    file = io.BytesIO()
    objects: Any = np.array([{"a": 1}, None], object)
    np.savez(file, pixels=objects)
    return file.getvalue()


def _bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pixels.npy", bytes(65 * 1024 * 1024))
    return file.getvalue()


def test_probes_are_like_photographs_and_always_the_same(tmp_path: Path) -> None:
    pixels = probe_pixels(64)
    assert pixels.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(pixels, probe_pixels(64))
    for image in pixels.astype(float):
        assert image.std() > 10
        # Neighbours are alike, as in photographs and unlike in noise.
        assert np.abs(np.diff(image, axis=1)).mean() < image.std()
