"""Bundles are written whole and believed only when their checksums agree."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nearlight.bundle import folder as folder_module
from nearlight.bundle.checksums import SUMS
from nearlight.bundle.errors import BundleCorrupt, BundleError, BundleExists, BundleTooNew, NotABundle
from nearlight.bundle.folder import MANIFEST, Bundle, write_bundle
from nearlight.bundle.manifest import UNSEALED, Towers
from tests.bundle.conftest import FILES, IMAGE, manifest_of

NAMES = sorted([*FILES, MANIFEST])


def test_what_is_written_is_what_is_opened(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.path)
    assert opened == bundle
    assert opened.manifest.space_id not in (UNSEALED, "")
    assert [file.name for file in opened.files] == sorted([*NAMES, SUMS])
    assert opened.image_path.read_bytes() == FILES["image.onnx"]
    assert opened.text_path is not None
    assert opened.text_path.read_bytes() == FILES["text.onnx"]
    assert opened.tokenizer().rows(["Dog"]) == [[514, 513, 515]]
    assert Bundle.open(str(bundle.path), verify=False) == bundle


def test_the_sums_are_those_of_sha256sum(bundle: Bundle) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=bundle.path, check=True)


def test_files_are_copied_from_paths(tmp_path: Path, bundle: Bundle) -> None:
    sources = {name: bundle.path / name for name in FILES}
    copy = write_bundle(tmp_path / "deep" / "er" / "copy", manifest_of(), sources)
    assert copy.manifest == bundle.manifest
    assert Bundle.open(copy.path).manifest.space_id == bundle.manifest.space_id


def test_image_only_bundles_say_so(tmp_path: Path) -> None:
    manifest = manifest_of(towers=Towers(image=IMAGE), scoring=None)
    written = write_bundle(tmp_path / "eye", manifest, {"image.onnx": b"graph"})
    opened = Bundle.open(written.path)
    assert opened.text_path is None
    with pytest.raises(BundleError, match="'hand-made' has no text tower: it takes images only"):
        opened.tokenizer()


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_file_is_named(bundle: Bundle, name: str) -> None:
    file = bundle.path / name
    content = bytearray(file.read_bytes())
    at = content.index(b"hand-made") if name == MANIFEST else len(content) // 2
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=f"^{name} is altered or truncated: its SHA-256 is"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", [name for name in NAMES if name != MANIFEST])
def test_a_truncated_file_is_named(bundle: Bundle, name: str) -> None:
    os.truncate(bundle.path / name, 3)
    with pytest.raises(BundleCorrupt, match=f"^{name} is altered or truncated"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"^{name} is missing"):
        Bundle.open(bundle.path)


def test_extra_files_and_folders_are_named(bundle: Bundle) -> None:
    (bundle.path / "model.pkl").write_bytes(b"pickle")
    with pytest.raises(BundleCorrupt, match=r"^model\.pkl is extra: SHA256SUMS does not name it"):
        Bundle.open(bundle.path)
    (bundle.path / "model.pkl").unlink()
    (bundle.path / "sub").mkdir()
    with pytest.raises(BundleCorrupt, match="^sub is extra"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", [*NAMES, SUMS])
def test_links_are_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (bundle.path / name).rename(elsewhere)
    (bundle.path / name).symlink_to(elsewhere)
    with pytest.raises(BundleCorrupt, match=f"^{name} is a link"):
        Bundle.open(bundle.path)


def resealed(bundle: Bundle, change: Callable[[dict[str, object]], None]) -> Path:
    """The bundle with a changed manifest and checksums made to agree again."""
    document = json.loads((bundle.path / MANIFEST).read_text())
    change(document)
    (bundle.path / MANIFEST).write_text(json.dumps(document))
    sums = (bundle.path / SUMS).read_text().splitlines()
    digest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    lines = [f"{digest}  {MANIFEST}" if line.endswith(MANIFEST) else line for line in sums]
    (bundle.path / SUMS).write_text("\n".join(lines) + "\n")
    return bundle.path


def test_a_manifest_that_lies_about_its_space(bundle: Bundle) -> None:
    path = resealed(bundle, lambda document: document.update(dim=9))
    with pytest.raises(BundleCorrupt, match=r"manifest\.json says space_id .*, its files make"):
        Bundle.open(path)


def test_a_newer_bundle(bundle: Bundle) -> None:
    path = resealed(bundle, lambda document: document.update(format_version=2, novelty=True))
    with pytest.raises(BundleTooNew, match="format_version 2; this Nearlight reads up to 1"):
        Bundle.open(path)


def test_a_manifest_too_large_to_be_one(bundle: Bundle) -> None:
    os.truncate(bundle.path / MANIFEST, 17 * 1024 * 1024)
    with pytest.raises(BundleCorrupt, match=r"manifest\.json has 17825792 bytes; the limit is 16777216"):
        Bundle.open(bundle.path)


def test_what_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotABundle, match="no such folder"):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotABundle, match="it is not a folder"):
        Bundle.open(tmp_path / "file")
    with pytest.raises(NotABundle, match=r"the folder has no manifest\.json"):
        Bundle.open(tmp_path)


def test_an_unverified_bundle_still_has_its_files(bundle: Bundle) -> None:
    (bundle.path / "text.onnx").unlink()
    with pytest.raises(BundleCorrupt, match=r"^text\.onnx is missing"):
        Bundle.open(bundle.path, verify=False)


def test_nothing_is_overwritten_unless_forced(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleExists, match="exists already"):
        write_bundle(bundle.path, manifest_of(name="second"), FILES)
    assert Bundle.open(bundle.path) == bundle
    write_bundle(bundle.path, manifest_of(name="second"), FILES, force=True)
    assert Bundle.open(bundle.path).manifest.name == "second"
    assert [place.name for place in tmp_path.iterdir()] == ["hand-made"]


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_bundle(photos, manifest_of(), FILES)  # an empty folder is free
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    link = tmp_path / "link"
    link.symlink_to(photos)
    for place in (mine, mine / "diary.txt", link):
        with pytest.raises(BundleExists, match="is not a bundle; it is not replaced"):
            write_bundle(place, manifest_of(), FILES, force=True)
    assert (mine / "diary.txt").read_text() == "dear diary"


def test_a_failure_leaves_nothing(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path / "new", manifest_of(), {**FILES, "extra.bin": tmp_path / "absent"})
    assert [place.name for place in tmp_path.iterdir()] == ["hand-made"]

    def refuse(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "_sync_folder", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(bundle.path, manifest_of(name="second"), FILES, force=True)
    assert [place.name for place in tmp_path.iterdir()] == ["hand-made"]
    assert Bundle.open(bundle.path) == bundle


def test_a_failed_swap_puts_the_old_one_back(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError("the disk went away")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="the disk went away"):
        write_bundle(bundle.path, manifest_of(name="second"), FILES, force=True)
    assert [place.name for place in tmp_path.iterdir()] == ["hand-made"]
    assert Bundle.open(bundle.path) == bundle


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"image.onnx": b""}, "'text.onnx', which is not among the files given"),
        ({**FILES, MANIFEST: b"{}"}, "'manifest.json' is written by write_bundle itself"),
        ({**FILES, "../out": b""}, "'../out' is not a plain file name"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_bundle(tmp_path / "wrong", manifest_of(), files)
    assert list(tmp_path.iterdir()) == []
