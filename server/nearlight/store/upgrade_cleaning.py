"""Giving back what ended upgrades and deleted collections leave behind, a little at a time."""

import json
import sqlite3

from nearlight.store import rows
from nearlight.store.reclaiming import reclaim_step
from nearlight.store.upgrade_job import CLEANING, KIND, OPEN

_STEP_ROWS = 2000
_ORPHANS = f"""
SELECT seq FROM points WHERE collection_id < 0 AND NOT EXISTS (
  SELECT 1 FROM jobs JOIN collections ON collections.collection_id = jobs.collection_id AND name NOT NULL
  WHERE jobs.collection_id = -points.collection_id AND kind = '{KIND}'
    AND state IN ({", ".join(f"'{state}'" for state in OPEN)})
) LIMIT ?
"""  # noqa: S608 - the words are ours
_SPARE = """
SELECT vectors.vector_no, vectors.seq FROM vectors CROSS JOIN points ON points.seq = vectors.seq
WHERE vectors.space_no = :space AND vectors.seq > :after AND +points.collection_id = :collection
  AND NOT EXISTS (SELECT 1 FROM collections WHERE collection_id = :collection AND space_no = :space)
ORDER BY vectors.seq LIMIT :limit
"""


def keep_spare(connection: sqlite3.Connection, collection_id: int, space_no: int) -> None:
    """Stop removing a collection's vectors of a space: an upgrade has use for them again."""
    ended = connection.execute(
        "SELECT job_no, state, details FROM jobs WHERE kind = ? AND collection_id = ? AND cursor GLOB ?",
        (KIND, collection_id, f"{CLEANING}*"),
    ).fetchall()
    for job_no, state, details in ended:
        if spare_of(state, details) == space_no:
            connection.execute("UPDATE jobs SET cursor = NULL WHERE job_no = ?", (job_no,))


def spare_of(state: str, details: str) -> int:
    """The space whose vectors an ended upgrade leaves behind."""
    return int(json.loads(details)["old" if state == "done" else "new"][0])


def clean_step(connection: sqlite3.Connection) -> bool:
    """Remove some of what ended upgrades and deleted collections left behind; is more left?

    Then does the store's other cleaning.
    """
    is_more_left = reclaim_step(connection)
    orphans = connection.execute(_ORPHANS, (_STEP_ROWS,)).fetchall()
    rows.remove(connection, [seq for (seq,) in orphans])
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'upgrade_failures'").fetchone():
        connection.execute(
            "DELETE FROM upgrade_failures WHERE collection_id NOT IN "
            "(SELECT collection_id FROM jobs WHERE kind = ?)",
            (KIND,),
        )
    ended = connection.execute(
        "SELECT job_no, collection_id, state, details, cursor FROM jobs "
        "WHERE kind = ? AND cursor GLOB ? LIMIT 1",
        (KIND, f"{CLEANING}*"),
    ).fetchone()
    if ended is None:
        return is_more_left or bool(orphans)
    job_no, collection_id, state, details, cursor = ended
    after = int(cursor.removeprefix(CLEANING))
    reached = _remove_spare(connection, collection_id, spare_of(state, details), after)
    cursor = None if reached is None else f"{CLEANING}{reached}"
    connection.execute("UPDATE jobs SET cursor = ? WHERE job_no = ?", (cursor, job_no))
    return True


def _remove_spare(
    connection: sqlite3.Connection, collection_id: int, space_no: int, after: int
) -> int | None:
    """Remove the first vectors after a seq that a collection has no use for.

    Returns:
        The seq up to which there are none any more; None where there were none at all.
    """
    named = {"space": space_no, "collection": collection_id, "after": after, "limit": _STEP_ROWS}
    found = connection.execute(_SPARE, named).fetchall()
    connection.executemany("DELETE FROM vectors WHERE vector_no = ?", [row[:1] for row in found])
    connection.execute(
        "DELETE FROM index_files WHERE collection_id = ? AND space_no = ? AND space_no NOT IN "
        "(SELECT space_no FROM collections WHERE collection_id = ?)",
        (collection_id, space_no, collection_id),
    )
    return int(found[-1][1]) if found else None
