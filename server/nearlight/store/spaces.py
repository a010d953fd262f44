"""Embedding spaces: every vector and every calibration belongs to one."""

import sqlite3

from nearlight.store.errors import WrongSpace, shown


def space_no(connection: sqlite3.Connection, space_id: str, dim: int, now_unix_ms: int) -> int:
    """The row of a space, made where it is new.

    Raises:
        WrongSpace: the space is known with another dim.
    """
    run = connection.execute
    known = run("SELECT space_no, dim FROM spaces WHERE space_id = ?", (space_id,)).fetchone()
    if known is None:
        statement = "INSERT INTO spaces (space_id, dim, created_unix_ms) VALUES (?, ?, ?) RETURNING space_no"
        (made,) = run(statement, (space_id, dim, now_unix_ms)).fetchone()
        return int(made)
    if known[1] != dim:
        raise WrongSpace(f"space {shown(space_id)} has dim {known[1]} in this store; dim {dim} was asked for")
    return int(known[0])
