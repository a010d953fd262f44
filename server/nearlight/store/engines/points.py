"""The points of a collection in an engine."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from nearlight.store.durability import Durability
from nearlight.store.engines.clock import Clock
from nearlight.store.engines.engine import Definition, Engine, NewRow, Page, Parts, Row
from nearlight.store.engines.expressions import NOTHING, Expression
from nearlight.store.engines.facets import Facets, facets_of
from nearlight.store.engines.resolving import resolved, rows_of
from nearlight.store.errors import (
    CollectionNotFound,
    InvalidPoint,
    NotOnThisEngine,
    StoreClosed,
    WrongSpace,
    shown,
)
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Filter, Path
from nearlight.store.ids import id_of, key_of
from nearlight.store.ordering import Order, OrderedPlace
from nearlight.store.payloads import Change, emptying, removing, setting
from nearlight.store.point_block import batch_of
from nearlight.store.points import Changed, CollectionFacts, CollectionInfo, Point, PointId, Record
from nearlight.store.queries import check_number
from nearlight.store.selection import Selection
from nearlight.store.upserts import ANY, Terms, Upserted
from nearlight.store.validation import payload_text

T = TypeVar("T")
MAX_ORDERED = 100_000
_ALL = Parts(payload=True, vector=True)
_BARE = Parts(payload=False)


class EnginePoints:
    """A handle on the points of one collection; its methods block and any thread may call them.

    What they take, give and raise is said at `Collection`; besides, every method that asks the engine may
    raise EngineUnavailable.

    Args:
        engine: keeps them.
        definition: of the collection.
        clock: of the store.
    """

    def __init__(self, engine: Engine, definition: Definition, clock: Clock) -> None:
        self.definition = definition
        self.aliases: tuple[str, ...] = ()  # the store keeps it and the count up to date
        self.n_points = 0
        self._engine = engine
        self._name = definition.name
        self._clock = clock
        self._writing = threading.Lock()  # what is read to be changed must not change meanwhile
        self._gone: CollectionNotFound | StoreClosed | None = None

    @property
    def info(self) -> CollectionInfo:
        """The collection; its count is some seconds old, its last seq is the present moment."""
        self._check_here()
        one = self.definition
        return CollectionInfo(
            name=one.name,
            space_id=one.space_id,
            dim=one.dim,
            count=self.n_points,
            created_unix_ms=one.created_unix_ms,
            metadata=json.loads(one.metadata),
            last_seq=self._clock.now(),
            aliases=self.aliases,
        )

    @property
    def facts(self) -> CollectionFacts:
        """What every query asks of `info`."""
        self._check_here()
        one = self.definition
        return CollectionFacts(one.name, one.space_id, one.dim, self._clock.now())

    def count(self, filter: Filter | None = None) -> int:
        """Number of points, or of those that pass the filter."""
        self._check_here()
        where = resolved(self._engine, self._name, filter)
        n = self._count(where)
        if filter is None:
            self.n_points = n
        return n

    def upsert(self, points: Sequence[Point], *, space_id: str | None = None) -> int:
        """Insert points, or replace those with the same ids."""
        return self.upsert_on(ANY, points, space_id=space_id).seq

    def upsert_on(
        self,
        terms: Terms,
        points: Sequence[Point],
        *,
        space_id: str | None = None,
        durability: Durability | None = None,
    ) -> Upserted:
        """Insert points, or replace those with the same ids; a write is as durable as the engine makes it.

        Raises:
            NotOnThisEngine: there are terms.
        """
        self._check_here()
        self._check_space(space_id)
        if terms != ANY:
            raise NotOnThisEngine(f"terms of an upsert: {self._engine.name} cannot look before it writes")
        if not points:
            return Upserted(self._clock.now())
        batch = batch_of(points, self.definition.dim)
        seqs = self._clock.take(len(batch.keys))
        rows = [
            NewRow(id_of(key), vector, text, seq, self._facets(text, i))
            for i, (key, vector, text, seq) in enumerate(
                zip(batch.keys, batch.vectors, batch.payloads, seqs, strict=True)
            )
        ]
        with self._writing:
            self._write(rows)
        return Upserted(seqs[-1])

    def delete(self, points: Selection, *, durability: Durability | None = None) -> int:
        """Delete points by id or by filter; returns how many there were."""
        self._check_here()
        n = 0
        with self._writing:
            for rows in _parted(self._selected(points, _BARE), self._engine.limits.rows):
                self._engine.remove(self._name, [row.id for row in rows])
                n += len(rows)
        return n

    def set_payload(
        self,
        points: Selection,
        payload: Mapping[str, Any],
        *,
        path: Path = (),
        replace: bool = False,
        durability: Durability | None = None,
    ) -> Changed:
        """Set keys of the payload of points."""
        payload_text(payload)
        if path:
            check_path(path, "key")
        return self._change(points, setting(payload, path, replace))

    def delete_payload(
        self,
        points: Selection,
        paths: Sequence[Path] | None = None,
        *,
        durability: Durability | None = None,
    ) -> Changed:
        """Remove keys from the payload of points, all of it by default."""
        for i, path in enumerate(paths or ()):
            check_path(path, f"keys[{i}]")
        return self._change(points, emptying() if paths is None else removing(paths))

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record]:
        """The points with these ids, in this order, without those that do not exist."""
        self._check_here()
        keys = [key_of(point_id, i) for i, point_id in enumerate(ids)]
        wanted = [id_of(key) for key in dict.fromkeys(keys)]
        found = {row.id: row for row in self._by_ids(wanted, Parts(vector=with_vectors))}
        return [_record(found[id_of(key)]) for key in keys if id_of(key) in found]

    def scroll(
        self,
        after: PointId | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], PointId | None]:
        """One page of all points, in the engine's order of ids."""
        self._check_here()
        check_number("limit", limit, 1)
        if after is not None:
            key_of(after)
        where = resolved(self._engine, self._name, filter)
        records: list[Record] = []
        while len(records) <= limit and where != NOTHING:
            size = min(limit + 1 - len(records), self._engine.limits.rows)
            page = Page(records[-1].id if records else after, size)
            rows = self._engine.page(self._name, where, page, Parts(vector=with_vectors))
            records += map(_record, rows)
            if len(rows) < size:
                break
        return (records, None) if len(records) <= limit else (records[:limit], records[limit - 1].id)

    def scroll_in_order(
        self,
        order: Order,
        after: OrderedPlace | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], OrderedPlace | None]:
        """One page of all points in the order of a payload value; each page reads every payload that passes.

        Raises:
            NotOnThisEngine: more than 100,000 pass.
        """
        self._check_here()
        check_number("limit", limit, 1)
        check_path(order.path, "order")
        where = resolved(self._engine, self._name, filter)
        n = self._count(where)
        if n > MAX_ORDERED:
            raise NotOnThisEngine(
                f"order_by: {n} points pass, and {self._engine.name} orders at most {MAX_ORDERED}: "
                "add a filter that narrows it"
            )
        rows = ((row.seq, key_of(row.id), row.payload, 0, None) for row in self._where(where, Parts()))
        ids = [id_of(one[1]) for one in order.first(rows, limit + 1, after)]
        records = self.get(ids, with_vectors=with_vectors)
        if len(ids) <= limit:
            return records, None
        records = records[:limit]
        return records, order.place_of(records[-1].payload, records[-1].id)

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of this handle raise `why`; for the store."""
        self._gone = why

    def _change(self, points: Selection, change: Change) -> Changed:
        self._check_here()
        seq = n = 0
        with self._writing:
            for rows in _parted(self._selected(points, _ALL), self._engine.limits.rows):
                changed = []
                for row in rows:
                    text = payload_text(change(json.loads(row.payload)))
                    if text != row.payload:
                        changed.append((row, text, self._facets(text, None)))
                if changed:
                    seqs = self._clock.take(len(changed))
                    self._write(
                        NewRow(row.id, _vector(row), text, at, facets)
                        for at, (row, text, facets) in zip(seqs, changed, strict=True)
                    )
                    seq, n = seqs[-1], n + len(changed)
        return Changed(seq, n)

    def _facets(self, text: str, index: int | None) -> Facets:
        limits = self._engine.limits
        n_bytes = len(text.encode())
        if n_bytes > limits.payload_bytes:
            limit = f"the limit of {self._engine.name} is {limits.payload_bytes}"
            raise InvalidPoint("payload", f"{n_bytes} bytes of JSON", limit, index=index)
        facets = facets_of(json.loads(text))
        if len(facets.tokens) > limits.tokens:
            what = f"of too many values: {len(facets.tokens)} facts to filter by"
            raise InvalidPoint(
                "payload", what, f"the limit of {self._engine.name} is {limits.tokens}", index=index
            )
        return facets

    def _write(self, rows: Iterable[NewRow]) -> None:
        for part in _parted(rows, self._engine.limits.rows):
            self._engine.write(self._name, part)

    def _selected(self, points: Selection, parts: Parts) -> Iterator[Row]:
        if isinstance(points, Filter):
            return self._where(resolved(self._engine, self._name, points), parts)
        ids = [id_of(key) for key in dict.fromkeys(key_of(one, i) for i, one in enumerate(points))]
        return self._by_ids(ids, parts)

    def _by_ids(self, ids: Sequence[PointId], parts: Parts) -> Iterator[Row]:
        for some in _parted(ids, self._engine.limits.rows):
            yield from self._engine.rows(self._name, some, parts)

    def _where(self, where: Expression, parts: Parts) -> Iterator[Row]:
        return rows_of(self._engine, self._name, where, parts)

    def _count(self, where: Expression) -> int:
        return 0 if where == NOTHING else self._engine.count(self._name, where)

    def _check_here(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _check_space(self, space_id: str | None) -> None:
        own = self.definition.space_id
        if space_id is not None and space_id != own:
            raise WrongSpace(
                f"the vectors are of space {shown(space_id)}, collection {self._name!r} is of {shown(own)}"
            )


def _record(row: Row) -> Record:
    return Record(row.id, json.loads(row.payload), row.seq, row.vector)


def _vector(row: Row) -> Any:
    if row.vector is None:
        raise AssertionError("a row was read without its vector")
    return row.vector


def _parted(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
