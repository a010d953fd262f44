r"""An index file: what it covers and what was measured of it, the seqs of its rows, and FAISS's own bytes.

```
NLINDEX\0 · version u32 · length of the header u32 · header (JSON) · seqs int64 · FAISS index
```

Little-endian. The database keeps the SHA-256 of the whole file: nothing of a file is given to FAISS before it
is known to be what the store's own builder wrote.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from nearlight.store.errors import IndexFileBad
from nearlight.store.points import I64

MAGIC = b"NLINDEX\0"
VERSION = 1
_LEAD = struct.Struct("<8sII")
_MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Header:
    """What an index file says of itself.

    Attributes:
        collection_id: whose vectors it holds.
        space_no: and of which space.
        dim: D.
        up_to_seq: it covers every vector with a seq up to this.
        n_rows: vectors in it.
        kind: "hnsw" or "ivf".
        tuning: see `Tuning.to_json`.
    """

    collection_id: int
    space_no: int
    dim: int
    up_to_seq: int
    n_rows: int
    kind: str
    tuning: list[dict[str, Any]]


def write_index_file(path: Path, header: Header, seqs: I64, index: faiss.Index) -> bytes:
    """Write a new file and bring it to the disk; returns its SHA-256.

    Raises:
        OSError: no room on the disk, or it failed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        sink = _Sink(descriptor)
        text = json.dumps({name: getattr(header, name) for name in Header.__slots__}).encode()
        sink.write(_LEAD.pack(MAGIC, VERSION, len(text)) + text)
        sink.write(np.ascontiguousarray(seqs, "<i8").tobytes())
        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(sink.write))  # type: ignore[attr-defined]
        except Exception:
            if sink.error is not None:  # FAISS says only that a write failed
                raise sink.error from None
            raise
        os.fsync(descriptor)
        return sink.digest.digest()
    finally:
        os.close(descriptor)


def read_index_file(path: Path, sha256: bytes) -> tuple[Header, I64, faiss.Index]:
    """Read a file once its checksum holds.

    Raises:
        IndexFileBad: it is missing, not what was written, or of a version that this Nearlight does not read.
    """
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != sha256:
                raise IndexFileBad(f"{path.name} is not what was written")
            file.seek(0)
            header = _read_header(file, path.name)
            seqs = np.frombuffer(file.read(8 * header.n_rows), "<i8").astype(np.int64)  # (N,)
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined]
    except OSError as error:
        raise IndexFileBad(f"{path.name} cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:  # FAISS's
        raise IndexFileBad(f"{path.name} is not an index that this FAISS reads: {error}") from error
    if not len(seqs) == header.n_rows == index.ntotal or index.d != header.dim:
        raise IndexFileBad(f"{path.name} holds {index.ntotal} rows of {index.d}, its header says otherwise")
    return header, seqs, index


def _read_header(file: BinaryIO, name: str) -> Header:
    lead = file.read(_LEAD.size)
    if len(lead) < _LEAD.size or not lead.startswith(MAGIC):
        raise IndexFileBad(f"{name} is not an index file of Nearlight")
    _, version, n_bytes = _LEAD.unpack(lead)
    if version > VERSION:
        raise IndexFileBad(f"{name} has version {version}; this Nearlight reads up to {VERSION}")
    if n_bytes > _MAX_HEADER_BYTES:
        raise IndexFileBad(f"{name} has a header of {n_bytes} bytes; the limit is {_MAX_HEADER_BYTES}")
    try:
        document = json.loads(file.read(n_bytes))
        return Header(**{key: document[key] for key in Header.__slots__})
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFileBad(f"{name} has a header that cannot be read: {error}") from error


class _Sink:
    """Writes all it is given, and keeps the error that FAISS swallows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while len(left):
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self.error = error
            raise
        self.digest.update(content)
