"""Label sets: labels, templates and their calibration under a name, durable like points.

A set is bound to one space, that of the model it was put for: a calibration means nothing in another.
"""

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, TypeVar

import numpy as np

from nearlight.store.errors import (
    InvalidLabelSet,
    LabelSetExists,
    LabelSetNotFound,
    StoreCorrupt,
    from_sqlite,
    shown,
)
from nearlight.store.points import F32
from nearlight.store.readers import Readers
from nearlight.store.sealing import is_sound
from nearlight.store.spaces import space_no
from nearlight.store.writer import Transaction, Writer

T = TypeVar("T")
MAX_NAME_CHARS = 128
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DIGEST_BYTES = 32
_PROTOTYPES = "SELECT prototypes FROM label_sets"
_COLUMNS = f"""
SELECT name, space_id, dim, labels, label_sets.calibration, label_sets.created_unix_ms,
  {is_sound("label_sets")} AND {is_sound("spaces")}
FROM label_sets JOIN spaces USING (space_no)
"""  # noqa: S608 - of constants alone


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name, and the words that stand for it (none: the name itself)."""

    name: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become honest probabilities: those of logit / temperature + bias.

    Attributes:
        temperature: > 0.
        bias: 0 for softmax models.
        ece_before: expected calibration error on the images held out, 0 to 1.
        ece_after: the same with this calibration.
        images: fitted on.
        held_out_images: measured on.
    """

    temperature: float
    bias: float = 0.0
    ece_before: float = 0.0
    ece_after: float = 0.0
    images: int = 0
    held_out_images: int = 0


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels under a name.

    Attributes:
        name: 1 to 128 of A-Z a-z 0-9 . _ -.
        space_id: space of the model it was put for.
        dim: of that space.
        labels: at least one, names unique.
        templates: each with a {}; none: the default ones.
        model: the model it is meant for; "": any.
        min_probability: below it an image is reported as abstained, 0 to 1.
        calibration: of this space; None: as trained.
        updated_unix_ms: when it was put, milliseconds since 1970 UTC; set by the store.
    """

    name: str
    space_id: str
    dim: int
    labels: tuple[Label, ...]
    templates: tuple[str, ...] = ()
    model: str = ""
    min_probability: float = 0.0
    calibration: Calibration | None = None
    updated_unix_ms: int = 0


class LabelSets:
    """The label sets of a store. All methods block and may be called from any thread.

    Args:
        writer: of the store.
        readers: of the store.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    def put(self, wanted: LabelSet, *, only_if_absent: bool = False) -> LabelSet:
        """Store a set, in place of one of the same name; it is durable on return.

        Returns:
            The set as stored, with its time.

        Raises:
            InvalidLabelSet: names the field, the value and the limit.
            LabelSetExists: `only_if_absent`, and the name is taken.
            WrongSpace: the space is known with another dim.
        """
        _check(wanted)
        stored = replace(wanted, updated_unix_ms=time.time_ns() // 1_000_000)

        def write(transaction: Transaction) -> LabelSet:
            run = transaction.connection.execute
            space = space_no(transaction.connection, stored.space_id, stored.dim, stored.updated_unix_ms)
            if only_if_absent and run("SELECT 1 FROM label_sets WHERE name = ?", (stored.name,)).fetchone():
                raise LabelSetExists(f"label set {stored.name!r} exists already")
            run("DELETE FROM label_sets WHERE name = ?", (stored.name,))
            statement = (
                "INSERT INTO label_sets (name, space_no, labels, calibration, created_unix_ms) "
                "VALUES (?, ?, ?, ?, ?)"
            )
            run(statement, (stored.name, space, *_texts(stored), stored.updated_unix_ms))
            return stored

        return self._writer.run(write, _nothing_to_publish)

    def get(self, name: str) -> LabelSet:
        """The set of this name.

        Raises:
            LabelSetNotFound: there is none.
        """

        def read(connection: sqlite3.Connection) -> LabelSet:
            row = connection.execute(f"{_COLUMNS} WHERE label_sets.name = ?", (name,)).fetchone()
            if row is None:
                raise LabelSetNotFound(f"there is no label set {shown(name)}")
            return _label_set(row)

        return self._read(read)

    def prototypes(self, of: LabelSet, key: bytes) -> F32 | None:
        """The label vectors (L, D) kept with a set, where they are those of this key.

        Args:
            of: the set as it was read.
            key: 32 bytes, of all that the vectors depend on.
        """
        select = f"{_PROTOTYPES} WHERE name = ? AND label_sets.created_unix_ms = ?"
        row = self._read(lambda c: c.execute(select, (of.name, of.updated_unix_ms)).fetchone())
        blob = row[0] if row else None
        n_bytes = 4 * len(of.labels) * of.dim
        if blob is None or len(blob) != 2 * _DIGEST_BYTES + n_bytes or blob[:_DIGEST_BYTES] != key:
            return None
        numbers = blob[2 * _DIGEST_BYTES :]
        if hashlib.sha256(numbers).digest() != blob[_DIGEST_BYTES : 2 * _DIGEST_BYTES]:
            return None  # damaged: they are derived, and made again
        return np.frombuffer(numbers, "<f4").reshape(-1, of.dim).astype(np.float32)

    def keep_prototypes(self, of: LabelSet, key: bytes, prototypes: F32) -> None:
        """Keep label vectors with a set, unless another took its name meanwhile; see `prototypes`."""
        numbers = prototypes.astype("<f4").tobytes()
        blob = key + hashlib.sha256(numbers).digest() + numbers

        def write(transaction: Transaction) -> None:
            statement = "UPDATE label_sets SET prototypes = ? WHERE name = ? AND created_unix_ms = ?"
            transaction.connection.execute(statement, (blob, of.name, of.updated_unix_ms))

        self._writer.run(write, _nothing_to_publish)

    def page(self, after: str, limit: int) -> list[LabelSet]:
        """Up to `limit` sets whose names come after `after` ("": from the first), by name."""
        statement = f"{_COLUMNS} WHERE label_sets.name > ? ORDER BY label_sets.name LIMIT ?"
        return self._read(lambda c: [_label_set(row) for row in c.execute(statement, (after, limit))])

    def delete(self, name: str) -> None:
        """Delete the set of this name; that is durable on return.

        Raises:
            LabelSetNotFound: there is none.
        """

        def write(transaction: Transaction) -> None:
            deleted = transaction.connection.execute("DELETE FROM label_sets WHERE name = ?", (name,))
            if not deleted.rowcount:
                raise LabelSetNotFound(f"there is no label set {shown(name)}")

        self._writer.run(write, _nothing_to_publish)

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with self._readers.snapshot() as connection:
            try:
                return read(connection)
            except sqlite3.Error as error:
                raise from_sqlite(error) from error


def _nothing_to_publish(_: object) -> None:
    """Readers go to the database: a set is small, and Classify reads one per call."""


def _texts(stored: LabelSet) -> tuple[str, str]:
    """Columns `labels` and `calibration`.

    Raises:
        InvalidLabelSet: a text that is not valid Unicode.
    """
    labels = {
        "labels": [[label.name, *label.words] for label in stored.labels],
        "templates": stored.templates,
        "model": stored.model,
        "min_probability": stored.min_probability,
    }
    calibration = asdict(stored.calibration) if stored.calibration else {}
    return json.dumps(labels, ensure_ascii=False, allow_nan=False), json.dumps(calibration, allow_nan=False)


def _label_set(row: tuple[Any, ...]) -> LabelSet:
    name, space_id, dim, labels_text, calibration_text, updated_unix_ms, is_whole = row
    if not is_whole:
        raise StoreCorrupt(f"label set {shown(name)} is damaged: it is not what was written")
    try:
        document, calibration = json.loads(labels_text), json.loads(calibration_text)
        return LabelSet(
            name=name,
            space_id=space_id,
            dim=dim,
            labels=tuple(Label(first, tuple(words)) for first, *words in document["labels"]),
            templates=tuple(document["templates"]),
            model=document["model"],
            min_probability=document["min_probability"],
            calibration=Calibration(**calibration) if calibration else None,
            updated_unix_ms=updated_unix_ms,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"label set {shown(name)} is damaged: {error}") from error


def _check(wanted: LabelSet) -> None:
    if not _NAME.fullmatch(wanted.name):
        limit = f"it must be 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 . _ -"
        raise InvalidLabelSet("label_set.name", shown(wanted.name), limit)
    if not wanted.labels:
        raise InvalidLabelSet("label_set.labels", "empty", "it must hold at least 1")
    if len({label.name for label in wanted.labels}) < len(wanted.labels):
        raise InvalidLabelSet("label_set.labels", "a list with a name in it twice", "names are unique")
    _check_range("min_probability", wanted.min_probability, 0, 1)
    if wanted.calibration is not None:
        one = wanted.calibration
        if not (isfinite(one.temperature) and one.temperature > 0):
            limit = "it must be finite and above 0"
            raise InvalidLabelSet("label_set.calibration.temperature", str(one.temperature), limit)
        if not isfinite(one.bias):
            raise InvalidLabelSet("label_set.calibration.bias", str(one.bias), "it must be finite")
        _check_range("calibration.ece_before", one.ece_before, 0, 1)
        _check_range("calibration.ece_after", one.ece_after, 0, 1)
    try:
        "".join(
            (*wanted.templates, wanted.model, *(w for x in wanted.labels for w in (x.name, *x.words)))
        ).encode()
    except UnicodeEncodeError:
        raise InvalidLabelSet(
            "label_set.labels", "not valid Unicode", "a lone surrogate cannot be stored"
        ) from None


def _check_range(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # refuses NaN too
        raise InvalidLabelSet(f"label_set.{field}", str(value), f"the limit is {least} to {most}")
