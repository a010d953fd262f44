"""A bundle on disk: written whole or not at all, believed only after its checksums agree.

    manifest.json  image.onnx  [text.onnx  tokenizer.json]  [golden.npz]  [README.md]  SHA256SUMS

`SHA256SUMS` covers every other file, in the format of `sha256sum -c`. The folder holds plain files only: no
subfolders, no links, nothing that the sums do not name.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nearlight.bundle.checksums import SUMS, compute_space_id, file_digest, is_file_name, parse_sums
from nearlight.bundle.errors import BundleCorrupt, BundleError, BundleExists, NotABundle
from nearlight.bundle.manifest import Manifest
from nearlight.bundle.text import Tokenizer

MANIFEST = "manifest.json"
MODEL_CARD = "README.md"

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> "Bundle":
        """The bundle in folder `path`.

        Args:
            path: The folder.
            verify: Read every file and compare it with its checksum, and the whole with its space id.
                Without, only the manifest is read and its files must exist: for bundles verified before.

        Raises:
            NotABundle: No such folder, or one without manifest.json.
            BundleTooNew: Written in a newer format.
            BundleCorrupt: A file is missing, extra, altered, truncated or a link; names it.
        """
        path = Path(path)
        if not path.is_dir():
            raise NotABundle(
                f"no bundle at {path}: {'it is not a folder' if path.exists() else 'no such folder'}"
            )
        if not os.path.lexists(path / MANIFEST):
            raise NotABundle(f"no bundle at {path}: the folder has no {MANIFEST}")
        manifest = Manifest.from_json(_read_manifest(path))
        for name in _required(manifest):
            _require_plain(path, name)
        if verify:
            _verify(path, manifest)
        return cls(path, manifest)

    @property
    def image_path(self) -> Path:
        """The image graph."""
        return self.path / self.manifest.towers.image.file

    @property
    def text_path(self) -> Path | None:
        """The text graph; None for an image-only bundle."""
        return self.path / self.manifest.towers.text.file if self.manifest.towers.text else None

    @property
    def files(self) -> list[Path]:
        """All files, in the order of their names."""
        return sorted(self.path.iterdir())

    def tokenizer(self) -> Tokenizer:
        """A new tokenizer; loading takes up to a second, keep it.

        Raises:
            BundleError: The bundle has no text tower.
        """
        text = self.manifest.towers.text
        if text is None:
            raise BundleError(f"bundle {self.manifest.name!r} has no text tower: it takes images only")
        return Tokenizer.load(self.path / text.tokenizer_file, text)


def write_bundle(
    out: Path, manifest: Manifest, files: Mapping[str, bytes | Path], force: bool = False
) -> Bundle:
    """Write a bundle to folder `out`: complete, or not there at all.

    Args:
        out: The folder to make; missing parents are made.
        manifest: Its `space_id` is computed here; the one given does not count.
        files: Name to content, or to a file that is copied. All that the manifest names, and a model card.
        force: Replace a bundle that is already there; another kind of folder is never replaced.

    Raises:
        BundleExists: `out` is there already.
        ValueError: A file the manifest names is not given, or a name is not a plain file name.
        OSError: The disk refuses; nothing is left behind.
    """
    _check_names(manifest, files)
    refuse_existing(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.parent / f".{out.name}.{secrets.token_hex(6)}.tmp"
    fresh.mkdir()
    try:
        digests = {name: _write(fresh / name, content) for name, content in files.items()}
        space_id = compute_space_id(manifest.dim, manifest.towers, digests)
        sealed = manifest.model_copy(update={"space_id": space_id})
        digests[MANIFEST] = _write(fresh / MANIFEST, sealed.to_json().encode())
        sums = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
        _write(fresh / SUMS, sums.encode())
        _sync_folder(fresh)
        _put_in_place(fresh, out, force)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Bundle(out, sealed)


def copy_bundle(bundle: Bundle, out: Path) -> Bundle:
    """Copy a bundle to folder `out`, byte for byte: complete and verified, or not there at all.

    Raises:
        BundleExists: `out` is there already.
        BundleCorrupt: What arrived is not what was there.
        OSError: The disk refuses; nothing is left behind.
    """
    refuse_existing(out, force=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.parent / f".{out.name}.{secrets.token_hex(6)}.tmp"
    fresh.mkdir()
    try:
        for file in bundle.files:
            _write(fresh / file.name, file)
        _sync_folder(fresh)
        copied = Bundle.open(fresh)
        _put_in_place(fresh, out, force=False)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Bundle(out, copied.manifest)


def _read_manifest(path: Path) -> bytes:
    _require_plain(path, MANIFEST)
    size = (path / MANIFEST).stat().st_size
    if size > _MAX_MANIFEST_BYTES:
        raise BundleCorrupt(f"{MANIFEST} has {size} bytes; the limit is {_MAX_MANIFEST_BYTES}")
    return (path / MANIFEST).read_bytes()


def _required(manifest: Manifest) -> list[str]:
    image, text = manifest.towers.image, manifest.towers.text
    named = [image.file, image.weights_file, manifest.golden]
    if text is not None:
        named += [text.file, text.weights_file, text.tokenizer_file]
    return [name for name in named if name is not None]


def _require_plain(path: Path, name: str) -> None:
    file = path / name
    if file.is_symlink():
        raise BundleCorrupt(f"{name} is a link; a bundle holds plain files only")
    if not file.is_file():
        raise BundleCorrupt(f"{name} is {'not a plain file' if file.exists() else 'missing'}")


def _verify(path: Path, manifest: Manifest) -> None:
    """Compare what the folder holds with what its checksums say, then the whole with its space id."""
    _require_plain(path, SUMS)
    expected = parse_sums((path / SUMS).read_bytes())
    present = {file.name for file in path.iterdir()} - {SUMS}
    for name in sorted(expected.keys() | present):
        if name not in expected:
            raise BundleCorrupt(f"{name} is extra: {SUMS} does not name it")
        _require_plain(path, name)
        digest = file_digest(path / name)
        if digest != expected[name]:
            raise BundleCorrupt(
                f"{name} is altered or truncated:"
                f" its SHA-256 is {digest[:12]}…, {SUMS} says {expected[name][:12]}…"
            )
    unnamed = [name for name in _required(manifest) if name not in expected]
    if unnamed:
        raise BundleCorrupt(f"{unnamed[0]} is not named in {SUMS}")
    space_id = compute_space_id(manifest.dim, manifest.towers, expected)
    if space_id != manifest.space_id:
        raise BundleCorrupt(
            f"{MANIFEST} says space_id {manifest.space_id[:12]}…, its files make {space_id[:12]}…"
        )


def _check_names(manifest: Manifest, files: Iterable[str]) -> None:
    names = set(files)
    missing = [name for name in _required(manifest) if name not in names]
    if missing:
        raise ValueError(
            f"the manifest names {missing[0]!r}, which is not among the files given: {sorted(names)}"
        )
    reserved = names & {MANIFEST, SUMS}
    if reserved:
        raise ValueError(f"{sorted(reserved)[0]!r} is written by write_bundle itself")
    for name in names:
        if not is_file_name(name):
            raise ValueError(f"{name!r} is not a plain file name")


def refuse_existing(out: Path, force: bool) -> None:
    """Refuse a place that is taken: by a bundle unless `force`, by anything else always.

    Raises:
        BundleExists: Says which.
    """
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise BundleExists(f"{out} exists already; choose another place, or force to replace a bundle")
    if out.is_symlink() or not (out / MANIFEST).is_file():
        raise BundleExists(f"{out} exists already and is not a bundle; it is not replaced")


def _put_in_place(fresh: Path, out: Path, force: bool) -> None:
    refuse_existing(out, force)
    old = out.parent / f"{fresh.name}.old"
    if force and os.path.lexists(out):
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if os.path.lexists(old) and not os.path.lexists(out):
            old.rename(out)
        raise
    _sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(file: Path, content: bytes | Path) -> str:
    """Write and fsync one file; its SHA-256 in hex."""
    with file.open("xb") as target:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
        else:
            target.write(content)
        target.flush()
        os.fsync(target.fileno())
    return file_digest(file)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
