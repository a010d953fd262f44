"""Bundles on a hub, by the hub's own client over HTTP."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from nearlight.bundle.errors import BundleCorrupt, BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.remote import fetched, parse, upload
from tests.bundle.hub import SHA, serving


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does for a new process."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of a repository on a hub that the client takes for the real one."""
    folder = tmp_path / "repo"
    folder.mkdir()
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with serving(folder) as address:
        point_at(address, monkeypatch)
        yield folder


def test_a_bundle_goes_up_and_comes_down(bundle: Bundle, repo: Path) -> None:
    assert SHA in upload(bundle, "hf:some/model")
    assert sorted(os.listdir(repo)) == sorted(file.name for file in bundle.files)
    (repo / ".gitattributes").write_text("*.onnx filter=lfs")
    with fetched("hf:some/model@main") as folder:
        assert Bundle.open(folder).manifest == bundle.manifest
    assert not folder.exists()


def test_what_was_altered_on_the_hub_is_seen(bundle: Bundle, repo: Path) -> None:
    upload(bundle, "hf:some/model")
    (repo / "image.onnx").write_bytes(b"another graph")
    with fetched("hf:some/model") as folder, pytest.raises(BundleCorrupt, match=r"image\.onnx is altered"):
        Bundle.open(folder)


def test_another_kind_of_repository(repo: Path) -> None:
    (repo / "model.safetensors").write_bytes(b"x")
    message = r"is not a bundle: it has no manifest\.json; `nearlight export`"
    with pytest.raises(BundleError, match=message), fetched("hf:some/model"):
        pass


def test_a_hub_that_is_away(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(BundleError, match="hf:some/model cannot be downloaded"), fetched("hf:some/model"):
        pass
    with pytest.raises(BundleError, match="hf:some/model refuses the bundle"):
        upload(bundle, "hf:some/model")


def test_names() -> None:
    assert parse("hf:some/model") == ("some/model", None)
    assert parse("hf:some/model@v1.0") == ("some/model", "v1.0")
    for wrong in ("hf:model", "hf:../x/y", "hf:a/b/c", "some/model", "hf:"):
        with pytest.raises(BundleError, match="is not hf:OWNER/NAME"):
            parse(wrong)
