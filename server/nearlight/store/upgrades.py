"""Changing the model of collections while they serve: filled, compared, promoted, rolled back, cleaned.

Vectors of the new space are written beside the old ones, in any order, by whoever embeds; searches do not see
them. To promote is one transaction that names the other space the collection's, and one reference swapped.
The vectors of the former space stay, and follow every write, until they are cleaned away.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from nearlight.store import spaces, upgrade_rows
from nearlight.store.collection import Collection
from nearlight.store.errors import UpgradeNotFound, UpgradeRefused, shown
from nearlight.store.other_spaces import FILLING, OtherSpaces, in_state
from nearlight.store.points import F32
from nearlight.store.rows import Place, check_current
from nearlight.store.searching import Shared
from nearlight.store.upgrade_cleaning import keep_spare
from nearlight.store.upgrade_comparison import Comparison, compare
from nearlight.store.upgrade_job import (
    CLEANING,
    OPEN,
    Upgrade,
    UpgradeSpace,
    UpgradeState,
    insert_job,
    load_upgrade,
    update_job,
)
from nearlight.store.upgrade_rows import Counts, Pending, UpgradeFailure, Wanted
from nearlight.store.writer import Transaction

Result = TypeVar("Result")
_NOTED = f"""
SELECT DISTINCT space_id, details ->> '$.bundle.model', details ->> '$.bundle.folder' FROM spaces
WHERE details ->> '$.bundle.folder' NOT NULL AND space_no IN (
  SELECT space_no FROM collections WHERE name NOT NULL
  UNION ALL SELECT space.value FROM jobs CROSS JOIN json_each(
    json_array(jobs.details ->> '$.old[0]', jobs.details ->> '$.new[0]')) AS space
  WHERE kind = 'upgrade' AND state IN ({", ".join("?" * len(OPEN))})
)
"""  # noqa: S608 - only question marks are put in


@dataclass(frozen=True, slots=True)
class Target:
    """What a collection is upgraded to.

    Attributes:
        space_id: of the new model.
        dim: of its vectors.
        bundle: where it was loaded from; "" where unknown.
        max_points_per_second: 0 for no bound.
    """

    space_id: str
    dim: int
    bundle: str = ""
    max_points_per_second: float = 0.0


class Upgrades:
    """The upgrades of one store. All methods block and may be called from any thread.

    Args:
        shared: of the store.
        find: finds a collection by name or alias.
        adopt: shows a handle to everybody in the place of the one of its name.
    """

    def __init__(
        self, shared: Shared, find: Callable[[str], Collection], adopt: Callable[[str, Collection], None]
    ) -> None:
        self._shared = shared
        self._find = find
        self._spaces = OtherSpaces(shared, find, adopt)

    def start(self, name: str, target: Target) -> Upgrade:
        """Begin an upgrade, or go on with one to the same space and let the points that failed try again.

        Raises:
            CollectionNotFound: there is none of this name.
            UpgradeRefused: the collection is of the space already, or another upgrade is under way.
            WrongSpace: the space is known with another dim.
        """
        handle = self._find(name)

        def write(transaction: Transaction) -> Upgrade:
            connection, cid = transaction.connection, handle._place.collection_id
            handle._check_here()
            known = load_upgrade(connection, cid)
            if known is not None and known.is_open:
                return _go_on(connection, handle, known, target)
            check_current(connection, handle._place)
            connection.execute(upgrade_rows.FAILURES_TABLE)
            upgrade_rows.forget_failures(connection, cid)
            now = time.time_ns() // 1_000_000
            space_no = spaces.space_no(connection, target.space_id, target.dim, now)
            old = UpgradeSpace(handle._place.space_no, handle.info.space_id, handle._place.dim)
            new = UpgradeSpace(space_no, target.space_id, target.dim)
            if new.space_no == old.space_no:
                raise UpgradeRefused(f"collection {name!r} is of space {shown(target.space_id)} already")
            keep_spare(connection, cid, space_no)
            rate = target.max_points_per_second
            return insert_job(
                connection, Upgrade(0, cid, "running", old, new, target.bundle, rate, started_unix_ms=now)
            )

        return self._change(handle, write)

    def get(self, name: str) -> Upgrade:
        """The last upgrade of a collection.

        Raises:
            UpgradeNotFound: there was none.
        """
        upgrade = self._find(name)._family.upgrade
        if upgrade is None:
            raise UpgradeNotFound(f"collection {name!r} has no upgrade")
        return upgrade

    def counts(self, name: str) -> Counts:
        """How far it is; looks at every point."""
        return self._read(name, upgrade_rows.counts)

    def pending(self, name: str, after: int, limit: int) -> list[Pending]:
        """The first points after a seq that can be embedded from what is kept here, at most `limit`."""
        return self._read(name, lambda one, new: upgrade_rows.pending(one, new, after, limit))

    def wanted(self, name: str, after: int, limit: int) -> list[Wanted]:
        """The first points after a seq whose original somebody must send, at most `limit`."""
        return self._read(name, lambda one, new: upgrade_rows.wanted(one, new, after, limit))

    def failures(self, name: str, after: int, limit: int) -> list[UpgradeFailure]:
        """The first points after a seq that could not be embedded, at most `limit`."""
        return self._read(name, lambda one, new: upgrade_rows.failures(one, new, after, limit))

    def write(self, name: str, vectors: Mapping[int, F32], failed: Mapping[int, str]) -> int:
        """Write what was embedded, and why what was not.

        Args:
            name: of the collection.
            vectors: by seq: (D2,) unit length, of the new space.
            failed: by seq: why.

        Returns:
            How many of the vectors were of points that are there still; the others were not kept.

        Raises:
            UpgradeRefused: it is not being filled.
        """
        handle = self._find(name)
        seqs = sorted(vectors)

        def write(transaction: Transaction) -> int:
            upgrade = in_state(transaction, handle, FILLING, "written to")
            place = _place_of(handle, upgrade.new)
            handle._family.late_writes += len(seqs)
            upgrade_rows.insert_failures(transaction.connection, place, failed)
            if not seqs:
                return 0
            block = np.stack([vectors[seq] for seq in seqs])  # (N, D2)
            return upgrade_rows.insert_vectors(transaction.connection, place, seqs, block)

        return self._shared.writer.run(write, lambda _: None, len(vectors) + len(failed))

    def set_state(self, name: str, state: UpgradeState, message: str = "") -> Upgrade:
        """Note how far it is, while it is being filled.

        Raises:
            UpgradeRefused: it is not.
        """
        handle = self._find(name)

        def write(transaction: Transaction) -> Upgrade:
            upgrade = in_state(transaction, handle, FILLING, state)
            upgrade = replace(upgrade, state=state, message=message)
            update_job(transaction.connection, upgrade)
            return upgrade

        return self._change(handle, write)

    def compare(self, name: str, texts: tuple[F32, F32] | None, n_points: int = 200) -> Comparison:
        """Let both spaces answer the same queries: some of the points, and texts.

        Args:
            name: of the collection.
            texts: vectors (T, D) and (T, D2) of the same texts, None for none.
            n_points: at most so many points.
        """
        handle, other = self._spaces.both(name)
        is_promoted = handle._place.space_no == self.get(name).new.space_no
        old, new = (other, handle) if is_promoted else (handle, other)
        return compare(old._head.view, new._head.view, self._shared.scanner, texts, n_points)

    def other(self, name: str) -> Collection:
        """The handle of the other space, loaded where it is not; it follows every write."""
        return self._spaces.both(name)[1]

    def keep_evaluation(self, name: str, evaluation: Mapping[str, Any]) -> Upgrade:
        """Keep how both spaces answer the same queries; JSON."""
        handle = self._find(name)

        def write(transaction: Transaction) -> Upgrade:
            upgrade = in_state(transaction, handle, (*FILLING, "promoted"), "evaluated")
            upgrade = replace(upgrade, evaluation=evaluation)
            update_job(transaction.connection, upgrade)
            return upgrade

        return self._change(handle, write)

    def promote(self, name: str, *, drop_missing: bool = False) -> Upgrade:
        """Let the new space serve, in one transaction. Searches under way end in the old one.

        Args:
            name: of the collection.
            drop_missing: points without a vector of the new space are left out; else it is refused.

        Raises:
            UpgradeRefused: it is not being filled, or points are missing.
        """
        return self._spaces.switch(name, "new", drop_missing)

    def roll_back(self, name: str, *, drop_missing: bool = False) -> Upgrade:
        """Let the old space serve again, in one transaction; it can be promoted again. As `promote`."""
        return self._spaces.switch(name, "old", drop_missing)

    def note_bundle(self, space_id: str, model: str, folder: str) -> None:
        """Note which bundle makes the vectors of a space, for the next start of the server."""
        bundle = json.dumps({"model": model, "folder": folder})
        statement = "UPDATE spaces SET details = json_set(details, '$.bundle', json(?)) WHERE space_id = ?"
        self._shared.writer.run(
            lambda one: one.connection.execute(statement, (bundle, space_id)), lambda _: None
        )

    def noted_bundles(self) -> dict[str, tuple[str, str]]:
        """For each space that a collection is in, or on its way to: model and folder, where noted."""
        with self._shared.readers.snapshot() as connection:
            found = connection.execute(_NOTED, OPEN).fetchall()
        return {space_id: (model, folder) for space_id, model, folder in found}

    def cancel(self, name: str) -> Upgrade:
        """End an upgrade that is not promoted; the vectors of the new space go, in the background.

        Raises:
            UpgradeRefused: it is promoted, or over.
        """
        return self._end(name, FILLING, "cancelled")

    def clean(self, name: str) -> Upgrade:
        """End a promoted upgrade; the vectors of the old space and the points left out go, in the background.

        Raises:
            UpgradeRefused: it is not promoted.
        """
        return self._end(name, ("promoted",), "done")

    def _end(
        self, name: str, states: tuple[UpgradeState, ...], state: Literal["cancelled", "done"]
    ) -> Upgrade:
        handle = self._find(name)

        def write(transaction: Transaction) -> Upgrade:
            upgrade = replace(in_state(transaction, handle, states, state), state=state, message="")
            upgrade_rows.forget_failures(transaction.connection, upgrade.collection_id)
            update_job(transaction.connection, upgrade, f"{CLEANING}0")
            return upgrade

        upgrade = self._change(handle, write)
        self._spaces.forget(upgrade.collection_id)
        self._shared.writer.clean_soon()
        return upgrade

    def _change(self, handle: Collection, write: Callable[[Transaction], Upgrade]) -> Upgrade:
        def publish(upgrade: Upgrade) -> None:
            handle._family.upgrade = upgrade

        return self._shared.writer.run(write, publish)

    def _read(self, name: str, read: Callable[[sqlite3.Connection, Place], Result]) -> Result:
        handle = self._find(name)
        upgrade = self.get(name)
        with self._shared.readers.snapshot() as connection:
            return read(connection, _place_of(handle, upgrade.new))


def _go_on(connection: sqlite3.Connection, handle: Collection, known: Upgrade, target: Target) -> Upgrade:
    if known.new.space_id != target.space_id:
        raise UpgradeRefused(
            f"an upgrade of collection {handle.info.name!r} to space {known.new.space_id[:16]} is "
            f"{known.state}: promote and clean it, or cancel it, before another"
        )
    state: UpgradeState = "running" if known.state in ("paused", "failed") else known.state
    upgrade_rows.forget_failures(connection, known.collection_id)
    upgrade = replace(
        known,
        state="running" if state == "ready" else state,
        message="",
        bundle=target.bundle or known.bundle,
        max_points_per_second=target.max_points_per_second,
    )
    update_job(connection, upgrade)
    return upgrade


def _place_of(handle: Collection, space: UpgradeSpace) -> Place:
    return Place(handle._place.collection_id, space.space_no, space.dim)
