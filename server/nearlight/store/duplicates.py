"""Groups of points that show (nearly) the same: by the cosine of vectors, or by perceptual hashes.

A group is a connected component: two of its points need not be alike themselves, if others lead from one to
the other. Its first point is the oldest, that is the one written first.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearlight.store import rows
from nearlight.store.collection import Collection
from nearlight.store.components import Components
from nearlight.store.errors import InvalidQuery
from nearlight.store.filters.checks import check_filter
from nearlight.store.filters.conditions import Filter
from nearlight.store.pairs import U64, Pairs, Rows, alike, similar
from nearlight.store.points import F32, I64, Hit
from nearlight.store.searching import State

HASH_BITS = 64
_HASHES = """
SELECT seq, perceptual_hash FROM points
WHERE collection_id = ? AND perceptual_hash IS NOT NULL ORDER BY seq
"""


@dataclass(frozen=True, slots=True, eq=False)
class DuplicateGroup:
    """Points that are alike.

    Attributes:
        seqs: (K,) ascending, at least two.
        scores: (K,) against the first: the cosine, or the share of equal bits; of the first itself 1.
    """

    seqs: I64
    scores: F32


def _go_on() -> None:
    return


class Duplicates:
    """Finds duplicates. All methods block and may be called from any thread."""

    def by_vector(
        self,
        collection: Collection,
        min_score: float,
        filter: Filter | None = None,
        go_on: Callable[[], None] = _go_on,
    ) -> list[DuplicateGroup]:
        """Groups of points whose vectors are near each other, largest first, in one committed state.

        It compares every vector with every other: 5 · 10⁹ products for 100,000 points. Memory does not grow
        with the number of pairs.

        Args:
            collection: to look at.
            min_score: least cosine of a pair, above 0, at most 1.
            filter: only points that pass.
            go_on: called between blocks; what it raises ends the search.

        Raises:
            InvalidQuery: the score is out of range, or the filter is refused.
        """
        if not 0 < min_score <= 1:  # refuses NaN too
            raise InvalidQuery("min_score", str(min_score), "it must be above 0 and at most 1")
        if filter is not None:
            check_filter(filter)
        with collection._searcher.state() as state:
            view = Rows(collection._searcher.view_of(state, filter))
        found = _components(len(view), similar(view, min_score, go_on))
        seqs = view.seqs()
        return [DuplicateGroup(seqs[group], _cosines(view.take(group))) for group in found]

    def by_hash(
        self,
        collection: Collection,
        max_bits: int,
        filter: Filter | None = None,
        go_on: Callable[[], None] = _go_on,
    ) -> list[DuplicateGroup]:
        """Groups of points whose images have nearly the same perceptual hash, largest first; see `by_vector`.

        Args:
            collection: to look at; points without a hash are in no group.
            max_bits: most bits in which a pair differs, 0 to 64.
            filter: only points that pass.
            go_on: called between blocks; what it raises ends the search.

        Raises:
            InvalidQuery: the number of bits is out of range, or the filter is refused.
        """
        if not 0 <= max_bits <= HASH_BITS:
            raise InvalidQuery("max_distance_bits", str(max_bits), f"it must be 0 to {HASH_BITS}")
        if filter is not None:
            check_filter(filter)
        with collection._searcher.state() as state:
            seqs, hashes = _hashes(state, collection._place)
            if filter is not None:
                passes = np.isin(seqs, Rows(collection._searcher.view_of(state, filter)).seqs())
                seqs, hashes = seqs[passes], hashes[passes]
        found = _components(len(hashes), alike(hashes, max_bits, go_on))
        return [DuplicateGroup(seqs[group], _equal_bits(hashes[group])) for group in found]

    def hits(self, collection: Collection, groups: Iterable[DuplicateGroup]) -> list[list[Hit]]:
        """The points of each group, without those that are gone since; none where fewer than two are left."""
        wanted = list(groups)
        seqs = np.concatenate([np.empty(0, np.int64), *(group.seqs for group in wanted)])
        with collection._searcher.state() as state:
            stored = rows.by_seqs(state.connection, collection._place, seqs.tolist())
        made = [
            [
                Hit(stored[seq][0], score, stored[seq][1], None, seq)
                for seq, score in zip(group.seqs.tolist(), group.scores.tolist(), strict=True)
                if seq in stored
            ]
            for group in wanted
        ]
        return [hits if len(hits) > 1 else [] for hits in made]


def _components(n: int, pairs: Iterable[Pairs]) -> list[I64]:
    grown = Components(n)
    for some in pairs:
        grown.join(some.left, some.right)
    return grown.groups()


def _hashes(state: State, place: rows.Place) -> tuple[I64, U64]:
    found = state.connection.execute(_HASHES, (place.collection_id,)).fetchall()
    both = np.array(found, np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy().view(np.uint64)


def _cosines(vectors: F32) -> F32:
    wide = vectors.astype(np.float64)  # (K, D)
    scores: F32 = np.clip(wide @ wide[0], -1, 1).astype(np.float32)
    return scores


def _equal_bits(hashes: U64) -> F32:
    differing = np.unpackbits((hashes ^ hashes[0]).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)  # (K,)
    share: npt.NDArray[np.float64] = 1 - differing / HASH_BITS
    return share.astype(np.float32)
