"""The few things an engine must be able to do; the rest is built on them once, for all engines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nearlight.store.aliases import AliasChange
from nearlight.store.engines.expressions import Expression
from nearlight.store.engines.facets import Facets
from nearlight.store.points import F32, PointId


@dataclass(frozen=True, slots=True)
class Definition:
    """What a collection is, kept with it in the engine.

    Attributes:
        name: as users know it.
        space_id: of its vectors.
        dim: of them.
        created_unix_ms: when it was made.
        metadata: as JSON text.
    """

    name: str
    space_id: str
    dim: int
    created_unix_ms: int
    metadata: str

    def as_dict(self) -> dict[str, Any]:
        """In the form in which engines keep it."""
        return {
            "name": self.name,
            "space_id": self.space_id,
            "dim": self.dim,
            "created_unix_ms": self.created_unix_ms,
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True, eq=False)
class NewRow:
    """A point to be written: its payload is JSON text, its vector (D,) has unit length."""

    id: PointId
    vector: F32
    payload: str
    seq: int
    facets: Facets


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A stored point; the payload is JSON text, "" where it was not asked for.

    Attributes:
        id: of the point.
        payload: JSON text.
        seq: of its last write.
        vector: (D,), None where it was not asked for.
    """

    id: PointId
    payload: str
    seq: int
    vector: F32 | None


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of points to read besides id and seq."""

    payload: bool = True
    vector: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page begins, and how many rows it may have."""

    after: PointId | None
    limit: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can take.

    Attributes:
        hits: `limit` + `offset` of a search.
        payload_bytes: of a payload as JSON.
        tokens: facts about one payload, see `facets`.
        rows: of one call.
    """

    hits: int
    payload_bytes: int
    tokens: int
    rows: int


class Engine(Protocol):
    """An engine. Every method blocks, may be called from any thread, and raises errors of the store's tree.

    Attributes:
        name: as users know it.
        limits: of it.
        index_kind: what searches: "flat" finds all, everything else nearly all.
    """

    name: str
    limits: Limits
    index_kind: str

    def definitions(self) -> list[Definition]:
        """Of the collections that are ours, in any order."""

    def aliases(self) -> dict[str, str]:
        """Alias → name of its collection."""

    def create(self, definition: Definition) -> None:
        """Make a collection; CollectionExists where the name is taken."""

    def drop(self, name: str) -> None:
        """Delete a collection and its aliases."""

    def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """Apply changes that were checked."""

    def write(self, name: str, rows: Sequence[NewRow]) -> None:
        """Insert or replace points, all ids different; visible to every later call."""

    def remove(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points that exist."""

    def rows(self, name: str, ids: Sequence[PointId], parts: Parts) -> Iterable[Row]:
        """The points of these ids that exist, in any order."""

    def page(self, name: str, where: Expression, page: Page, parts: Parts) -> list[Row]:
        """The first points behind an id, in the engine's order, of those for which it holds."""

    def count(self, name: str, where: Expression) -> int:
        """How many points there are for which it holds."""

    def search(
        self, name: str, queries: F32, where: Expression, limit: int, offset: int, parts: Parts
    ) -> list[list[tuple[Row, float]]]:
        """The nearest points of each of the queries (Q, D), best first, with their cosine."""

    def close(self) -> None:
        """Let go of connections."""
