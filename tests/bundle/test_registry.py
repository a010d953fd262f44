"""Finding bundles by path and by name."""

from pathlib import Path

import pytest

from nearlight.bundle import registry
from nearlight.bundle.errors import NotABundle
from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle, packaged_bundles


def test_a_folder_is_itself(bundle: Bundle) -> None:
    assert find_bundle(bundle.path) == bundle.path
    assert find_bundle(str(bundle.path)) == bundle.path


def test_packaged_bundles_have_names(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", bundle.path.parent)
    monkeypatch.setattr(registry, "DEFAULT_BUNDLE", "hand-made")
    assert packaged_bundles() == [bundle.path]
    assert find_bundle("hand-made") == find_bundle(None) == bundle.path


@pytest.mark.parametrize("name", ["vit-b-99", "../hand-made", "", "/nowhere", "hand-made/../x"])
def test_unknown_names_say_which_there_are(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(registry, "MODELS", bundle.path.parent)
    (bundle.path / "sub").mkdir()
    monkeypatch.chdir(bundle.path / "sub")
    with pytest.raises(
        NotABundle, match=r"neither a folder nor one of the packaged bundles \(these are: hand-made\)"
    ):
        find_bundle(name)


def test_without_packaged_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", tmp_path / "none")
    assert packaged_bundles() == []
    with pytest.raises(NotABundle, match=r"no bundle 'nearlight-tiny'.*these are: none"):
        find_bundle(None)
