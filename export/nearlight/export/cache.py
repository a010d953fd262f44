"""Exports done before, by the content of what they were made of: the second one is a copy.

A folder of bundles, `$NEARLIGHT_CACHE`, else `$XDG_CACHE_HOME/nearlight`, else `~/.cache/nearlight`, in
`exports/KEY`. The key is a hash of the weights, of all that a manifest says of their inputs, of the samples
that parity is proven on, and of the versions of the libraries that write graphs. It may be deleted at any
time.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import JsonValue

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle, copy_bundle
from nearlight.export.samples import Samples
from nearlight.export.subject import Subject

ENVIRONMENT = "NEARLIGHT_CACHE"

_CONVERSION = 1  # to be raised whenever the same model becomes another graph
_LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "open_clip_torch",
    "timm",
    "transformers",
    "tokenizers",
)
_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the user's own exports; it need not exist."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named) / "exports"
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "nearlight" / "exports"


def key_of(subject: Subject, samples: Samples, settings: Mapping[str, JsonValue]) -> str:
    """The hash of all that decides a bundle's graphs and what is proven of them; 64 hex digits.

    Args:
        subject: The model.
        samples: What parity is proven on.
        settings: Precision and the targets it must keep to.
    """
    seen = hashlib.sha256(samples.pixels.tobytes())
    seen.update(json.dumps([list(samples.texts), list(samples.labels), list(samples.pairs)]).encode())
    parts = {
        "conversion": _CONVERSION,
        "versions": {name: _version(name) for name in (*_LIBRARIES, *_RUNTIMES)},
        "machine": platform.machine(),
        "model": subject.encoders.digest(),
        "image": subject.image.model_dump(mode="json"),
        "text": subject.text.model_dump(mode="json") if subject.text else None,
        "tokenizer": hashlib.sha256((subject.tokenizer_json or "").encode()).hexdigest(),
        "scoring": subject.scoring.model_dump(mode="json") if subject.scoring else None,
        "samples": [samples.origin, list(samples.pixels.shape), seen.hexdigest()],
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find(cache: Path, key: str) -> Bundle | None:
    """The bundle of a key, verified; a damaged one is thrown away."""
    place = cache / key
    if not place.is_dir():
        return None
    try:
        return Bundle.open(place)
    except BundleError as error:
        _log.warning("the cached export is damaged and made anew: %s", error)
        shutil.rmtree(place, ignore_errors=True)
        return None


def keep(cache: Path, key: str, bundle: Bundle) -> None:
    """Copy a finished bundle into the cache; a disk that refuses costs the cache, not the export."""
    try:
        copy_bundle(bundle, cache / key)
    except (BundleError, OSError) as error:
        _log.warning("the export is not cached: %s", error)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
