"""Recall as it is: searches compared with an exact search, of the same queries over the same rows.

A share of live searches is kept, with the view that it saw, and searched again exactly by a thread of its own
when there is time; what was asked while a sample waits is not kept. Exact searches are not compared: their
recall is 1.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nearlight.store.exact import Scanner, Span
from nearlight.store.generations.search import Search, SearchParams
from nearlight.store.points import Hit
from nearlight.store.view import ReadView

DEFAULT_SHARE = 0.001
_LIMIT = 10
_MAX_WAITING = 4
_MAX_QUERIES = 8
_BANDS = ((0.5, "50-100%"), (0.1, "10-50%"), (0.01, "1-10%"), (0.001, "0.1-1%"))


@dataclass(frozen=True, slots=True)
class Sampled:
    """Recall@10 of a live query.

    Attributes:
        modality: what it was made of: "text", "image", "vector".
        selectivity: share of the points that its filter left: "all", "50-100%", ..., "below 0.1%".
        recall: 0 to 1.
    """

    modality: str
    selectivity: str
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    search: Search
    view: ReadView
    selectivity: str
    found: list[frozenset[int]]


class RecallSampler:
    """Compares a share of the searches of a store.

    Args:
        scanner: searches exactly.
        share: of the searches, 0 to 1.
    """

    def __init__(self, scanner: Scanner, share: float = DEFAULT_SHARE) -> None:
        self.share = share
        self.on_sample: Callable[[Sampled], None] | None = None
        self._scanner = scanner
        self._random = random.Random()
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def offer(self, search: Search, n_points: int, hits: Sequence[Sequence[Hit]]) -> None:
        """Keep a search with its share of chance, where it used an index; called by whoever searched."""
        if search.how.exact or self.on_sample is None or self._random.random() >= self.share:
            return
        span, view = search.span, search.seen
        if view is None or span.offset or span.limit < _LIMIT or span.score_threshold is not None:
            return  # its hits do not tell the best ten
        kept = Search(
            search.scanner,
            search.queries[:_MAX_QUERIES].copy(),
            Span(_LIMIT),
            SearchParams(exact=True),
            search.recall_target,
            False,
            search.modality,
        )
        found = [frozenset(hit.seq for hit in some[:_LIMIT]) for some in hits[:_MAX_QUERIES]]
        with self._changed:
            if self._closed or len(self._waiting) >= _MAX_WAITING:
                return
            self._waiting.append(_Waiting(kept, view, selectivity(view.n_alive, n_points), found))
            self._start()
            self._changed.notify_all()

    def wait_until_done(self, timeout_s: float) -> bool:
        """Wait until no sample waits; returns False when it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self) -> None:
        """Stop; what waits is dropped."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nearlight-store-recall", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                one = self._waiting[0]
            self._compare(one)
            with self._changed:
                with suppress(IndexError):
                    self._waiting.popleft()
                self._changed.notify_all()

    def _compare(self, one: _Waiting) -> None:
        for found, exact in zip(one.found, one.search(one.view), strict=False):
            true = set(exact.seqs.tolist())
            recall = len(found & true) / len(true) if true else 1.0
            if self.on_sample is not None:
                self.on_sample(Sampled(one.search.modality, one.selectivity, recall))


def selectivity(n_left: int, n_points: int) -> str:
    """The band of a filter that leaves so many points."""
    if n_left == n_points:
        return "all"
    return next((band for share, band in _BANDS if n_left >= share * n_points), "below 0.1%")
