import numpy as np
import pytest

from nearlight.store.generations.settings import BuildPlan, IndexSettings, plan_for
from nearlight.store.generations.tuning import Measured, TrueBest, Tuning, n_candidates, recall_at, tune

GIB = 2**30


def test_the_true_best_equal_a_sort_of_everything() -> None:
    rng = np.random.default_rng(1)
    rows, queries = (
        rng.standard_normal((300, 8)).astype(np.float32),
        rng.standard_normal((5, 8)).astype(np.float32),
    )
    seqs = rng.permutation(1000)[:300]
    best = TrueBest(queries, 20)
    for at in range(0, 300, 47):
        best.see(seqs[at : at + 47], rows[at : at + 47])
    for query, found in zip(queries, best.best(12), strict=True):
        assert found.tolist() == seqs[np.argsort(-(rows @ query))][:12].tolist()
    few = TrueBest(queries, 10)
    few.see(seqs[:4], rows[:4])
    assert (few.best(10) >= 0).sum(axis=1).tolist() == [4] * 5


def test_recall_is_the_share_of_the_true_best() -> None:
    true = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    found = np.array([[9, 2, 1, 8, 3], [6, -1, -1, -1, -1]])
    assert recall_at(found, true) == pytest.approx(4 / 6)
    assert recall_at(found[:, :0], true[:, 2:2]) == 1.0


TUNING = Tuning(
    (
        Measured(10, 16, 0.80, 0.70),
        Measured(10, 32, 0.97, 0.85),
        Measured(10, 64, 0.99, 0.96),
        Measured(100, 64, 0.80, 0.75),
        Measured(100, 256, 0.99, 0.98),
    )
)


@pytest.mark.parametrize(
    ("wanted", "target", "effort", "recall"),
    [
        (10, 0.6, 16, 0.70),
        (10, 0.95, 64, 0.96),  # texts need more than images
        (1, 0.85, 32, 0.85),
        (10, 0.999, 64, 0.96),  # nothing measured reaches it: the most there is
        (11, 0.7, 64, 0.75),
        (100, 0.9, 256, 0.98),
        (200, 0.9, 512, 0.98),
    ],
)
def test_the_least_effort_that_reaches_a_recall(
    wanted: int, target: float, effort: int, recall: float
) -> None:
    assert TUNING.effort_for(wanted, target) == (effort, recall)


def test_the_recall_of_an_effort() -> None:
    assert TUNING.recall_of(10, 40) == 0.85
    assert TUNING.recall_of(10, 5000) == 0.96
    assert TUNING.recall_of(10, 8) == pytest.approx(0.35)
    assert Tuning.from_json(TUNING.to_json()) == TUNING


def test_tuning_stops_where_nothing_is_to_be_gained() -> None:
    queries = np.eye(4, dtype=np.float32)
    best = TrueBest(queries, 100)
    best.see(np.arange(200), np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32))
    asked: list[tuple[int, int]] = []

    def propose(some: np.ndarray, k: int, effort: int) -> np.ndarray:
        """Finds the first of the best only, as many as the effort."""
        asked.append((k, effort))
        return best.best(100)[: len(some), :effort]

    made = tune((2, 5, 10, 40), propose, (queries, best), None, 0.9)
    assert [(one.limit, one.effort, one.image_recall) for one in made.points] == [
        (10, 2, 0.2),
        (10, 5, 0.5),
        (10, 10, 1.0),
        (100, 2, 0.02),
        (100, 5, 0.05),
        (100, 10, 0.1),
        (100, 40, 0.4),
    ]
    assert {k for k, _ in asked} == {n_candidates(10), n_candidates(100)}


@pytest.mark.parametrize(
    ("n_points", "settings", "budget", "kind"),
    [
        (200_000, IndexSettings(), 64 * GIB, None),
        (200_001, IndexSettings(), 64 * GIB, "hnsw"),
        (2_000_001, IndexSettings(), 64 * GIB, "ivf"),
        (1_000_000, IndexSettings(), GIB, None),
        (1_000_000, IndexSettings(hnsw_m=64), 1_300_000_000, "ivf"),  # a graph does not fit
        (1_000_000, IndexSettings(kind="exact"), 64 * GIB, None),
        (300, IndexSettings(kind="hnsw"), 64 * GIB, "hnsw"),
        (255, IndexSettings(kind="hnsw"), 64 * GIB, None),
        (300, IndexSettings(kind="hnsw", exact_up_to=300), 64 * GIB, None),
        (301, IndexSettings(exact_up_to=300), 64 * GIB, "hnsw"),
        (5_000_000, IndexSettings(kind="hnsw"), 64 * GIB, "hnsw"),
    ],
)
def test_size_settings_and_memory_decide(
    n_points: int, settings: IndexSettings, budget: int, kind: str | None
) -> None:
    plan = plan_for(n_points, 512, settings, budget)
    assert (plan.kind if isinstance(plan, BuildPlan) else None) == kind
    if plan is not None:
        assert plan.n_bytes <= budget
