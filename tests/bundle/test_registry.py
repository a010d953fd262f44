"""Finding bundles by path and by name."""

from pathlib import Path

import pytest

from nearlight.bundle import registry
from nearlight.bundle.errors import BundleCorrupt, BundleError, NotABundle
from nearlight.bundle.folder import Bundle, write_bundle
from nearlight.bundle.registry import add, entries, find_bundle, library, matching, packaged_bundles, remove
from tests.bundle.conftest import FILES, manifest_of


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
        NotABundle,
        match=r"neither a folder nor a name of the library or the package \(these are: hand-made\)",
    ):
        find_bundle(name)


def test_without_packaged_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", tmp_path / "none")
    assert packaged_bundles() == []
    with pytest.raises(NotABundle, match=r"no bundle 'nearlight-tiny'.*these are: none"):
        find_bundle(None)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty library of one's own."""
    monkeypatch.setenv("NEARLIGHT_BUNDLES", str(tmp_path / "library"))
    return tmp_path / "library"


def second(folder: Path) -> Bundle:
    """The hand-made bundle as made a year later, with another card."""
    manifest = manifest_of(created="2026-01-02T03:04:05Z")
    return write_bundle(folder / "second", manifest, {**FILES, "README.md": b"# second"})


def test_where_the_library_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NEARLIGHT_BUNDLES", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert library() == tmp_path / ".local" / "share" / "nearlight" / "bundles"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert library() == tmp_path / "data" / "nearlight" / "bundles"
    monkeypatch.setenv("NEARLIGHT_BUNDLES", str(tmp_path / "mine"))
    assert library() == tmp_path / "mine"


def test_the_newest_of_a_name_is_found(bundle: Bundle, own: Path, tmp_path: Path) -> None:
    assert entries() == []
    old = add(bundle.path)
    new = add(second(tmp_path).path)
    assert old.name == new.name == "hand-made"
    assert old.version != new.version
    assert [entry.version for entry in entries()] == [new.version, old.version]
    assert find_bundle("hand-made") == new.path == own / "hand-made" / new.version
    assert find_bundle(f"hand-made@{old.version[:6]}") == old.path
    assert Bundle.open(old.path).manifest == bundle.manifest
    remove(new)
    assert find_bundle("hand-made") == old.path
    remove(old)
    assert not (own / "hand-made").exists()
    with pytest.raises(NotABundle):
        find_bundle("hand-made")


def test_the_same_bundle_is_kept_once(bundle: Bundle, own: Path) -> None:
    first, again = add(bundle.path), add(bundle.path)
    assert first == again
    assert add(bundle.path, "other").version == first.version
    assert [entry.name for entry in entries()] == ["hand-made", "other"]
    assert not [place for place in own.rglob("*") if place.name.endswith(".tmp")]


def test_versions_that_name_nothing(bundle: Bundle, own: Path) -> None:
    version = add(bundle.path).version
    for wrong in (f"hand-made@{version[:3]}", "hand-made@", "hand-made@ffff"):
        with pytest.raises(NotABundle, match=f"it must name one.*versions: {version}"):
            matching(wrong)
    assert matching("../hand-made") == matching("nothing") == []


def test_what_is_not_added(bundle: Bundle, own: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'../up' is not a name"):
        add(bundle.path, "../up")
    (bundle.path / "image.onnx").write_bytes(b"altered")
    with pytest.raises(BundleCorrupt):
        add(bundle.path)
    with pytest.raises(NotABundle):
        add(tmp_path)
    assert not own.exists()


def test_strangers_in_the_library_are_not_bundles(bundle: Bundle, own: Path) -> None:
    add(bundle.path)
    (own / "hand-made" / "notes").mkdir()
    (own / ".hidden" / "123456789abc").mkdir(parents=True)
    (own / "empty" / "123456789abc").mkdir(parents=True)
    assert len(entries()) == 1
    broken = own / "broken" / "123456789abc"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    assert [(entry.name, entry.created) for entry in entries()][0] == ("broken", "")
