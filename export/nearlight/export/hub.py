"""Downloads through huggingface_hub: pinned to a commit, no pickle unless it is trusted."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nearlight.bundle.errors import BundleError
from nearlight.bundle.remote import REMOTE, parse
from nearlight.export.errors import SourceError

_SETTINGS = ("*.json", "visual/*.json", "textual/*.json")
_TOKENIZER = ("tokenizer*.json", "special_tokens_map.json")
# One of each graph: repositories for the browser hold a dozen of other precisions beside them.
_GRAPHS = tuple(
    f"{folder}{name}.onnx{data}"
    for folder, names in (
        ("", ("vision_model", "text_model", "model", "visual", "textual")),
        ("onnx/", ("vision_model", "text_model", "model")),
        ("visual/", ("model",)),
        ("textual/", ("model",)),
    )
    for name in names
    for data in ("", "_data", ".data")
)
_SAFE = ("*.safetensors",)
_PICKLES = ("*.bin", "*.pt", "*.pth")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository as it stood at one commit; `folder` is gone when the export has read it."""

    repo: str
    commit: str
    folder: Path


@contextmanager
def fetched_repository(source: str, *, trust_pickle: bool) -> Iterator[Fetched]:
    """The files of `hf:REPO[@REVISION]` that a model can be made of, as plain files.

    Raises:
        SourceError: It is misspelt or cannot be downloaded.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        repo, revision = parse(source)
    except BundleError as error:
        raise SourceError(str(error)) from error
    weights = (*_SAFE, *_PICKLES) if trust_pickle else _SAFE
    try:
        commit = str(HfApi().model_info(repo, revision=revision).sha)
        _log.info("downloading %s at %s", repo, commit[:12])
        cached = snapshot_download(repo, revision=commit, allow_patterns=[*_SETTINGS, *_GRAPHS, *weights])
    except Exception as error:  # httpx, OSError and the hub's own
        raise SourceError(f"{source} cannot be downloaded: {_one_line(error)}") from error
    with tempfile.TemporaryDirectory(prefix="nearlight-hf-") as scratch:
        folder = Path(scratch) / repo.partition("/")[2]
        shutil.copytree(cached, folder)  # the cache holds links, which graphs may not keep their weights in
        yield Fetched(repo, commit, folder)


def fetch_tokenizer(repo: str) -> Path:
    """The folder that holds the tokenizer files of a repository on the hub.

    Raises:
        SourceError: It cannot be downloaded; says what to give instead.
    """
    from huggingface_hub import snapshot_download

    _log.info("downloading the tokenizer of %s", repo)
    try:
        return Path(snapshot_download(repo, allow_patterns=list(_TOKENIZER)))
    except Exception as error:  # httpx, OSError and the hub's own
        raise SourceError(
            f"the tokenizer of {repo!r} cannot be downloaded; give its folder with --tokenizer"
            f" ({_one_line(error)})"
        ) from error


def is_remote(source: str) -> bool:
    """Whether a SOURCE is on the hub."""
    return source.startswith(REMOTE)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
