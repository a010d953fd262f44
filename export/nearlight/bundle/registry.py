"""Bundles by name: those in the user's own library, and those that came with the package.

The library is a folder, `$NEARLIGHT_BUNDLES`, else `$XDG_DATA_HOME/nearlight/bundles`, else
`~/.local/share/nearlight/bundles`. It holds NAME/VERSION/ with a bundle in each. A version is the beginning
of the SHA-256 of the bundle's SHA256SUMS: the same bundle is the same version everywhere, and is kept once.
"""

import hashlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from nearlight.bundle.checksums import SUMS
from nearlight.bundle.errors import BundleError, BundleExists, NotABundle
from nearlight.bundle.folder import MANIFEST, Bundle, copy_bundle
from nearlight.bundle.manifest import FILE_NAME

DEFAULT_BUNDLE = "nearlight-tiny"
MODELS = Path(__file__).parent / "models"
ENVIRONMENT = "NEARLIGHT_BUNDLES"

_NAME = re.compile(FILE_NAME)
_VERSION = re.compile(r"[0-9a-f]{12}")
_LEAST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle of the library; `created` is its manifest's, in UTC, empty where it cannot be read."""

    name: str
    version: str
    path: Path
    created: str


def library() -> Path:
    """The folder of the user's own bundles; it need not exist."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "nearlight" / "bundles"


def packaged_bundles() -> list[Path]:
    """The folders of the bundles that came with the package, in the order of their names."""
    if not MODELS.is_dir():
        return []
    return sorted(folder for folder in MODELS.iterdir() if (folder / "manifest.json").is_file())


def entries(name: str | None = None) -> list[Entry]:
    """What the library holds, by name and then newest first; of one name, if given."""
    root = library()
    if not root.is_dir():
        return []
    found = [
        Entry(place.parent.name, place.name, place, _created(place))
        for place in root.glob("*/*")
        if _NAME.match(place.parent.name) and _VERSION.fullmatch(place.name) and (place / MANIFEST).is_file()
    ]
    newest = sorted(found, key=lambda entry: (entry.created, entry.version), reverse=True)
    return sorted((e for e in newest if name in (None, e.name)), key=lambda entry: entry.name)


def find_bundle(name_or_path: str | Path | None = None) -> Path:
    """The folder of a bundle: an existing folder, NAME or NAME@VERSION of the library, or a packaged one.

    The first that there is. Without a version the newest is meant. None is the default bundle. What is inside
    is not looked at; `Bundle.open` does.

    Raises:
        NotABundle: Neither a folder nor a name; says which names there are.
    """
    wanted = DEFAULT_BUNDLE if name_or_path is None else str(name_or_path)
    if name_or_path is not None and wanted and Path(wanted).is_dir():
        return Path(wanted)
    own = matching(wanted)
    if own:
        return own[0].path
    packaged = {folder.name: folder for folder in packaged_bundles()}
    if wanted in packaged:
        return packaged[wanted]
    known = sorted({entry.name for entry in entries()} | packaged.keys())
    raise NotABundle(
        f"no bundle {wanted!r}: neither a folder nor a name of the library or the package"
        f" (these are: {', '.join(known) or 'none'})"
    )


def matching(wanted: str) -> list[Entry]:
    """Entries of NAME, or of NAME@VERSION with at least four digits of the version; newest first.

    Raises:
        NotABundle: A version that is too short, or that names no bundle or several.
    """
    name, at, version = wanted.partition("@")
    if not _NAME.match(name):
        return []
    found = entries(name)
    if not at:
        return found
    hits = [entry for entry in found if entry.version.startswith(version)]
    if len(version) < _LEAST_PREFIX or len(hits) != 1:
        raise NotABundle(
            f"{wanted!r} names {len(hits)} bundles by a version of {len(version)} digits; it must name one,"
            f" with {_LEAST_PREFIX} digits or more"
            f" (versions: {', '.join(entry.version for entry in found) or 'none'})"
        )
    return hits


def version_of(bundle: Path) -> str:
    """The version of a bundle: 12 hex digits."""
    return hashlib.sha256((bundle / SUMS).read_bytes()).hexdigest()[:12]


def add(source: Path, name: str | None = None) -> Entry:
    """Copy a bundle into the library, verified before and after; a bundle that is there already stays.

    Args:
        source: Folder of a bundle.
        name: Its name in the library; None takes the manifest's.

    Raises:
        BundleError: The source is not a bundle or is damaged, or the name is not a plain one.
        OSError: The disk refuses; nothing is left behind.
    """
    bundle = Bundle.open(source)
    name = bundle.manifest.name if name is None else name
    if not _NAME.match(name):
        raise BundleError(f"{name!r} is not a name: letters, digits, `.`, `_` and `-`, 128 at most")
    place = library() / name / version_of(source)
    try:
        copy_bundle(bundle, place)
    except BundleExists:
        Bundle.open(place)
    return Entry(name, place.name, place, bundle.manifest.created)


def remove(entry: Entry) -> None:
    """Take a bundle out of the library; a server that has it open keeps running.

    Raises:
        OSError: The disk refuses.
    """
    grave = entry.path.parent / f".{entry.version}.{secrets.token_hex(6)}.tmp"
    entry.path.rename(grave)  # at once, so that nobody opens half a bundle
    shutil.rmtree(grave)
    if not any(entry.path.parent.iterdir()):
        entry.path.parent.rmdir()


def _created(place: Path) -> str:
    try:
        return Bundle.open(place, verify=False).manifest.created
    except BundleError:
        return ""
