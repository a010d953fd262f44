"""The calibrations of collections, durable, in memory for every query.

They are kept as JSON with the space, under the collection's number, which is never given again. They are
derived: one that cannot be read is as if it were not there.
"""

import base64
import json
import logging
import sqlite3
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nearlight.store.errors import from_sqlite
from nearlight.store.points import F32
from nearlight.store.readers import Readers
from nearlight.store.relevance import F64, MAX_SAMPLE, Null, fit_null, sample
from nearlight.store.rows import Place
from nearlight.store.writer import Transaction, Writer

if TYPE_CHECKING:
    from nearlight.store.collection import Collection  # which reads and writes calibrations in snapshots

_log = logging.getLogger(__name__)

Nulls = Mapping[str, Null]
"""By modality: "text", "image"."""

NONE: Nulls = MappingProxyType({})
IMAGE_BANK = 200
BULK_SAMPLE = 500


class _Key(NamedTuple):
    """Of a collection in one of its spaces."""

    space_no: int
    collection_id: int


class Calibrations:
    """The calibrations of a store. `fit` blocks; any thread may call the methods.

    Args:
        writer: of the store.
        readers: of the store.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._by_collection: dict[_Key, Nulls] = {}
        self._samples: dict[tuple[_Key, str], tuple[F32, F64]] = {}
        self._load(readers)

    def get(self, collection: "Collection") -> Nulls:
        """The nulls of a collection by modality, none where it is not calibrated; only a look into memory."""
        return self._by_collection.get(_key(collection._place), NONE)

    def level(self, collection: "Collection", modality: str, query: F32) -> float:
        """What the best hit of a query is expected to have if nothing is meant; see `Null.level`.

        Args:
            collection: calibrated for it.
            modality: of the query.
            query: (D,) unit length.
        """
        null, key = self.get(collection)[modality], (_key(collection._place), modality)
        known = self._samples.get(key)
        if known is None:  # the first query since the start or the fit pays for it
            vectors = sample(collection._head.view, BULK_SAMPLE, seed=0)
            known = self._samples[key] = (vectors, null.centres(vectors))
        return null.level(query, *known)

    def fit(self, collection: "Collection", text_bank: F32 | None, seed: int = 0) -> Nulls:
        """Fit a collection's nulls to its vectors as they are now; they are durable on return.

        Args:
            collection: with at least 50 points.
            text_bank: (K, D) unit vectors of texts; None: no text queries.
            seed: of the points drawn: up to 10,000, and of them up to 200 as the bank of image queries.

        Raises:
            InvalidQuery: too few points.
        """
        vectors = sample(collection._head.view, MAX_SAMPLE, seed)
        n_bank = min(IMAGE_BANK, max(len(vectors) // 2, 1))
        nulls = {"image": fit_null(vectors[:: max(len(vectors) // n_bank, 1)][:n_bank], vectors)}
        if text_bank is not None:
            nulls["text"] = fit_null(text_bank, vectors)
        place = collection._place
        document = {modality: _document(null) for modality, null in nulls.items()}

        def write(transaction: Transaction) -> None:
            collection._check_here()
            self.keep(transaction, place, document)

        self._writer.run(write, lambda _: self.show(place, MappingProxyType(nulls)))
        return self.get(collection)

    def keep(self, transaction: Transaction, place: Place, document: Mapping[str, Any]) -> None:
        """Write a collection's calibration; `show` comes after the commit."""
        _keep(transaction.connection, place, document)

    def show(self, place: Place, nulls: Nulls) -> None:
        """From now on hits are judged by it."""
        self._by_collection[_key(place)] = nulls
        for modality in ("text", "image"):
            self._samples.pop((_key(place), modality), None)

    def _load(self, readers: Readers) -> None:
        try:
            with readers.snapshot() as connection:
                texts = connection.execute(
                    "SELECT space_no, calibration FROM spaces WHERE calibration <> '{}'"
                ).fetchall()
        except sqlite3.Error as error:
            raise from_sqlite(error) from error
        for space_no, text in texts:
            try:
                for number, document in kept_in(text).items():
                    key = _Key(space_no, int(number))
                    self._by_collection[key] = nulls_of(document)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                _log.warning("a calibration cannot be read and is left out; calibrate again: %s", error)


def _key(place: Place) -> _Key:
    return _Key(place.space_no, place.collection_id)


def kept_in(text: str) -> dict[str, Any]:
    """The calibrations in the column of a space, by the collection's number.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    document = json.loads(text)
    kept: dict[str, Any] = dict(document.get("collections", {}))
    if document.get("checksum", _checksum(kept)) != _checksum(kept):  # an older store wrote none
        raise ValueError("it is not what was written")
    return kept


def _checksum(kept: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(kept).encode())


def nulls_of(document: Mapping[str, Any]) -> Nulls:
    """The nulls of a stored calibration.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    return MappingProxyType({modality: _null(one) for modality, one in document.items()})


def _keep(connection: sqlite3.Connection, place: Place, document: Mapping[str, Any]) -> None:
    """Write one collection's calibration, and forget those of collections that are gone."""
    (text,) = connection.execute(
        "SELECT calibration FROM spaces WHERE space_no = ?", (place.space_no,)
    ).fetchone()
    try:
        kept = kept_in(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        kept = {}  # damaged: it was left out when the store was opened
    living = {
        str(number)
        for (number,) in connection.execute("SELECT collection_id FROM collections WHERE name <> ''")
    }
    kept = {number: one for number, one in kept.items() if number in living}
    kept[str(place.collection_id)] = dict(document)
    connection.execute(
        "UPDATE spaces SET calibration = ? WHERE space_no = ?",
        (json.dumps({"collections": kept, "checksum": _checksum(kept)}), place.space_no),
    )


def _document(null: Null) -> dict[str, Any]:
    return {
        "weights": null.weights.tolist(),
        "location": null.location,
        "scale": null.scale,
        "growth": null.growth,
        "n_points": null.n_points,
        "midpoint": null.midpoint,
        "dim": null.bank.shape[1],
        "bank": base64.b64encode(null.bank.astype("<f4").tobytes()).decode(),
    }


def _null(document: dict[str, Any]) -> Null:
    """Raises ValueError, KeyError or TypeError where it is damaged."""
    bank = np.frombuffer(base64.b64decode(document["bank"], validate=True), "<f4")
    weights = np.array(document["weights"], np.float64)
    numbers = [float(document[name]) for name in ("location", "scale", "growth", "midpoint")]
    location, scale, growth, midpoint = numbers
    n_points = int(document["n_points"])
    is_sound = np.isfinite(numbers).all() and np.isfinite(weights).all() and weights.shape == (3,)
    if not (is_sound and scale > 0 and n_points > 0):
        raise ValueError("a number is out of range")
    rows = bank.reshape(-1, document["dim"]).astype(np.float32)  # (K, D)
    return Null(rows, weights, location, scale, growth, n_points, midpoint)
