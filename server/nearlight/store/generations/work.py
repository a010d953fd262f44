"""What is being done about a collection's index."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nearlight.store.generations.settings import IndexSettings, IndexStatus
from nearlight.store.points import F32
from nearlight.store.view import ReadView

MAX_TEXTS = 256
_RECALL_LIMIT = 10


@dataclass(slots=True, eq=False)
class IndexWork:
    """What is being done about a collection's index. Written by the thread that keeps indexes.

    Attributes:
        settings: of the collection; the writer's thread changes them.
        built_with: settings that the generation in use was built with.
        is_building: an index is being built.
        is_degraded: a file was bad, and nothing has taken its place yet.
        n_failures: builds that failed, one after the other.
        retry_at: no build before, in seconds of the monotonic clock.
        problem: why the last one failed.
        texts: the last text queries, each (D,).
    """

    settings: IndexSettings = field(default_factory=IndexSettings)
    built_with: IndexSettings | None = None
    is_building: bool = False
    is_degraded: bool = False
    n_failures: int = 0
    retry_at: float = 0.0
    problem: str = ""
    texts: deque[F32] = field(default_factory=lambda: deque(maxlen=MAX_TEXTS))

    def text_queries(self, dim: int) -> F32:
        """(T, D) the last text queries."""
        texts = list(self.texts)
        return np.stack(texts) if texts else np.empty((0, dim), np.float32)

    def status(self, view: ReadView) -> IndexStatus:
        """What users are told."""
        state: Literal["ready", "building", "degraded"] = "building" if self.is_building else "ready"
        state = "degraded" if self.is_degraded else state
        if view.sealed is None:
            return IndexStatus(state, head_points=view.n_alive, problem=self.problem)
        generation = view.sealed.generation
        return IndexStatus(
            state,
            generation.kind,
            generation.number,
            generation.up_to_seq,
            view.beside_sealed.n_alive,
            view.sealed.n_dead,
            generation.tuning.effort_for(_RECALL_LIMIT, self.settings.wanted_recall)[1],
            self.problem,
        )
