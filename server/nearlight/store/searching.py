"""Searching a collection: the view finds rows, the database says what they are, at one commit."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TypeAlias

from nearlight.store import rows
from nearlight.store.durability import Durabilities
from nearlight.store.errors import NotInMemory, StoreCorrupt
from nearlight.store.exact import Found, Scanner
from nearlight.store.filters.conditions import Filter, Path
from nearlight.store.filters.matching import matching_seqs
from nearlight.store.generations.sampling import RecallSampler
from nearlight.store.generations.search import How, Search
from nearlight.store.grouping import HitGroup, grouped
from nearlight.store.points import I64, Hit
from nearlight.store.readers import Readers
from nearlight.store.row_cache import RowCache, StoredRow
from nearlight.store.rows import Place
from nearlight.store.view import ReadView
from nearlight.store.writer import Writer

_MAX_REMEMBERED = 16
_MAX_REMEMBERED_SEQS = 4_000_000  # 32 MB


@dataclass(frozen=True, slots=True)
class Shared:
    """What the collections of one store share."""

    writer: Writer
    readers: Readers
    scanner: Scanner
    sampler: RecallSampler
    durabilities: Durabilities
    row_cache: RowCache


Scan: TypeAlias = Callable[[ReadView], list[Found]]
"""Finds the rows of each query in a view."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a search found.

    Attributes:
        hits: of each query, best first.
        n_matching: points that pass the filter; of the collection where there was none.
        how: the search went.
        last_seq: of the last write that it could see.
    """

    hits: list[list[Hit]]
    n_matching: int
    how: How
    last_seq: int


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One committed state of a collection."""

    connection: sqlite3.Connection
    view: ReadView
    last_seq: int


class Searcher:
    """Searches one collection.

    Args:
        place: where its rows are.
        shared: of the store.
        current: the view and the last seq; read while no write is being published.
        check_here: raises where the collection is gone.
    """

    def __init__(
        self,
        place: Place,
        shared: Shared,
        current: Callable[[], tuple[ReadView, int]],
        check_here: Callable[[], None],
    ) -> None:
        self._place = place
        self._writer = shared.writer
        self._readers = shared.readers
        self._sampler = shared.sampler
        self._row_cache = shared.row_cache
        self._current = current
        self._check_here = check_here
        self._matches = Matches(place)
        self._narrowed = Narrowed()
        self.is_partial = False  # the view may lack points: it is not, or was not, of the collection's space

    def answer(self, search: Search, filter: Filter | None, with_payload: bool) -> Answer:
        """What a search finds among the points that pass, which are counted first."""
        if filter is None:
            before = self._current()
            return self._answered(search, self.search(search, with_payload), *before)
        with ExitStack() as held:
            state = self._state(held)
            seqs = self._among(state, filter)
            view = self._narrowed.of(state.view, filter, seqs)
            hits = self._search_state(state, view, search, with_payload)
            self._sampler.offer(search, state.view.n_alive, hits)
            return Answer(hits, len(seqs), search.how, state.last_seq)

    def answer_from_memory(self, search: Search, with_payload: bool) -> Answer:
        """What a search finds among all points.

        Raises:
            NotInMemory: one of the rows that it found must be read from the database.
        """
        view, last_seq = self._current()
        hits = self._hits(None, search(view), with_payload)
        if hits is None:
            raise NotInMemory("a row that was found must be read from the database")
        return self._answered(search, hits, view, last_seq)

    def _answered(self, search: Search, hits: list[list[Hit]], view: ReadView, last_seq: int) -> Answer:
        self._sampler.offer(search, view.n_alive, hits)
        return Answer(hits, view.n_alive, search.how, last_seq)

    def search(self, scan: Scan, with_payload: bool) -> list[list[Hit]]:
        """What a scan finds among all points."""
        view, _ = self._current()
        hits = self._hits(self._readers.snapshot(), scan(view), with_payload)
        if hits is not None:
            return hits
        # A hit was replaced or deleted since: take view and database at the same commit.
        with ExitStack() as held:
            state = self._state(held)
            return self._search_state(state, state.view, scan, with_payload)

    def search_matching(self, scan: Scan, filter: Filter, with_payload: bool) -> tuple[list[list[Hit]], int]:
        """What a scan finds among the points that pass, and how many pass.

        They are counted first; the exact search over them then returns all that were asked for and exist.
        """
        with ExitStack() as held:
            state = self._state(held)
            seqs = self._among(state, filter)
            return self._search_state(state, _only(state.view, seqs), scan, with_payload), len(seqs)

    def search_groups(
        self, scan_for: Callable[[int], Scan], among: Filter, path: Path, n_groups: int, group_size: int
    ) -> list[HitGroup]:
        """The best groups among the points that pass, all in one state.

        Args:
            scan_for: gives the scan for so many hits of one query.
            among: which points take part.
            path: of the value to group by.
            n_groups: at most so many.
            group_size: at most so many hits in each.
        """
        with ExitStack() as held:
            state = self._state(held)

            def best(limit: int, passing: Filter) -> list[Hit]:
                view = _only(state.view, self._among(state, passing))
                return self._search_state(state, view, scan_for(limit), True)[0]

            return grouped(best, among, path, n_groups, group_size)

    def count_matching(self, filter: Filter) -> int:
        """How many points pass."""
        with ExitStack() as held:
            return len(self._matches.of(self._state(held), filter))

    def view_of(self, state: State, filter: Filter | None) -> ReadView:
        """The points of a state that pass; all of them without a filter."""
        return state.view if filter is None else _only(state.view, self._matches.of(state, filter))

    @contextmanager
    def state(self) -> Iterator[State]:
        """One committed state of the collection."""
        with ExitStack() as held:
            yield self._state(held)

    def _state(self, held: ExitStack) -> State:
        """The database and the view at the same commit, for as long as `held` is."""
        with self._writer.publishing:
            connection = held.enter_context(self._readers.snapshot())
            return State(connection, *self._current())

    def _among(self, state: State, filter: Filter) -> I64:
        """The seqs in the view that pass, ascending."""
        seqs = self._matches.of(state, filter)
        return state.view.alive_among(seqs) if self.is_partial else seqs

    def _search_state(self, state: State, view: ReadView, scan: Scan, with_payload: bool) -> list[list[Hit]]:
        hits = self._hits(nullcontext(state.connection), scan(view), with_payload)
        self._check_here()  # of a collection that is gone the rows go bit by bit
        if hits is None:
            raise StoreCorrupt("the database does not hold what is searched: run `nearlight doctor`")
        return hits

    def _hits(
        self,
        reading: AbstractContextManager[sqlite3.Connection] | None,
        found: list[Found],
        with_payload: bool,
    ) -> list[list[Hit]] | None:
        """The hits of every query.

        Args:
            reading: gives the database, where rows must be read that are not remembered; None: they are not.
            found: by a scan.
            with_payload: return payloads.

        Returns:
            None where a row is no longer stored, or must be read and there is no database.
        """
        seqs = set[int]().union(*(one.seqs.tolist() for one in found))
        stored = self._row_cache.of(seqs)
        if len(stored) < len(seqs) and reading is not None:
            with reading as connection:
                read = rows.by_seqs(connection, self._place, list(seqs - stored.keys()))
            self._row_cache.keep(read)
            stored |= read
        if len(stored) < len(seqs):
            return None
        return [_hits_of(one, stored, with_payload) for one in found]


class Narrowed:
    """A view less the points that a filter leaves out, remembered for the filters last used on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view: ReadView | None = None
        self._remembered: OrderedDict[Filter, ReadView] = OrderedDict()

    def of(self, view: ReadView, filter: Filter, seqs: I64) -> ReadView:
        """What the filter leaves of the view: these seqs."""
        with self._lock:
            if self._view is view and filter in self._remembered:
                self._remembered.move_to_end(filter)
                return self._remembered[filter]
        narrowed = _only(view, seqs)
        if view.sealed is not None and narrowed is not view:
            narrowed = replace(narrowed, sealed=view.sealed.only(seqs))
        with self._lock:
            if self._view is not view:
                self._view = view
                self._remembered.clear()
            self._remembered[filter] = narrowed
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return narrowed


class Matches:
    """Which points pass a filter, remembered for the filters last used until the collection changes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._remembered: OrderedDict[Filter, I64] = OrderedDict()
        self._last_seq = -1

    def of(self, state: State, filter: Filter) -> I64:
        """The seqs that pass in this state, ascending."""
        with self._lock:
            if self._last_seq == state.last_seq and filter in self._remembered:
                self._remembered.move_to_end(filter)
                return self._remembered[filter]
        seqs = matching_seqs(state.connection, self._place.collection_id, filter)
        with self._lock:
            if state.last_seq > self._last_seq:
                self._remembered.clear()
                self._last_seq = state.last_seq
            if state.last_seq == self._last_seq:
                self._remembered[filter] = seqs
                self._forget()
        return seqs

    def _forget(self) -> None:
        while len(self._remembered) > _MAX_REMEMBERED or (
            sum(map(len, self._remembered.values())) > _MAX_REMEMBERED_SEQS
        ):
            self._remembered.popitem(last=False)


def _only(view: ReadView, seqs: I64) -> ReadView:
    return view if len(seqs) == view.n_alive else view.only(seqs)


def _hits_of(found: Found, stored: Mapping[int, StoredRow], with_payload: bool) -> list[Hit]:
    vectors = repeat(None) if found.vectors is None else found.vectors
    hits = []
    for seq, score, vector in zip(found.seqs.tolist(), found.scores.tolist(), vectors, strict=False):
        point_id, payload = stored[seq]
        hits.append(Hit(point_id, score, payload if with_payload else None, vector, seq))
    return hits
