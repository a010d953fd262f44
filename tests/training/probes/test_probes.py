import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from nearlight.training.probes.alignment import alignment
from nearlight.training.probes.calibration import calibration_error
from nearlight.training.probes.features import Remembered
from nearlight.training.probes.knn import vote
from nearlight.training.probes.linear import fit
from nearlight.training.sources import Source, open_source
from nearlight.training.watch import effective_rank, spread, uniformity


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_votes_against_a_loop() -> None:
    bank, query = torch.randn(50, 6, generator=generator()), torch.randn(20, 6, generator=generator(1))
    labels = torch.randint(4, (50,), generator=generator(2))
    found = vote(bank, labels, query, 4, 7, 0.1)
    for row, guess in zip(query, found.tolist(), strict=True):
        cosines = [float(row @ b / row.norm() / b.norm()) for b in bank]
        nearest = sorted(range(50), key=lambda i: -cosines[i])[:7]
        votes = [sum(math.exp(cosines[i] / 0.1) for i in nearest if labels[i] == c) for c in range(4)]
        assert guess == votes.index(max(votes))
    assert len(vote(bank, labels, query, 4, 500, 0.1)) == 20  # more neighbours than there are


def test_features_are_made_once_for_several_probes(labelled: Path) -> None:
    class Counting:
        made = 0

        def of(self, source: Source) -> torch.Tensor:
            self.made += 1
            return torch.full((1, 1), float(self.made))

    first, second, counting = open_source(str(labelled)), open_source(str(labelled)), Counting()
    features = Remembered(counting)
    assert [float(features.of(s)) for s in (first, second, first, second)] == [1, 2, 1, 2]


def test_the_linear_probe_is_scikit_learns_logistic_regression() -> None:
    x = torch.randn(300, 5, generator=generator()) * torch.tensor([1, 10, 0.1, 3, 1])
    y = (x[:, 0] + 0.1 * x[:, 1] + 0.3 * torch.randn(300, generator=generator(1)) > 0).long()
    decay = 0.01
    probe = fit(x, y, 2, decay, steps=300)
    rows = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    # Two weight vectors that differ by w cost |w|²/4 each: theirs has one, at half the price.
    theirs = LogisticRegression(C=2 / (decay * len(x)), tol=1e-8, max_iter=1000).fit(rows, y.numpy())
    ours = probe.logits(x).softmax(dim=1)[:, 1].numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(rows)[:, 1], atol=2e-3)


def test_calibration_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    truth = torch.tensor([0, 1, 0, 1])
    # One bin of confidence 0.9 with accuracy 0.5, one of 0.6 with accuracy 1.
    assert calibration_error(probabilities, truth, bins=10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0


def test_alignment_uniformity_spread_and_rank_by_hand() -> None:
    a, b = torch.randn(9, 4, generator=generator()), torch.randn(9, 4, generator=generator(1))
    unit = [[x / x.norm() for x in rows] for rows in (a, b)]
    gaps = [float((x - y).square().sum()) for x, y in zip(*unit, strict=True)]
    assert alignment(a, b) == pytest.approx(sum(gaps) / 9, rel=1e-5)
    pairs = [float((unit[0][i] - unit[0][j]).square().sum()) for i in range(9) for j in range(i)]
    assert uniformity(a) == pytest.approx(
        math.log(sum(math.exp(-2 * p) for p in pairs) / len(pairs)), rel=1e-5
    )
    even = torch.randn(4000, 16, generator=generator())
    assert spread(even) == pytest.approx(1, abs=0.03)
    assert spread(torch.ones(10, 16)) == pytest.approx(0, abs=1e-6)
    assert effective_rank(torch.eye(6).repeat(10, 1)) == pytest.approx(5, rel=1e-6)  # centring takes one
    assert effective_rank(torch.ones(5, 1) * torch.arange(5.0)[:, None]) == pytest.approx(1)
