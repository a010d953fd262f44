"""How likely a hit is meant: its cosine against the cosines of queries that mean something else.

One flat threshold on cosines cannot part relevant from irrelevant hits: some points are near to every query,
some queries are near to every point, and the best of many points is near to any. So three corrections, all
fitted without labels, from the collection's own vectors and a bank of queries about other things:

1. Per point x, half of its mean cosine with the bank is taken off: u = s - mean_x / 2. Half, because that is
   the mean of the plain score and of the score centred on the point, as symmetric score normalisation
   averages the views of both sides (Kenny 2010, "Bayesian Speaker Verification with Heavy-Tailed Priors"; the
   one-sided forms are in Auckenthaler, Carey, Lloyd-Thomas 2000).
2. Per query q, the u of the best hit it would have if nothing were meant is predicted from its bulk: linear
   in the median and the lower spread (median - 16 % quantile) of its u over a sample of the collection. The
   few points that do match are all in the upper tail and change neither. Least squares over the bank.
3. What is left is taken as Gumbel distributed, as the best of many is (Gumbel 1958, "Statistics of Extremes";
   by the same reasoning BLAST has its P-values, Karlin and Altschul 1990), location and scale from quartiles:
   relevance = exp(-exp(-(u - predicted - location) / scale)). It is the chance that a query which means
   something else has no hit as good as this one in the whole collection.

The best of n normal numbers grows as r(n) = sqrt(2 ln n) (Fisher and Tippett 1928): among n points instead of
the n_points fitted on, the location is larger by growth * (r(n) - r(n_points)), where growth is measured
between a quarter of the points and all of them. Cosines have shorter tails than normal numbers, so a grown
collection is judged too strictly rather than too kindly.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearlight.store.errors import InvalidQuery
from nearlight.store.points import F32
from nearlight.store.view import ReadView

F64 = npt.NDArray[np.float64]

MIN_POINTS = 50
MIN_BANK = 16
MAX_SAMPLE = 10_000
PART = 4  # the growth is measured between every 4th point and all of them
ITSELF = 0.9999  # a cosine from here on is of a point with itself, or with a copy, and says nothing of others
LOW_QUANTILE = 0.16  # one deviation below the median of normal numbers
_LEAST_SCALE = 1e-4
# Quantile p of a Gumbel distribution: location - scale * ln(-ln p).
_QUARTILES = (0.25, 0.5, 0.75)
_QUARTILE_RANGE = float(np.log(np.log(4)) - np.log(np.log(4 / 3)))  # in units of scale
_MEDIAN = float(-np.log(np.log(2)))


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """What the best scores of queries of one modality look like where nothing is meant.

    Attributes:
        bank: (K, D) unit vectors of queries.
        weights: (3,) of one, median and spread of a query's u.
        location: of what is left of the best u.
        scale: of it.
        growth: of the location with r(n).
        n_points: points among which the best was sought.
        midpoint: cosine at which the relevance of a typical point is one half for a typical query.
    """

    bank: F32
    weights: F64
    location: float
    scale: float
    growth: float
    n_points: int
    midpoint: float

    def centres(self, vectors: F32) -> F64:
        """Mean cosine (N,) of each of these (N, D) with the bank, but for those with itself."""
        return _centres(self.bank @ vectors.T)

    def level(self, query: F32, vectors: F32, centres: F64) -> float:
        """The u expected of the best hit of a query if nothing is meant.

        Args:
            query: (D,) unit length.
            vectors: (N, D) a sample of the collection, some hundreds.
            centres: (N,) theirs.
        """
        u = vectors @ query - centres / 2  # (N,)
        return float((_bulk(u[np.newaxis]) @ self.weights)[0])

    def relevance(self, level: float, scores: F32, vectors: F32, n_points: int) -> F64:
        """How likely hits are meant.

        Args:
            level: of the query.
            scores: (H,) cosines of the query and the hits.
            vectors: (H, D) of the hits, unit length.
            n_points: of the collection, or of those that passed the filter.

        Returns:
            (H,), 0 to 1.
        """
        u = scores.astype(np.float64) - self.centres(vectors) / 2  # (H,)
        location = level + self.location + self.growth * (_r(n_points) - _r(self.n_points))
        with np.errstate(over="ignore"):  # exp of a large number: relevance 0, as it should be
            return np.asarray(np.exp(-np.exp(-(u - location) / self.scale)))


def fit_null(bank: F32, vectors: F32) -> Null:
    """Fits the null of a bank of queries to vectors of a collection.

    Args:
        bank: (K, D) unit vectors, K at least 16.
        vectors: (N, D) unit vectors, N at least 50.

    Raises:
        InvalidQuery: fewer, or hardly any that differ.
    """
    if len(vectors) < MIN_POINTS:
        raise InvalidQuery("points", str(len(vectors)), f"at least {MIN_POINTS} are needed to calibrate")
    if len(bank) < MIN_BANK:
        raise InvalidQuery("bank", f"{len(bank)} queries", f"at least {MIN_BANK} are needed to calibrate")
    scores = bank @ vectors.T  # (K, N)
    centres = _centres(scores)
    u = scores - centres / 2  # (K, N)
    of_others = np.where(scores < ITSELF, u, -np.inf)
    best, best_of_part = of_others.max(axis=1), of_others[:, ::PART].max(axis=1)  # (K,)
    usable = np.isfinite(best_of_part)  # not queries that are every point
    if usable.sum() < MIN_BANK:
        raise InvalidQuery("points", "copies of a few", "points that differ are needed to calibrate")
    bulk, best = _bulk(u)[usable], best[usable]
    weights = np.linalg.lstsq(bulk, best, rcond=None)[0]  # (3,)
    low, middle, high = np.quantile(best - bulk @ weights, _QUARTILES)
    scale = max(float(high - low) / _QUARTILE_RANGE, _LEAST_SCALE)
    location = float(middle) - scale * _MEDIAN
    gained = float(np.median(best) - np.median(best_of_part[usable]))
    growth = gained / (_r(len(vectors)) - _r(len(vectors[::PART])))
    midpoint = float(np.median(bulk @ weights) + middle + np.median(centres) / 2)
    return Null(bank, weights, location, scale, growth, len(vectors), min(midpoint, 1.0))


def sample(view: ReadView, n: int, seed: int) -> F32:
    """Up to n live vectors, drawn without putting back: (min(n, alive), D)."""
    live = [chunk.live_rows() for chunk in view.chunks]
    ends = np.cumsum([0, *map(len, live)])
    drawn = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:n])
    parts = [
        chunk.vectors[rows[drawn[(drawn >= start) & (drawn < end)] - start]]
        for chunk, rows, start, end in zip(view.chunks, live, ends[:-1], ends[1:], strict=True)
    ]
    return np.concatenate([np.empty((0, view.dim), np.float32), *parts])


def _r(n: int) -> float:
    return math.sqrt(2 * math.log(max(n, 1)))


def _bulk(u: F64) -> F64:
    """One, median and spread (K, 3) of each row (K, N)."""
    low, middle = np.quantile(u, (LOW_QUANTILE, 0.5), axis=1)
    return np.stack([np.ones(len(u)), middle, middle - low], axis=1)


def _centres(scores: F32) -> F64:
    """Mean (N,) of the scores (K, N) of each point, but for those with itself."""
    wide = scores.astype(np.float64)
    counts = wide < ITSELF  # (K, N)
    return np.asarray(np.where(counts, wide, 0.0).sum(axis=0) / np.maximum(counts.sum(axis=0), 1))
