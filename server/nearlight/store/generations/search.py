"""Searching a view that has a sealed generation: candidates from the index, exact scores, the head beside it.

Candidates are scored from the vectors themselves, so a hit has the score that an exact search gives it, and
the order is by score, then by seq. Where an index brings fewer rows than were asked for, as behind a filter
that keeps little of the query's neighbourhood, the query is searched exactly: there are never fewer hits
than exist.

A filter is planned by the rows that it leaves, which are counted: few of them are compared one by one; else
the index skips the others, and searches as much wider as the filter is narrow.
"""

from dataclasses import dataclass, field

import numpy as np

from nearlight.store.errors import InvalidQuery, shown
from nearlight.store.exact import Found, Scanner, Span
from nearlight.store.generations.sealed import MAX_EFFORT, Generation, SealedView
from nearlight.store.generations.tuning import n_candidates
from nearlight.store.points import F32, I64
from nearlight.store.view import ReadView

FEW_ROWS = 5000
FEW_SHARE = 0.02
_MOST_WIDENING = 12.0
_MOST_WANTED = 4096  # more hits than this are sooner found by comparing every vector


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How hard to search; the zeros mean: chosen.

    Attributes:
        exact: compare every vector.
        recall_target: recall@limit wanted, 0.5 to 1.
        hnsw_ef: width of search in a graph; it overrides the recall.
        ivf_nprobe: inverted lists to visit; likewise.
    """

    exact: bool = False
    recall_target: float = 0.0
    hnsw_ef: int = 0
    ivf_nprobe: int = 0

    def check(self) -> None:
        """Check the numbers.

        Raises:
            InvalidQuery: one is out of range.
        """
        if self.recall_target and not 0.5 <= self.recall_target <= 1:
            raise InvalidQuery("recall_target", shown(self.recall_target), "the limit is 0.5 to 1")
        for name in ("hnsw_ef", "ivf_nprobe"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_EFFORT:
                raise InvalidQuery(name, shown(value), f"the limit is 1 to {MAX_EFFORT}, 0 means chosen")


NO_PARAMS = SearchParams()
"""As hard as the recall that the collection wants takes."""


@dataclass(frozen=True, slots=True)
class How:
    """How a search went.

    Attributes:
        exact: every candidate was compared, for every query.
        estimated_recall: of the best `limit`, 0 to 1; None where nobody knows.
        index_kind: "flat", "hnsw" or "ivf".
        generation: number of the generation that was searched, 0 where none was.
        head_points: points that were compared beside it.
        hnsw_ef: width of search in the graph, 0 where there was none.
        ivf_nprobe: lists visited, likewise.
    """

    exact: bool = True
    estimated_recall: float | None = 1.0
    index_kind: str = "flat"
    generation: int = 0
    head_points: int = 0
    hnsw_ef: int = 0
    ivf_nprobe: int = 0


def plain_how(index_kind: str, n_points: int) -> How:
    """How a search went that a kind of index answered by itself: "flat" compared all points."""
    is_exact = index_kind == "flat"
    return How(is_exact, 1.0 if is_exact else None, index_kind, head_points=n_points if is_exact else 0)


@dataclass(slots=True, eq=False)
class Search:
    """One search: call it with the view; `how` says how the last call went.

    Attributes:
        scanner: compares rows.
        queries: (Q, D) unit length.
        span: which of the ordered rows to return.
        params: how hard to search.
        recall_target: of the collection, where `params` has none.
        with_vectors: return the rows' vectors too.
        modality: what the queries were made of.
        how: see above.
        seen: the view of the last call.
    """

    scanner: Scanner
    queries: F32
    span: Span
    params: SearchParams
    recall_target: float
    with_vectors: bool
    modality: str
    how: How = field(default_factory=How)
    seen: ReadView | None = None

    def __call__(self, view: ReadView) -> list[Found]:
        """The best rows of each query."""
        self.seen = view
        sealed = view.sealed
        wanted = min(self.span.offset + self.span.limit, view.n_alive)
        if sealed is None or self.params.exact or not self._is_worth_it(sealed, wanted):
            return self._exact(view)
        width = _widened(sealed)
        effort, recall = self._effort(sealed.generation, wanted)
        k, is_graph = min(n_candidates(wanted), sealed.n_alive), sealed.generation.kind == "hnsw"
        effort = min(int(effort * width), MAX_EFFORT)
        if is_graph:
            effort = max(effort, k)  # a graph is searched at least as wide as what it shall bring
        head = view.beside_sealed
        scores, seqs = self._proposals(sealed, k, effort)  # (Q, K)
        # Where a graph brings less than it was asked for, most of the query's neighbourhood is left out, and
        # what it did bring is not the best; lists may hold fewer.
        needed = k if is_graph else min(wanted, k)
        is_whole = scores.shape[1] >= needed and scores.min(initial=0) > -np.inf  # as nearly always
        short = [] if is_whole else np.flatnonzero((scores > -np.inf).sum(axis=1) < needed).tolist()
        if head.n_alive:
            scores, seqs = self._with_head(head, wanted, scores, seqs)
        found = _best(view, scores, seqs, self.span, wanted, self.with_vectors)
        self._note(sealed.generation, effort, recall, head.n_alive)
        if len(short):
            again = self.scanner.search(view, self.queries[short], self.span, with_vectors=self.with_vectors)
            for i, one in zip(short, again, strict=True):
                found[i] = one
            if len(short) == len(found):
                self.how = How(head_points=view.n_alive)
        return found

    def _exact(self, view: ReadView) -> list[Found]:
        self.how = How(head_points=view.n_alive)
        return self.scanner.search(view, self.queries, self.span, with_vectors=self.with_vectors)

    def _is_worth_it(self, sealed: SealedView, wanted: int) -> bool:
        few = max(FEW_ROWS, int(FEW_SHARE * sealed.generation.n_rows))
        is_narrow = sealed.n_alive < sealed.generation.n_rows and sealed.n_alive <= few
        return not is_narrow and 0 < wanted <= min(_MOST_WANTED, sealed.n_alive // 4)

    def _effort(self, generation: Generation, wanted: int) -> tuple[int, float]:
        """The effort to search with, and the recall that was measured at it."""
        fixed = self.params.hnsw_ef if generation.kind == "hnsw" else self.params.ivf_nprobe
        if fixed:
            return fixed, generation.tuning.recall_of(wanted, fixed)
        target = self.params.recall_target or self.recall_target
        return generation.effort_for(wanted, target)

    def _proposals(self, sealed: SealedView, k: int, effort: int) -> tuple[F32, I64]:
        """Scores, -inf where there is none, and seqs (Q, k) of candidates of the generation."""
        allowed = sealed.alive if sealed.n_dead else None

        def propose(queries: F32) -> tuple[F32, I64]:
            rows = sealed.generation.candidates(queries, k, effort, allowed)
            if rows.min(initial=0) >= 0:
                return sealed.scores(queries, rows), sealed.generation.seqs[rows]
            missing = rows < 0
            rows[missing] = 0
            scores = sealed.scores(queries, rows)
            scores[missing] = -np.inf
            return scores, sealed.generation.seqs[rows]

        parts = self.scanner.in_parts(propose, self.queries)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _with_head(self, head: ReadView, wanted: int, scores: F32, seqs: I64) -> tuple[F32, I64]:
        """The same beside the best rows of the head."""
        n = min(wanted, head.n_alive)
        found = self.scanner.search(head, self.queries, Span(n))
        more_scores = np.stack([one.scores for one in found])  # (Q, n)
        more_seqs = np.stack([one.seqs for one in found])
        return np.concatenate([scores, more_scores], axis=1), np.concatenate([seqs, more_seqs], axis=1)

    def _note(self, generation: Generation, effort: int, recall: float, head_points: int) -> None:
        is_graph = generation.kind == "hnsw"
        self.how = How(
            exact=False,
            estimated_recall=recall,
            index_kind=generation.kind,
            generation=generation.number,
            head_points=head_points,
            hnsw_ef=effort if is_graph else 0,
            ivf_nprobe=0 if is_graph else effort,
        )


def _widened(sealed: SealedView) -> float:
    """How much wider to search, so that as many allowed rows are seen as would be without a filter."""
    return min(_MOST_WIDENING, sealed.generation.n_rows / max(1, sealed.n_alive))


def _best(view: ReadView, scores: F32, seqs: I64, span: Span, wanted: int, with_vectors: bool) -> list[Found]:
    """The rows of the span among candidates (Q, K), ordered by score, then by seq."""
    order = np.lexsort((seqs, -scores), axis=-1)[:, span.offset : wanted]  # (Q, limit)
    row = np.arange(len(scores))[:, np.newaxis]
    scores, seqs = scores[row, order], seqs[row, order]
    lowest = np.float32(-np.inf if span.score_threshold is None else span.score_threshold)
    # Scores fall, so those kept come first.
    n_kept = ((scores > -np.inf) & (scores >= lowest)).sum(axis=1).tolist()
    return [
        Found(
            seqs[query, :n],
            scores[query, :n],
            vectors_of(view, seqs[query, :n]) if with_vectors else None,
        )
        for query, n in enumerate(n_kept)
    ]


def vectors_of(view: ReadView, seqs: I64) -> F32:
    """The vectors (N, D) of rows of the view, in the order of these seqs (N,)."""
    vectors = np.empty((len(seqs), view.dim), np.float32)
    firsts = np.array([chunk.seqs[0] for chunk in view.chunks])
    chunks = np.searchsorted(firsts, seqs, side="right") - 1
    for i in np.unique(chunks):
        chunk, some = view.chunks[i], chunks == i
        vectors[some] = chunk.vectors[np.searchsorted(chunk.seqs[: chunk.n_rows], seqs[some])]
    return vectors
