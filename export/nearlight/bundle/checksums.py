"""Digests of a bundle's files, and the identity of the vector space they make together."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from nearlight.bundle.errors import BundleCorrupt
from nearlight.bundle.manifest import FILE_NAME, Towers

SUMS = "SHA256SUMS"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(FILE_NAME)


def file_digest(file: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def is_file_name(name: str) -> bool:
    """Whether `name` is a bare file name that cannot lead out of its folder."""
    return _PLAIN.fullmatch(name) is not None


def parse_sums(content: bytes) -> dict[str, str]:
    """File name to digest, from the content of SHA256SUMS.

    Raises:
        BundleCorrupt: A line is not a digest and a plain file name, or names a file twice.
    """
    sums = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        digest, separator, name = line.partition("  ")
        if not separator or not _DIGEST.fullmatch(digest) or not is_file_name(name) or name in sums:
            raise BundleCorrupt(f"{SUMS} line {number} is not `<sha256>  <file name>`: {line[:100]!r}")
        sums[name] = digest
    return sums


def compute_space_id(dim: int, towers: Towers, digests: Mapping[str, str]) -> str:
    """The identity of a vector space: SHA-256 over all that decides a vector, as 64 hex digits.

    Pooling, scaling of the channels and L2 normalisation live in the graphs, hence in their digests. What
    leaves vectors as they are (names, metrics, whether padding may be trimmed) does not count.

    Args:
        dim: Length of a vector.
        towers: Preprocessing and sequence.
        digests: SHA-256 in hex of every file that `towers` names.
    """
    parts: dict[str, object] = {
        "dim": dim,
        "normalisation": "l2",
        "image": {
            "graph": digests[towers.image.file],
            "preprocess": towers.image.preprocess.model_dump(mode="json", exclude_none=True),
        },
    }
    if towers.image.weights_file is not None:
        parts["image_weights"] = digests[towers.image.weights_file]
    if towers.text is not None:
        sequence = towers.text.model_dump(
            mode="json", exclude={"file", "weights_file", "tokenizer_file", "trimmable"}
        )
        if towers.text.weights_file is not None:
            parts["text_weights"] = digests[towers.text.weights_file]
        files = {"graph": digests[towers.text.file], "tokenizer": digests[towers.text.tokenizer_file]}
        parts["text"] = {**files, **sequence}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
