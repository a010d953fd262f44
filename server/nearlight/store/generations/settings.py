"""How a collection is indexed: what is configured, and what its size makes of it.

Sizes by measurement (FAISS 1.15.1, 2 cores, dim 512; see tests/bench/results): an exact search of 100,000
vectors takes 7 to 10 ms, a graph's 0.3 ms; below 200,000 points exactness costs little and a build, memory
and tombstones are saved. A graph over SQ8 codes costs about dim + 280 bytes a point; beyond two million
points it takes long to build, and inverted lists take over.
"""

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from nearlight.store.errors import InvalidCollection, shown

IndexKind = Literal["auto", "exact", "hnsw", "ivf"]

EXACT_UP_TO = 200_000
HNSW_UP_TO = 2_000_000
DEFAULT_RECALL_TARGET = 0.95
DEFAULT_HNSW_M = 32
DEFAULT_EF_CONSTRUCTION = 80
MIN_ROWS = 256  # no index is worth less
_MAX_EXACT_UP_TO = 2**53
_GRAPH_OVERHEAD = 1.1
_IVF_TRAINING_ROWS = 48
_SLACK_BYTES = 192 * 2**20  # the interpreter, FAISS, blocks of rows under way


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What overrides the store's choices; the zeros mean: the store chooses.

    Attributes:
        kind: of the index.
        exact_up_to: up to this many points the search is exact.
        hnsw_m: neighbours of a node, 4 to 128.
        hnsw_ef_construction: width of search while building, 8 to 4096.
        recall_target: recall@10 the index is tuned to, 0.5 to 1.
    """

    kind: IndexKind = "auto"
    exact_up_to: int = 0
    hnsw_m: int = 0
    hnsw_ef_construction: int = 0
    recall_target: float = 0.0

    @property
    def wanted_recall(self) -> float:
        """The target, or the store's."""
        return self.recall_target or DEFAULT_RECALL_TARGET

    def check(self) -> None:
        """Check the numbers.

        Raises:
            InvalidCollection: one is out of range.
        """
        if self.kind not in get_args(IndexKind):
            raise InvalidCollection("index.kind", shown(self.kind), "it must be auto, exact, hnsw or ivf")
        for name, lowest, highest in (
            ("exact_up_to", 0, _MAX_EXACT_UP_TO),
            ("hnsw_m", 4, 128),
            ("hnsw_ef_construction", 8, 4096),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidCollection(f"index.{name}", shown(value), "it must be an integer")
            if value and not lowest <= value <= highest:
                raise InvalidCollection(
                    f"index.{name}", shown(value), f"the limit is {lowest} to {highest}, 0 means chosen"
                )
        if self.recall_target and not 0.5 <= self.recall_target <= 1:
            raise InvalidCollection(
                "index.recall_target", shown(self.recall_target), "the limit is 0.5 to 1, 0 means chosen"
            )

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> "IndexSettings":
        """From the configuration of a collection; keys of a newer version are left alone."""
        stored = json.loads(text).get("index", {})
        return cls(**{key: stored[key] for key in cls.__slots__ if key in stored})


CHOSEN = IndexSettings()
"""The store chooses by size."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """A collection's index at one moment.

    Attributes:
        state: "ready"; "building": searchable, an index is being built; "degraded": searchable, exactly, an
            index file was bad and another is being built.
        kind: "exact", "hnsw" or "ivf".
        generation: number of the one in use, 0 where there is none.
        indexed_seq: it covers writes up to this seq.
        head_points: points that are compared one by one beside it.
        tombstones: dead points that are still in it.
        estimated_recall: recall@10 at the collection's target, measured on held-out vectors; 0 without one.
        problem: why the last build failed, "" where it did not.
    """

    state: Literal["ready", "building", "degraded"] = "ready"
    kind: Literal["exact", "hnsw", "ivf"] = "exact"
    generation: int = 0
    indexed_seq: int = 0
    head_points: int = 0
    tombstones: int = 0
    estimated_recall: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """An index to build.

    Attributes:
        kind: "hnsw" or "ivf".
        n_rows: about so many.
        dim: D.
        hnsw_m: neighbours of a node.
        hnsw_ef_construction: width of search while building.
        n_lists: of an inverted file.
        recall_target: recall@10 wanted.
        fallback_to_ivf: take inverted lists where the graph misses its target: tightly clustered vectors.
    """

    kind: Literal["hnsw", "ivf"]
    n_rows: int
    dim: int
    hnsw_m: int
    hnsw_ef_construction: int
    n_lists: int
    recall_target: float
    fallback_to_ivf: bool

    @property
    def n_training_rows(self) -> int:
        """Rows to train on."""
        lists = _IVF_TRAINING_ROWS * self.n_lists if self.kind == "ivf" or self.fallback_to_ivf else 0
        return min(self.n_rows, max(20_000, lists))

    @property
    def n_bytes(self) -> int:
        """Memory that building takes at most."""
        graph = self.n_rows * int((self.dim + 8 * self.hnsw_m) * _GRAPH_OVERHEAD)
        lists = self.n_rows * int((self.dim + 8) * _GRAPH_OVERHEAD)
        index = max(graph if self.kind == "hnsw" else 0, lists)
        if self.fallback_to_ivf:
            index = graph + lists
        training = 4 * self.dim * self.n_training_rows
        return index + training + 32 * self.n_rows + _SLACK_BYTES


def plan_for(n_points: int, dim: int, settings: IndexSettings, budget_bytes: int) -> BuildPlan | None:
    """What to build for a collection of this size; None: search it exactly.

    Args:
        n_points: live points.
        dim: D.
        settings: of the collection.
        budget_bytes: memory that building may take. A graph that needs more becomes inverted lists; where
            these do too, search stays exact.
    """
    exact_up_to = settings.exact_up_to or (EXACT_UP_TO if settings.kind == "auto" else 0)
    if settings.kind == "exact" or n_points <= max(exact_up_to, MIN_ROWS - 1):
        return None
    wants_graph = settings.kind == "hnsw" or (settings.kind == "auto" and n_points <= HNSW_UP_TO)
    graph = _plan("hnsw", n_points, dim, settings, falls_back=settings.kind == "auto")
    lists = _plan("ivf", n_points, dim, settings, falls_back=False)
    alone = _plan("hnsw", n_points, dim, settings, falls_back=False)
    for plan in (graph, alone, lists) if wants_graph else (lists,):
        if plan.n_bytes <= budget_bytes:
            return plan
    return None


def _plan(
    kind: Literal["hnsw", "ivf"], n_points: int, dim: int, settings: IndexSettings, falls_back: bool
) -> BuildPlan:
    return BuildPlan(
        kind=kind,
        n_rows=n_points,
        dim=dim,
        hnsw_m=settings.hnsw_m or DEFAULT_HNSW_M,
        hnsw_ef_construction=settings.hnsw_ef_construction or DEFAULT_EF_CONSTRUCTION,
        n_lists=max(4, min(65_536, int(4 * n_points**0.5))),
        recall_target=settings.wanted_recall,
        fallback_to_ivf=falls_back,
    )


def store_settings(connection: sqlite3.Connection, collection_id: int, settings: IndexSettings) -> None:
    """Keep them in the configuration of a collection; what else it holds stays."""
    select = "SELECT config FROM collections WHERE collection_id = ?"
    (config,) = connection.execute(select, (collection_id,)).fetchone()
    text = json.dumps({**json.loads(config), "index": settings.to_json()})
    connection.execute("UPDATE collections SET config = ? WHERE collection_id = ?", (text, collection_id))
