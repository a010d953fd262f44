"""The two spaces of a collection that changes its model: the other one is loaded, follows, takes over.

The handle of the other space is loaded from one state of the database while writes go on, then follows them
like the current one; the switch names its space the collection's and gives it out from then on. A collection
is in one space at every moment, and a restart finds the one that was committed.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal

from nearlight.store import parking, rows, upgrade_rows
from nearlight.store.collection import Collection
from nearlight.store.errors import StoreError, UpgradeNotFound, UpgradeRefused
from nearlight.store.searching import Shared
from nearlight.store.upgrade_job import Upgrade, UpgradeState, load_upgrade, update_job
from nearlight.store.view import Head
from nearlight.store.writer import Transaction

FILLING: tuple[UpgradeState, ...] = ("running", "paused", "ready", "failed")
"""States in which vectors of the new space are written."""
_ATTEMPTS = 3


class _Incomplete(Exception):  # noqa: N818 - never leaves this file
    """The handle of the other space lacks a vector that was written since it was loaded."""


class OtherSpaces:
    """The handles of the other spaces in one store. Its methods block and any thread may call them.

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
        self._adopt = adopt
        self._others: dict[int, Collection] = {}  # by collection id
        self._loading = threading.Lock()

    def forget(self, collection_id: int) -> None:
        """Give the memory back."""
        self._others.pop(collection_id, None)

    def both(self, name: str) -> tuple[Collection, Collection]:
        """The current handle, and the one of the other space with all it must have."""
        with self._loading:
            handle = self._find(name)
            other = self._others.get(handle._place.collection_id)
            is_whole = other is not None and other._n_late == handle._family.late_writes
            if other is None or not is_whole or other._place.space_no == handle._place.space_no:
                other = self._load_other(handle)
            return handle, other

    def _load_other(self, handle: Collection) -> Collection:
        """Load the vectors of the other space while writes go on, and have the handle follow them."""
        place = handle._family.other_place(handle._place)
        if place is None:
            raise UpgradeRefused(f"collection {handle.info.name!r} has no upgrade under way")
        space_id = handle._family.other_space_id(handle._first_info.space_id)
        info = replace(handle._first_info, space_id=space_id, dim=place.dim)
        other = Collection(info, place, Head(place.dim), self._shared, handle._family)
        other._searcher.is_partial = True
        other._backlog = []
        with ExitStack() as held:
            for seqs, vectors in upgrade_rows.load_other(self._begin_to_follow(other, held), place):
                other._head.publish(seqs, vectors)

        def write(_: Transaction) -> None:
            handle._check_here()
            other._head.reserve(sum(len(seqs) for seqs, *_ in other._backlog or ()))

        def publish(_: None) -> None:
            backlog, other._backlog = other._backlog or [], None
            for taken in backlog:
                other._take(*taken)
            other._last_seq = handle._last_seq
            self._others[place.collection_id] = other

        self._shared.writer.run(write, publish)
        return other

    def _begin_to_follow(self, other: Collection, held: ExitStack) -> sqlite3.Connection:
        """Have a handle note every write from now on; returns the database as it is now.

        In the writer's thread: no write is half done there, and the next one sees the handle.
        """
        begun: list[sqlite3.Connection | StoreError] = []

        def publish(_: None) -> None:
            try:
                connection = held.enter_context(self._shared.readers.snapshot())
                other._loaded_to = rows.last_seq_of(connection, other._place)
                begun.append(connection)
            except StoreError as error:
                begun.append(error)
                return
            other._n_late = other._family.late_writes
            other._family.handles.add(other)

        self._shared.writer.run(lambda _: None, publish)
        if isinstance(begun[0], StoreError):
            raise begun[0]
        return begun[0]

    def switch(self, name: str, to: Literal["old", "new"], drop_missing: bool) -> Upgrade:
        """Let the other space serve, in one transaction. Searches under way end where they began.

        Args:
            name: of the collection.
            to: the space.
            drop_missing: points without a vector of it are left out; else it is refused.

        Raises:
            UpgradeNotFound: there is none.
            UpgradeRefused: its state does not allow it, or points are missing.
        """
        states: tuple[UpgradeState, ...] = FILLING if to == "new" else ("promoted",)
        step = "promoted" if to == "new" else "rolled back"
        for _ in range(_ATTEMPTS):
            upgrade = (handle := self._find(name))._family.upgrade
            if upgrade is None:
                raise _none(handle)
            if upgrade.state not in states:
                raise _refused(handle, upgrade, states, step)
            handle, other = self.both(name)
            try:
                return self._switch_to(handle, other, to, drop_missing)
            except _Incomplete:
                continue
        raise UpgradeRefused(
            f"vectors of collection {name!r} are still being written; wait until the upgrade is ready"
        )

    def _switch_to(
        self, handle: Collection, other: Collection, to: Literal["old", "new"], drop_missing: bool
    ) -> Upgrade:
        place, name = other._place, handle.info.name

        def write(transaction: Transaction) -> tuple[Upgrade, list[int]]:
            connection = transaction.connection
            handle._check_here()
            states: tuple[UpgradeState, ...] = FILLING if to == "new" else ("promoted",)
            upgrade = in_state(transaction, handle, states, "switched")
            rows.check_current(connection, handle._place)
            if other._n_late != handle._family.late_writes:
                raise _Incomplete
            parking.unpark(connection, place)
            missing = parking.missing(connection, place)
            if missing and not drop_missing:
                raise UpgradeRefused(
                    f"{len(missing)} of the points of {name!r} have no vector of the {to} model; embed them, "
                    "or say drop_missing to leave them out of searches"
                )
            parking.park(connection, place.collection_id, missing)
            statement = "UPDATE collections SET space_no = ? WHERE collection_id = ?"
            connection.execute(statement, (place.space_no, place.collection_id))
            upgrade = replace(upgrade, state="promoted" if to == "new" else "ready", message="")
            update_job(connection, upgrade)
            return upgrade, missing

        def publish(made: tuple[Upgrade, list[int]]) -> None:
            upgrade, missing = made
            family = handle._family
            family.hide(missing)
            handle._searcher.is_partial, other._searcher.is_partial = True, False
            other._first_info = replace(
                handle._first_info, space_id=other._first_info.space_id, dim=place.dim
            )
            other.aliases, other._payload_indexes = handle.aliases, handle._payload_indexes
            family.upgrade = upgrade
            self._adopt(name, other)
            self._others.pop(place.collection_id, None)
            if not missing:  # else it would have to take them back in the midst of its rows
                handle._n_late = family.late_writes
                self._others[place.collection_id] = handle

        return self._shared.writer.run(write, publish)[0]


def in_state(
    transaction: Transaction, handle: Collection, states: Sequence[UpgradeState], step: str
) -> Upgrade:
    """The upgrade of a collection as the transaction sees it.

    Raises:
        UpgradeNotFound: there is none.
        UpgradeRefused: it is in none of these states.
    """
    handle._check_here()
    upgrade = load_upgrade(transaction.connection, handle._place.collection_id)
    if upgrade is None:
        raise _none(handle)
    if upgrade.state not in states:
        raise _refused(handle, upgrade, states, step)
    return upgrade


def _refused(
    handle: Collection, upgrade: Upgrade, states: Sequence[UpgradeState], step: str
) -> UpgradeRefused:
    return UpgradeRefused(
        f"the upgrade of collection {handle.info.name!r} is {upgrade.state} and cannot be {step}; "
        f"only one that is {' or '.join(states)} can"
    )


def _none(handle: Collection) -> UpgradeNotFound:
    return UpgradeNotFound(f"collection {handle.info.name!r} has no upgrade")
