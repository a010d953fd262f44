"""Proof that what searches read is what the database holds, at one commit."""

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearlight.store.checksums import content_checksum, row_checksum
from nearlight.store.exact import Scanner, Span
from nearlight.store.filters.indexes import compare_values, count_rows, payload_indexes
from nearlight.store.ids import id_of
from nearlight.store.points import F32, I64, PayloadIndex
from nearlight.store.rows import ROW, VECTOR, Place
from nearlight.store.validation import vector_checksums
from nearlight.store.view import ReadView

MAX_PROBLEMS = 1000
_BLOCK_ROWS = 2048
_NEIGHBOURS = 10
_SAME = 1e-5  # two unit vectors of a higher cosine are one for a search

_POINTS = f"""
SELECT {ROW}, {VECTOR}
FROM points LEFT JOIN vectors AS at ON at.space_no = ? AND at.seq = points.seq
LEFT JOIN vectors ON vectors.vector_no = at.vector_no
WHERE points.collection_id = ? ORDER BY points.seq
"""  # noqa: S608 - of constants alone


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be.

    Attributes:
        kind: short and stable: `point_damaged`, `vector_missing`, `vector_damaged`, `vector_differs`,
            `missing_in_index`, `unknown_in_index`, `not_found_by_itself`, `payload_index_differs`,
            `missing_in_generation`, `dead_in_generation`.
        message: for people.
    """

    kind: str
    message: str


@dataclass(slots=True)
class Verification:
    """What a check found.

    Attributes:
        n_points: points looked at.
        problems: the first 1,000.
    """

    n_points: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, message: str) -> None:
        """Note a problem, while there is room."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, message))


def verify(
    connection: sqlite3.Connection, place: Place, view: ReadView, scanner: Scanner, n_sample: int
) -> Verification:
    """Compare every row of the database with the view, and search for a sample of the points.

    Args:
        connection: at the view's commit.
        place: of the collection.
        view: what searches read.
        scanner: what they search with.
        n_sample: points that must find themselves.
    """
    report = Verification()
    in_view = np.concatenate(
        [np.empty(0, np.int64), *(chunk.seqs[chunk.live_rows()] for chunk in view.chunks)]
    )  # (N,)
    seen: list[I64] = []
    indexes = payload_indexes(connection, place.collection_id)
    n_values: Counter[PayloadIndex] = Counter()
    cursor = connection.execute(_POINTS, (place.space_no, place.collection_id))
    while block := cursor.fetchmany(_BLOCK_ROWS):
        seqs = np.array([row[0] for row in block], np.int64)  # (M,)
        seen.append(seqs)
        in_index = np.isin(seqs, in_view, assume_unique=True)  # (M,)
        vectors = vectors_of(view, seqs[in_index])  # (K, D)
        by_seq = dict(zip(seqs[in_index].tolist(), vectors, strict=True))
        for row in block:
            _check_row(report, row, by_seq, place)
            for index in indexes if _is_object(row[2]) else ():
                n_found, n_missing = compare_values(connection, place.collection_id, index, row[0], row[2])
                n_values[index] += n_found
                if n_missing:
                    report.add("payload_index_differs", f"index {index.path} lacks values of seq {row[0]}")
    stored = np.concatenate([np.empty(0, np.int64), *seen])  # (N,)
    report.n_points = len(stored)
    for seq in np.setdiff1d(in_view, stored, assume_unique=True)[:MAX_PROBLEMS].tolist():
        report.add("unknown_in_index", f"seq {seq} is searched but is not in the database")
    _check_generation(report, view, in_view)
    for index in indexes:
        n_rows = count_rows(connection, place.collection_id, index)
        if n_rows != n_values[index]:
            report.add("payload_index_differs", f"index {index.path}: {n_rows} rows, not {n_values[index]}")
    known = np.intersect1d(in_view, stored, assume_unique=True)
    _check_self_recall(report, view, scanner, known, n_sample)
    return report


def _check_row(
    report: Verification,
    row: tuple[Any, ...],
    searched: dict[int, F32],
    place: Place,
) -> None:
    """Check a row: the columns of `ROW`, then the vector's bytes and checksum."""
    seq, key, payload, checksum, perceptual_hash, blob, vector_checksum = row
    point_id = id_of(key) if isinstance(key, str | int) else key
    who = f"point {point_id!r:.100} (seq {seq})"
    content = content_checksum(key, payload, perceptual_hash)
    if row_checksum(content, seq, place.collection_id) != checksum or not _is_object(payload):
        report.add("point_damaged", f"{who}: seq, id, payload or hash is not what was written")
    if seq not in searched:
        report.add("missing_in_index", f"{who} is stored but cannot be found")
    if blob is None:
        report.add("vector_missing", f"{who} has no vector")
        return
    if len(blob) != 4 * place.dim:
        report.add("vector_damaged", f"{who}: its vector has {len(blob)} bytes, not {4 * place.dim}")
        return
    vector = np.frombuffer(blob, "<f4")  # (D,)
    if vector_checksums(vector[np.newaxis])[0] != vector_checksum:
        report.add("vector_damaged", f"{who}: its vector is not what was written")
    elif seq in searched and searched[seq].astype("<f4", copy=False).tobytes() != blob:
        report.add("vector_differs", f"{who} is searched with another vector than is stored")


def _is_object(payload: object) -> bool:
    try:  # in a damaged row it may be of any type
        return isinstance(payload, str) and isinstance(json.loads(payload), dict)
    except (ValueError, RecursionError):
        return False


def _check_self_recall(
    report: Verification, view: ReadView, scanner: Scanner, seqs: I64, n_sample: int
) -> None:
    sample = seqs
    if len(seqs) > n_sample:
        sample = np.sort(np.random.default_rng(len(seqs)).choice(seqs, n_sample, replace=False))
    for at in range(0, len(sample), _BLOCK_ROWS):
        some = sample[at : at + _BLOCK_ROWS]
        for seq, found in zip(
            some.tolist(), scanner.search(view, vectors_of(view, some), Span(_NEIGHBOURS)), strict=True
        ):
            is_crowded = len(found.scores) == _NEIGHBOURS and found.scores[-1] >= 1 - _SAME
            if seq not in found.seqs and not is_crowded:
                report.add("not_found_by_itself", f"a search with the vector of seq {seq} does not find it")


def _check_generation(report: Verification, view: ReadView, in_view: I64) -> None:
    """Compare the rows that live in the sealed generation with those of the view (N,) that it covers."""
    if view.sealed is None:
        return
    in_sealed = view.sealed.live_seqs()
    covered = in_view[in_view <= view.sealed.generation.up_to_seq]
    for seq in np.setdiff1d(covered, in_sealed, assume_unique=True)[:MAX_PROBLEMS].tolist():
        report.add("missing_in_generation", f"seq {seq} is not in the index that covers it")
    for seq in np.setdiff1d(in_sealed, covered, assume_unique=True)[:MAX_PROBLEMS].tolist():
        report.add("dead_in_generation", f"the index still finds seq {seq}, which is dead")


def vectors_of(view: ReadView, seqs: I64) -> F32:
    """The vectors (N, D) of live rows, by ascending seq."""
    kept = view.only(seqs).chunks if len(seqs) else ()
    parts = [chunk.vectors[chunk.live_rows()] for chunk in kept]
    return np.concatenate([np.empty((0, view.dim), np.float32), *parts])
