"""An upgrade, the change of a collection's model, as a row of `jobs` that survives every restart."""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

KIND = "upgrade"
UpgradeState = Literal["running", "paused", "ready", "promoted", "cancelled", "failed", "done"]
OPEN: tuple[UpgradeState, ...] = ("running", "paused", "ready", "promoted", "failed")
"""States in which vectors of both spaces are kept, and new points are embedded into both."""
CLEANING = "cleaning after seq "
"""How the cursor of an ended upgrade begins whose spare vectors are still being removed; the seq follows."""


@dataclass(frozen=True, slots=True)
class UpgradeSpace:
    """One of the two spaces: its row, its identity, its dim."""

    space_no: int
    space_id: str
    dim: int


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A change of a collection's model.

    Attributes:
        job_no: its row.
        collection_id: of the collection.
        state: how far it is.
        old: the space it leads away from.
        new: the space it leads to.
        bundle: where the new model was loaded from; "" where unknown.
        max_points_per_second: 0 for no bound.
        evaluation: how both spaces answer the same queries; empty: not known yet.
        message: why it failed, or what it waits for.
        started_unix_ms: when it began, milliseconds since 1970 UTC.
    """

    job_no: int
    collection_id: int
    state: UpgradeState
    old: UpgradeSpace
    new: UpgradeSpace
    bundle: str = ""
    max_points_per_second: float = 0.0
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    started_unix_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether vectors of both spaces are kept."""
        return self.state in OPEN


def insert_job(connection: sqlite3.Connection, upgrade: Upgrade) -> Upgrade:
    """Write a new upgrade; returns it with its number."""
    statement = (
        "INSERT INTO jobs (kind, collection_id, details, state, created_unix_ms, updated_unix_ms) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING job_no"
    )
    now = upgrade.started_unix_ms
    (job_no,) = connection.execute(
        statement, (KIND, upgrade.collection_id, _details(upgrade), upgrade.state, now, now)
    ).fetchone()
    return replace(upgrade, job_no=job_no)


def update_job(connection: sqlite3.Connection, upgrade: Upgrade, cursor: str | None = None) -> None:
    """Write what an upgrade is now."""
    connection.execute(
        "UPDATE jobs SET state = ?, details = ?, error = ?, cursor = ?, updated_unix_ms = ? WHERE job_no = ?",
        (
            upgrade.state,
            _details(upgrade),
            upgrade.message or None,
            cursor,
            time.time_ns() // 1_000_000,
            upgrade.job_no,
        ),
    )


def load_upgrade(connection: sqlite3.Connection, collection_id: int) -> Upgrade | None:
    """The last upgrade of a collection."""
    row = connection.execute(
        "SELECT job_no, state, details, error, created_unix_ms FROM jobs "
        "WHERE kind = ? AND collection_id = ? ORDER BY job_no DESC LIMIT 1",
        (KIND, collection_id),
    ).fetchone()
    if row is None:
        return None
    job_no, state, text, error, created_unix_ms = row
    details = json.loads(text)
    return Upgrade(
        job_no=job_no,
        collection_id=collection_id,
        state=state,
        old=UpgradeSpace(*details["old"]),
        new=UpgradeSpace(*details["new"]),
        bundle=details["bundle"],
        max_points_per_second=details["max_points_per_second"],
        evaluation=details["evaluation"],
        message=error or "",
        started_unix_ms=created_unix_ms,
    )


def _details(upgrade: Upgrade) -> str:
    spaces = {
        name: [space.space_no, space.space_id, space.dim]
        for name, space in (("old", upgrade.old), ("new", upgrade.new))
    }
    return json.dumps(
        {
            **spaces,
            "bundle": upgrade.bundle,
            "max_points_per_second": upgrade.max_points_per_second,
            "evaluation": dict(upgrade.evaluation),
        }
    )
