"""Fits how logits become honest probabilities, and measures how honest they are. Everything in float64.

Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. With a bias for
sigmoid models: Platt 1999, "Probabilistic Outputs for Support Vector Machines", with plain targets 0 and 1.
Both minimise a negative log likelihood that is convex in 1 / temperature and bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scoring = Literal["softmax", "sigmoid"]

BINS = 15
MIN_IMAGES = 20
_MAX_STEPS = 200
_CLOSE = 1e-13  # relative change of a parameter at which it counts as found


class NotFittable(ValueError):
    """The labelled images do not say what the temperature is; the message says why."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions whose confidence lies in (m / bins, (m + 1) / bins]; zeros where there are none."""

    count: int
    accuracy: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How good probabilities are, on some images.

    Attributes:
        accuracy: share of images whose best label is right.
        nll: negative log likelihood: of the right label (softmax), or the mean over all labels (sigmoid).
        ece: expected calibration error of the best label's probability.
        bins: what it is made of.
    """

    accuracy: float
    nll: float
    ece: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A temperature and a bias, the images used, and the quality before and after on images held out."""

    temperature: float
    bias: float
    images: int
    held_out_images: int
    before: Quality
    after: Quality


def calibrate(logits: F64, truth: Ints, scoring: Scoring, held_out: float = 0.5, seed: int = 0) -> Fitted:
    """Fits on one part of the images, drawn at random, and measures on the other.

    Args:
        logits: (N, L) as the model was trained.
        truth: (N,) index of the right label.
        scoring: of the model.
        held_out: share of images that are only measured on, above 0 and below 1.
        seed: of the draw.

    Raises:
        NotFittable: fewer than 20 images, or none of the fitted part says how sure to be; see `fit_softmax`.
    """
    if len(logits) < MIN_IMAGES:
        raise NotFittable(f"there are {len(logits)} labelled images; at least {MIN_IMAGES} are needed")
    order = np.random.default_rng(seed).permutation(len(logits))
    n_held_out = min(max(round(len(logits) * held_out), 1), len(logits) - 1)
    measured, fitted = order[:n_held_out], order[n_held_out:]
    if scoring == "sigmoid":
        temperature, bias = fit_sigmoid(logits[fitted], truth[fitted])
    else:
        temperature, bias = fit_softmax(logits[fitted], truth[fitted]), 0.0
    before = quality(logits[measured], truth[measured], scoring)
    after = quality(logits[measured] / temperature + bias, truth[measured], scoring)
    return Fitted(temperature, bias, len(fitted), n_held_out, before, after)


def fit_softmax(logits: F64, truth: Ints) -> float:
    """The temperature T > 0 that makes softmax(logits / T) most likely.

    Newton's method on the derivative by 1 / T, kept inside a bracket by bisection.

    Args:
        logits: (N, L).
        truth: (N,).

    Raises:
        NotFittable: every image is labelled rightly (T would be 0), or no better than by chance (T infinite).
    """
    rows = np.arange(len(logits))
    centred = logits - logits.max(axis=1, keepdims=True)  # (N, L), exp of it cannot overflow
    right = centred[rows, truth]  # (N,)
    if not right.any():
        raise NotFittable(
            f"all {len(logits)} fitted images are labelled rightly, so no temperature is the best; "
            "give harder or more images"
        )
    if (centred.mean(axis=1) - right).mean() >= 0:
        raise NotFittable("the model labels these images no better than by chance; are they of these labels?")

    def slope(beta: float) -> tuple[float, float]:
        powers = np.exp(beta * centred)
        weights = powers / powers.sum(axis=1, keepdims=True)  # (N, L)
        means = (weights * centred).sum(axis=1)  # (N,)
        spreads = (weights * (centred - means[:, None]) ** 2).sum(axis=1)  # (N,)
        return float((means - right).mean()), float(spreads.mean())

    low, high = 0.0, 1.0
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    beta = (low + high) / 2
    for _ in range(_MAX_STEPS):
        first, second = slope(beta)
        low, high = (beta, high) if first < 0 else (low, beta)
        newton = beta - first / second if second > 0 else low
        following = newton if low <= newton <= high else (low + high) / 2
        if abs(following - beta) <= _CLOSE * beta:
            break
        beta = following
    return 1 / following


def fit_sigmoid(logits: F64, truth: Ints) -> tuple[float, float]:
    """The temperature T > 0 and bias b that make sigmoid(logits / T + b) most likely over all pairs.

    Every image is a positive of its label and a negative of each other one. Newton's method, steps halved
    while they go up.

    Args:
        logits: (N, L).
        truth: (N,).

    Raises:
        NotFittable: as for `fit_softmax`.
    """
    signs = np.full(logits.shape, -1.0)  # (N, L)
    signs[np.arange(len(logits)), truth] = 1.0
    if logits[signs > 0].min() >= logits[signs < 0].max(initial=-np.inf):
        raise NotFittable(
            f"one threshold parts right from wrong on all {len(logits)} fitted images, so no temperature is "
            "the best; give harder or more images"
        )
    centre, spread = float(logits.mean()), float(logits.std())  # Newton likes numbers near 1
    scaled = (logits - centre) / spread
    slope, offset = spread, centre  # as trained
    best = _pair_loss(scaled, signs, slope, offset)
    for _ in range(_MAX_STEPS):
        step = _newton_step(scaled, signs, slope, offset)
        share = 1.0
        while share > 1e-9:
            loss = _pair_loss(scaled, signs, slope + share * step[0], offset + share * step[1])
            if loss <= best:
                break
            share /= 2
        else:
            break  # no step goes down any more: rounding is all that is left
        slope, offset, best = slope + share * step[0], offset + share * step[1], loss
        if np.abs(step).max() <= _CLOSE * (abs(slope) + abs(offset)):
            break
    if slope <= 0:
        raise NotFittable("the model labels these images no better than by chance; are they of these labels?")
    return spread / slope, offset - slope * centre / spread


def _newton_step(scaled: F64, signs: F64, slope: float, offset: float) -> F64:
    """The step (2,) of slope and offset."""
    chance = _sigmoid(slope * scaled + offset)
    errors = chance - (signs > 0)  # (N, L)
    weights = chance * (1 - chance)  # (N, L)
    gradient = np.array([(errors * scaled).mean(), errors.mean()])
    mixed = (weights * scaled).mean()
    hessian = np.array([[(weights * scaled**2).mean(), mixed], [mixed, weights.mean()]])
    return np.asarray(np.linalg.solve(hessian + 1e-15 * np.eye(2), -gradient))


def _pair_loss(scaled: F64, signs: F64, slope: float, offset: float) -> float:
    return float(np.logaddexp(0, -signs * (slope * scaled + offset)).mean())


def quality(logits: F64, truth: Ints, scoring: Scoring) -> Quality:
    """How good the probabilities of logits (N, L) are, where truth (N,) is right."""
    rows = np.arange(len(logits))
    best = logits.argmax(axis=1)  # (N,)
    correct = best == truth
    if scoring == "sigmoid":
        confidences = _sigmoid(logits[rows, best])
        signs = np.full(logits.shape, -1.0)
        signs[rows, truth] = 1.0
        nll = _pair_loss(logits, signs, 1.0, 0.0)
    else:
        norms = np.logaddexp.reduce(logits, axis=1)  # (N,)
        confidences = np.exp(logits[rows, best] - norms)
        nll = float((norms - logits[rows, truth]).mean())
    bins = reliability(confidences, correct)
    return Quality(float(correct.mean()), nll, expected_calibration_error(bins), bins)


def reliability(confidences: F64, correct: npt.NDArray[np.bool_], bins: int = BINS) -> tuple[Bin, ...]:
    """Accuracy and mean confidence in bins of equal width; 0 belongs to the first.

    Args:
        confidences: (N,), 0 to 1.
        correct: (N,).
        bins: M.
    """
    edges = np.arange(1, bins) / bins  # (M - 1,) the inner ones
    places = np.searchsorted(edges, confidences, side="left")  # (N,): edges[m - 1] < confidence <= edges[m]
    found = []
    for place in range(bins):
        inside = places == place
        count = int(inside.sum())
        accuracy, confidence = (correct[inside].mean(), confidences[inside].mean()) if count else (0.0, 0.0)
        found.append(Bin(count, float(accuracy), float(confidence)))
    return tuple(found)


def expected_calibration_error(bins: tuple[Bin, ...]) -> float:
    """ECE = sum over bins of |B_m| / n * |acc(B_m) - conf(B_m)|, 0 to 1.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017,
    equation 3.
    """
    n = sum(one.count for one in bins)
    return sum(one.count / n * abs(one.accuracy - one.confidence) for one in bins)


def _sigmoid(numbers: F64) -> F64:
    small = np.exp(-np.abs(numbers))  # of a number that is never positive: cannot overflow
    return np.asarray(np.where(numbers >= 0, 1.0, small) / (1.0 + small))
