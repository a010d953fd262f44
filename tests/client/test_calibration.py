"""The solver against a grid, the error against loops, the split against what it promises."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.client.calibration import (
    Bin,
    NotFittable,
    calibrate,
    expected_calibration_error,
    fit_sigmoid,
    fit_softmax,
    quality,
    reliability,
)

F64 = npt.NDArray[np.float64]


def softmax(logits: F64) -> F64:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def drawn(seed: int, n: int, n_labels: int, temperature: float) -> tuple[F64, Any]:
    """Logits, and truths drawn with the probabilities of logits / temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_labels)) * 3 + rng.normal(size=n_labels)
    chance = softmax(logits / temperature)
    truth = np.array([rng.choice(n_labels, p=row) for row in chance])
    return logits, truth


def naive_softmax_nll(logits: F64, truth: Any, temperature: float) -> float:
    total = 0.0
    for row, right in zip(logits.tolist(), truth, strict=True):
        gaps = [(value - max(row)) / temperature for value in row]
        total += math.log(sum(math.exp(gap) for gap in gaps)) - gaps[right]
    return total / len(logits)


def naive_sigmoid_nll(logits: F64, truth: Any, temperature: float, bias: float) -> float:
    total = 0.0
    for row, right in zip(logits, truth, strict=True):
        for label, value in enumerate(row):
            chance = 1 / (1 + np.exp(-(value / temperature + bias)))
            total -= np.log(chance if label == right else 1 - chance)
    return float(total / logits.size)


def naive_ece(confidences: F64, correct: Any, bins: int) -> float:
    error = 0.0
    for m in range(bins):
        inside = [
            i for i, p in enumerate(confidences) if (m / bins < p <= (m + 1) / bins) or (m == 0 and p == 0)
        ]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_is_the_formula(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    on_edges = rng.integers(0, bins + 1, 40) / bins
    confidences = np.concatenate([rng.random(60) ** 2, on_edges, [0.0, 1.0]])
    correct = rng.random(len(confidences)) < 0.6
    found = reliability(confidences, correct, bins)
    assert sum(one.count for one in found) == len(confidences)
    assert expected_calibration_error(found) == pytest.approx(
        naive_ece(confidences, correct, bins), abs=1e-12
    )


def test_ece_by_hand() -> None:
    # Four at 0.8 of which two are right, one at 0.4 that is right: 4/5 * 0.3 + 1/5 * 0.6
    found = reliability(np.array([0.8, 0.8, 0.8, 0.8, 0.4]), np.array([True, True, False, False, True]), 15)
    assert expected_calibration_error(found) == pytest.approx(0.36)
    assert {m: one for m, one in enumerate(found) if one.count} == {5: Bin(1, 1.0, 0.4), 11: Bin(4, 0.5, 0.8)}


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1.0), (2, 30.0), (3, 1e-3)])
def test_the_temperature_is_the_best_of_a_grid(seed: int, scale: float) -> None:
    logits, truth = drawn(seed, 80, 4, 2.0)
    logits = logits * scale
    found = fit_softmax(logits, truth)
    best = naive_softmax_nll(logits, truth, found)
    for span in (9.0, 1.0, 0.01, 1e-4):  # from far around to close by
        factors = np.exp(np.linspace(-span, span, 101))
        losses = [naive_softmax_nll(logits, truth, found * factor) for factor in factors]
        assert int(np.argmin(losses)) == 50
        assert losses[50] == pytest.approx(best, abs=1e-15)


def test_the_temperature_that_made_the_labels_is_found() -> None:
    logits, truth = drawn(7, 40_000, 5, 1.7)
    assert fit_softmax(logits, truth) == pytest.approx(1.7, rel=0.03)


def sigmoid_drawn(seed: int) -> tuple[F64, Any]:
    logits, truth = drawn(seed, 60, 4, 3.0)
    return logits * 4 - 30, truth


@pytest.mark.parametrize("seed", range(3))
def test_temperature_and_bias_are_the_best_of_a_grid(seed: int) -> None:
    logits, truth = sigmoid_drawn(seed)
    temperature, bias = fit_sigmoid(logits, truth)
    best = naive_sigmoid_nll(logits, truth, temperature, bias)
    for factor in np.exp(np.linspace(-0.5, 0.5, 11)):
        for shift in np.linspace(-1, 1, 11):
            if (factor, shift) != (1.0, 0.0):
                assert naive_sigmoid_nll(logits, truth, temperature * factor, bias + shift) > best
    for step in (1e-4, -1e-4):  # and no slope is left
        assert naive_sigmoid_nll(logits, truth, temperature * (1 + step), bias) >= best
        assert naive_sigmoid_nll(logits, truth, temperature, bias + step) >= best


def test_the_bias_that_made_the_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60_000, 2)) * 5 - 8
    # Pairs of which exactly one is right, with the odds of two independent sigmoids.
    odds = np.exp(logits / 2.0)
    truth = (rng.random(60_000) < odds[:, 1] / odds.sum(axis=1)).astype(np.int64)
    temperature, bias = fit_sigmoid(logits, truth)
    before = naive_sigmoid_nll(logits[:2000], truth[:2000], 1.0, 0.0)
    assert naive_sigmoid_nll(logits[:2000], truth[:2000], temperature, bias) < before
    chance = 1 / (1 + np.exp(-(logits / temperature + bias)))
    assert chance.mean() == pytest.approx(0.5, abs=1e-9)  # what a fitted bias guarantees


def test_quality_is_that_of_the_probabilities() -> None:
    logits, truth = drawn(3, 200, 4, 1.0)
    chance = softmax(logits)
    found = quality(logits, truth, "softmax")
    correct = chance.argmax(axis=1) == truth
    assert found.accuracy == correct.mean()
    assert found.ece == pytest.approx(naive_ece(chance.max(axis=1), correct, 15), abs=1e-12)
    assert found.nll == pytest.approx(naive_softmax_nll(logits, truth, 1.0))
    each = quality(logits, truth, "sigmoid")
    confidences = 1 / (1 + np.exp(-logits.max(axis=1)))
    assert each.ece == pytest.approx(naive_ece(confidences, correct, 15), abs=1e-12)
    assert each.nll == pytest.approx(naive_sigmoid_nll(logits, truth, 1.0, 0.0))


def test_calibrating_makes_it_better_on_images_it_never_saw() -> None:
    logits, truth = drawn(5, 4000, 6, 3.0)
    fitted = calibrate(logits, truth, "softmax")
    assert fitted.after.ece < 0.05 < 0.1 < fitted.before.ece
    assert fitted.after.nll < fitted.before.nll
    assert fitted.after.accuracy == fitted.before.accuracy
    assert fitted.images == fitted.held_out_images == 2000


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_fitting_and_measuring_share_no_image(scoring: Any) -> None:
    logits, truth = drawn(5, 100, 4, 2.0)
    whole = calibrate(logits, truth, scoring, held_out=0.25, seed=3)
    order = np.random.default_rng(3).permutation(100)
    measured, fitted = order[:25], order[25:]
    assert (whole.images, whole.held_out_images) == (75, 25)
    other = truth.copy()
    other[measured] = (other[measured] + 1) % 4
    changed = calibrate(logits, other, scoring, held_out=0.25, seed=3)
    assert (changed.temperature, changed.bias) == (whole.temperature, whole.bias)
    assert changed.before.ece != whole.before.ece
    other = truth.copy()
    other[fitted[:20]] = (other[fitted[:20]] + 1) % 4
    changed = calibrate(logits, other, scoring, held_out=0.25, seed=3)
    assert changed.temperature != whole.temperature
    assert changed.before == whole.before


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_what_says_nothing_of_the_temperature(scoring: Any) -> None:
    right = np.eye(4)[np.arange(40) % 4] * 9
    with pytest.raises(NotFittable, match="no temperature is the best"):
        calibrate(right, np.arange(40) % 4, scoring)
    with pytest.raises(NotFittable, match="by chance"):
        calibrate(-right + np.arange(40)[:, None] * 0.01, np.arange(40) % 4, scoring)
    with pytest.raises(NotFittable, match="19 labelled images; at least 20"):
        calibrate(right[:19], np.arange(19) % 4, scoring)
