"""What the services ask of a store, whatever keeps the vectors.

`Store` (SQLite and FAISS, in this process) is one; `EngineStore` puts Milvus or Qdrant behind the same
protocol. What the methods promise is written at `Store` and `Collection`; in what an engine differs is said
in `engines.differences`, and nowhere else.
"""

from collections.abc import Collection as Ids
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from nearlight.store.aliases import AliasChange
from nearlight.store.calibrations import Nulls
from nearlight.store.durability import Durability
from nearlight.store.filters.conditions import Filter, Path
from nearlight.store.generations.search import NO_PARAMS, SearchParams
from nearlight.store.generations.settings import CHOSEN, IndexSettings
from nearlight.store.grouping import HitGroup
from nearlight.store.label_sets import LabelSets
from nearlight.store.ordering import Order, OrderedPlace
from nearlight.store.points import (
    F32,
    Changed,
    CollectionFacts,
    CollectionInfo,
    Hit,
    PayloadKind,
    Point,
    PointId,
    Record,
)
from nearlight.store.searching import Answer
from nearlight.store.selection import Selection
from nearlight.store.snapshots import SnapshotInfo
from nearlight.store.upserts import Terms, Upserted


class Points(Protocol):
    """The points of a collection: written, read by id, page by page."""

    @property
    def info(self) -> CollectionInfo:
        """The collection; never waits for an engine."""

    @property
    def facts(self) -> CollectionFacts:
        """What every query asks of it; likewise."""

    def count(self, filter: Filter | None = None) -> int:
        """Number of points, or of those that pass."""

    def upsert(self, points: Sequence[Point], *, space_id: str | None = None) -> int:
        """Insert or replace points; returns the seq of the last one."""

    def upsert_on(
        self,
        terms: Terms,
        points: Sequence[Point],
        *,
        space_id: str | None = None,
        durability: Durability | None = None,
    ) -> Upserted:
        """Write those points that meet the terms."""

    def delete(self, points: Selection, *, durability: Durability | None = None) -> int:
        """Delete points; returns how many there were."""

    def set_payload(
        self,
        points: Selection,
        payload: Mapping[str, Any],
        *,
        path: Path = (),
        replace: bool = False,
        durability: Durability | None = None,
    ) -> Changed:
        """Set keys of payloads."""

    def delete_payload(
        self,
        points: Selection,
        paths: Sequence[Path] | None = None,
        *,
        durability: Durability | None = None,
    ) -> Changed:
        """Remove keys of payloads, or all of them."""

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record]:
        """The points of these ids that exist, in this order."""

    def scroll(
        self,
        after: PointId | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], PointId | None]:
        """One page of the points, and the id to go on after."""

    def scroll_in_order(
        self,
        order: Order,
        after: OrderedPlace | None = None,
        *,
        limit: int = 100,
        with_vectors: bool = False,
        filter: Filter | None = None,
    ) -> tuple[list[Record], OrderedPlace | None]:
        """One page of the points in the order of a payload value, and the place to go on after."""


class Queries(Protocol):
    """Searches of a collection."""

    @property
    def index_kind(self) -> str:
        """What answers searches by best score and by groups: "flat" finds all, everything else nearly all."""

    def answer(
        self,
        queries: npt.ArrayLike,
        filter: Filter | None = None,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        space_id: str | None = None,
        params: SearchParams = NO_PARAMS,
        modality: str = "vector",
        memory_only: bool = False,
    ) -> Answer:
        """The nearest points of each query, of those that pass, and how they were found."""

    def search_best_score(
        self,
        positive: npt.ArrayLike,
        negative: npt.ArrayLike,
        filter: Filter | None = None,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        with_payload: bool = True,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> tuple[list[Hit], int]:
        """The points nearest to any positive vector, those nearer to a negative one behind; how many pass."""

    def search_groups(
        self,
        query: npt.ArrayLike,
        path: Path,
        *,
        n_groups: int,
        group_size: int = 1,
        filter: Filter | None = None,
        left_out: Ids[PointId] = (),
        score_threshold: float | None = None,
        with_vectors: bool = False,
        space_id: str | None = None,
    ) -> list[HitGroup]:
        """The best points of each value of a payload key."""


class VectorCollection(Points, Queries, Protocol):
    """A collection, whatever keeps it."""

    def update(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
        index: IndexSettings | None = None,
    ) -> None:
        """Change what the collection was made with; what is None stays."""

    def create_payload_index(self, path: Path, kind: PayloadKind) -> None:
        """Make filters on a payload key fast."""

    def delete_payload_index(self, path: Path) -> None:
        """Remove such an index."""


class CalibrationKeeper(Protocol):
    """Calibrations of collections."""

    def get(self, collection: Any) -> Nulls:
        """Those of a collection; only a look into memory."""

    def level(self, collection: Any, modality: str, query: F32) -> float:
        """What the best hit of a query is expected to have if nothing is meant."""

    def fit(self, collection: Any, text_bank: F32 | None, seed: int = 0) -> Nulls:
        """Fit them to the vectors as they are now."""


class SnapshotKeeper(Protocol):
    """Copies of collections."""

    def create(self, name: str) -> SnapshotInfo:
        """Copy a collection."""

    def list(self) -> list[SnapshotInfo]:
        """All, newest first."""

    def delete(self, snapshot: str) -> None:
        """Remove one."""

    def restore(self, snapshot: str, name: str) -> VectorCollection:
        """Make a collection of one."""


class VectorStore(Protocol):
    """The life cycle of collections, and what is kept beside them."""

    @property
    def label_sets(self) -> LabelSets:
        """Stored label sets; always in the data folder."""

    @property
    def calibrations(self) -> CalibrationKeeper:
        """What makes scores relevance."""

    @property
    def snapshots(self) -> SnapshotKeeper:
        """Copies of collections."""

    def create_collection(
        self,
        name: str,
        *,
        space_id: str,
        dim: int,
        metadata: Mapping[str, Any] | None = None,
        index: IndexSettings = CHOSEN,
        keeps_originals: bool = False,
        durability: Durability = "full",
    ) -> VectorCollection:
        """Make an empty collection, bound to one space for good."""

    def collection(self, name: str) -> VectorCollection:
        """By name or alias; never waits for an engine."""

    def collections(self) -> list[CollectionInfo]:
        """All, by name; never waits for an engine."""

    def delete_collection(self, name: str) -> None:
        """Delete a collection with its aliases."""

    def aliases(self) -> dict[str, str]:
        """All aliases, ordered, each with the name of its collection; never waits for an engine."""

    def update_aliases(self, changes: Sequence[AliasChange]) -> None:
        """Make, move and remove aliases."""

    def close(self) -> None:
        """Finish."""
