"""The statements that change payloads.

A point whose payload changes gets a new seq, as by an upsert: a seq names one version of a point, so that a
reader whose view is older than its snapshot notices, and what was derived from a seq stays true. Its vectors
(of every space) and its image move along by a change of their key; nothing is embedded or encoded anew.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from nearlight.store import rows
from nearlight.store.checksums import content_checksum, row_checksums
from nearlight.store.originals import move_originals
from nearlight.store.payloads import Change
from nearlight.store.points import F32
from nearlight.store.rows import Place, Written
from nearlight.store.validation import payload_text
from nearlight.store.writer import Transaction

_BLOCK = 1000
_MOVE_VECTORS = "UPDATE vectors SET seq = ? WHERE space_no IN (SELECT space_no FROM spaces) AND seq = ?"


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """What a change of payloads wrote: the new rows, and their vectors (N, D)."""

    written: Written
    vectors: F32


def change_payloads(
    transaction: Transaction, place: Place, seqs: Sequence[int], change: Change
) -> Moved | None:
    """Change the payloads of points; None when none of them became another.

    Args:
        transaction: of the request.
        place: the collection.
        seqs: live points of it, ascending.
        change: what becomes of a payload.

    Raises:
        InvalidPoint: a payload would be too big or too deep. Nothing is kept of the request.
        StoreCorrupt: a point or a vector is not what was written.
    """
    connection = transaction.connection
    changed: list[tuple[int, str, int]] = []  # old seq, payload, checksum of the content
    vectors: list[F32] = []
    for block in (list(seqs[at : at + _BLOCK]) for at in range(0, len(seqs), _BLOCK)):
        n_before = len(changed)
        for seq, key, old, _, perceptual_hash in rows.stored_points(connection, place, block):
            new = payload_text(change(json.loads(old)))
            if new != old:
                changed.append((seq, new, content_checksum(key, new, perceptual_hash)))
        vectors.append(rows.stored_vectors(connection, place, [seq for seq, _, _ in changed[n_before:]]))
    if not changed:
        return None
    new_seqs = transaction.new_seqs(len(changed))
    moves = [(to, seq) for to, (seq, _, _) in zip(new_seqs, changed, strict=True)]
    checksums = row_checksums([content for _, _, content in changed], new_seqs, place.collection_id)
    connection.executemany(
        "UPDATE points SET seq = ?, payload = ?, checksum = ? WHERE seq = ?",
        (
            (to, text, checksum, seq)
            for to, checksum, (seq, text, _) in zip(new_seqs, checksums, changed, strict=True)
        ),
    )
    connection.executemany(_MOVE_VECTORS, moves)
    move_originals(connection, moves)
    dead = [seq for seq, _, _ in changed]
    connection.executemany(
        "INSERT INTO dead (seq, collection_id, dead_seq) VALUES (?, ?, ?)",
        zip(dead, repeat(place.collection_id), new_seqs),
    )
    rows.keep_last_seq(connection, place, new_seqs[-1])
    return Moved(Written(new_seqs, dead, new_seqs[-1]), np.concatenate(vectors))
