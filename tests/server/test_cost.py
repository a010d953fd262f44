import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearlight.server.call import F32, Row
from nearlight.server.cost import OUTLIER, WINDOW, CostModel, Line, fit_line, measure

SHAPE, OTHER = (16,), (77,)


def test_a_line_is_found_again() -> None:
    line = fit_line([(1, 0.03), (16, 0.33)], None)
    assert line.per_row_s == pytest.approx(0.02)
    assert line.fixed_s == pytest.approx(0.01)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-4, 10)), min_size=1, max_size=40))
def test_a_line_is_the_least_squares_one_where_that_is_possible(runs: list[tuple[int, float]]) -> None:
    line = fit_line(runs, None)
    assert line.per_row_s >= 0
    assert line.fixed_s >= 0
    assert line.seconds(1) > 0
    rows, seconds = np.array(runs).T
    if np.std(rows) < 0.2 * rows.mean():
        return
    slope, start = np.polyfit(rows, seconds, 1)
    if slope > 1e-6 and start > 1e-6:
        assert line.per_row_s == pytest.approx(slope, rel=1e-6)
        assert line.fixed_s == pytest.approx(start, rel=1e-4, abs=1e-9)


def test_runs_of_one_size_scale_what_was_known() -> None:
    line = fit_line([(16, 0.66)] * 5, Line(0.02, 0.01))
    assert line.per_row_s == pytest.approx(0.04)
    assert line.fixed_s == pytest.approx(0.02)


def test_the_model_follows_an_engine_that_becomes_slower_and_faster_again() -> None:
    costs = CostModel()
    rng = np.random.default_rng(0)
    for factor in (1.0, 3.0, 0.5):
        for _ in range(2 * WINDOW):
            rows = int(rng.integers(1, 17))
            costs.observe(SHAPE, rows, factor * (0.02 * rows + 0.05) * rng.uniform(0.9, 1.1))
        assert costs.batch_s(SHAPE, 16) == pytest.approx(factor * 0.37, rel=0.1)
        assert costs.batch_s(SHAPE, 1) == pytest.approx(factor * 0.07, rel=0.3)


def test_one_run_of_a_paused_process_does_not_spoil_the_model() -> None:
    costs = CostModel()
    for rows in [1, 8, 16] * 10:
        costs.observe(SHAPE, rows, 0.01 * rows + 0.01)
    costs.observe(SHAPE, 16, 60.0)
    assert costs.batch_s(SHAPE, 16) < 0.17 * (1 + OUTLIER / 10)


def test_the_cost_of_an_input_follows_the_mix_of_shapes() -> None:
    costs = CostModel()
    assert costs.input_s(16) == 0
    for rows in (1, 16):
        costs.observe(SHAPE, rows, 0.001 * rows)
        costs.observe(OTHER, rows, 0.01 * rows)
    for _ in range(50):
        costs.observe(SHAPE, 16, 0.016)
    assert costs.input_s(16) == pytest.approx(0.001, rel=0.1)
    for _ in range(50):
        costs.observe(OTHER, 16, 0.16)
    assert costs.input_s(16) == pytest.approx(0.01, rel=0.1)
    assert costs.batch_s((99,), 4) == pytest.approx(4 * costs.input_s(4))


@pytest.mark.parametrize(
    ("line", "rows", "riders"),
    [
        ((0.0001, 1.0), 1, 15),  # a GPU: sixteen rows take as long as one
        ((1.0, 0.0), 1, 0),  # a CPU: each row costs its share
        ((1.0, 0.0), 8, 2),
        ((1.0, 7.0), 1, 2),
    ],
)
def test_rows_ride_along_where_they_cost_nearly_nothing(
    line: tuple[float, float], rows: int, riders: int
) -> None:
    costs = CostModel()
    for n in (1, 16):
        costs.observe(SHAPE, n, line[0] * n + line[1])
    assert costs.riders(SHAPE, rows, 16) == riders
    assert costs.riders(OTHER, rows, 16) == 0


@pytest.mark.parametrize(
    ("seconds", "rows"), [(1.0, 16), (0.34, 16), (0.32, 15), (0.115, 5), (0.031, 1), (0.029, 16), (-1.0, 16)]
)
def test_a_batch_is_as_large_as_may_be_in_so_much_time(seconds: float, rows: int) -> None:
    costs = CostModel()
    for n in (1, 16):
        costs.observe(SHAPE, n, 0.02 * n + 0.01)
    assert costs.rows_within(SHAPE, seconds, 16) == rows
    assert CostModel().rows_within(SHAPE, seconds, 16) == 16


def test_a_warm_engine_is_measured_at_every_shape() -> None:
    class Slow:
        dim = 2

        def encode(self, rows: Row) -> F32:
            assert rows.dtype == np.int64
            return np.ones((len(rows), 2), np.float32)

    costs = measure(Slow(), [SHAPE, OTHER], np.int64, max_batch=4)
    for shape in (SHAPE, OTHER):
        line = costs.line(shape)
        assert line
        assert line.seconds(4) > 0
    assert measure(Slow(), [SHAPE], np.int64, max_batch=1).input_s(1) > 0
