"""Bundles on the Hugging Face hub: pulled file by file, verified, never run; pushed as they are."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import MANIFEST, Bundle

REMOTE = "hf:"

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def fetched(source: str) -> Iterator[Path]:
    """A temporary folder with the bundle that `hf:REPO[@REVISION]` names.

    Raises:
        BundleError: It is misspelt, cannot be downloaded, or the hub's client is not installed.
    """
    repo, revision = parse(source)
    hub = _hub()
    with tempfile.TemporaryDirectory(prefix="nearlight-pull-") as scratch:
        folder = Path(scratch) / "bundle"
        try:
            hub.snapshot_download(repo, revision=revision, local_dir=folder, ignore_patterns=[".git*", "*/*"])
        except Exception as error:  # httpx, OSError and the hub's own
            raise BundleError(f"{source} cannot be downloaded: {_one_line(error)}") from error
        # What the hub adds of its own is not part of the bundle.
        for extra in [place for place in folder.glob(".*") if not place.is_symlink()]:
            _drop(extra)
        if not (folder / MANIFEST).is_file():
            raise BundleError(
                f"{source} is not a bundle: it has no {MANIFEST}; `nearlight export` makes one of it"
            )
        yield folder


def upload(bundle: Bundle, target: str) -> str:
    """Upload a bundle to `hf:REPO`; the address of the commit.

    Raises:
        BundleError: It is misspelt, the hub refuses, or the hub's client is not installed.
    """
    repo, revision = parse(target)
    hub = _hub()
    try:
        api = hub.HfApi()
        api.create_repo(repo, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            revision=revision,
            folder_path=str(bundle.path),
            commit_message=f"Nearlight bundle {bundle.manifest.name}, space {bundle.manifest.space_id[:12]}",
        )
    except Exception as error:
        raise BundleError(f"{target} refuses the bundle: {_one_line(error)}") from error
    return str(commit)


def parse(source: str) -> tuple[str, str | None]:
    """Repository and revision of `hf:REPO[@REVISION]`.

    Raises:
        BundleError: It is not of this form.
    """
    repo, _, revision = source.removeprefix(REMOTE).partition("@")
    if not source.startswith(REMOTE) or not _REPO.fullmatch(repo):
        raise BundleError(f"{source!r} is not hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return repo, revision or None


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise BundleError(
            "huggingface_hub is missing; install it with: pip install huggingface_hub"
        ) from error
    return huggingface_hub


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _drop(place: Path) -> None:
    import shutil

    shutil.rmtree(place) if place.is_dir() else place.unlink()
