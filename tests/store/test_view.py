import numpy as np
import pytest

from nearlight.store.view import MIN_DEAD_TO_COMPACT, Head, ReadView


def contents(view: ReadView) -> dict[int, list[float]]:
    """Seq to vector of every live row, read one by one."""
    return {
        seq: vector
        for chunk in view.chunks
        for row, (seq, vector) in enumerate(
            zip(chunk.seqs[: chunk.n_rows].tolist(), chunk.vectors[: chunk.n_rows].tolist(), strict=True)
        )
        if chunk.alive[row // 8] >> (row % 8) & 1
    }


@pytest.mark.parametrize("seed", range(5))
def test_views_equal_a_dict_through_appends_deaths_and_compaction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    head = Head(3, chunk_rows=500)
    model: dict[int, list[float]] = {}
    old: list[tuple[ReadView, dict[int, list[float]]]] = []
    next_seq = 1
    for step in range(40):
        n = int(rng.integers(0, 300))
        seqs = next_seq + np.cumsum(rng.integers(1, 3, n))
        vectors = rng.standard_normal((n, 3)).astype(np.float32)
        next_seq = int(seqs[-1]) + 1 if n else next_seq
        model.update(zip(seqs.tolist(), vectors.tolist(), strict=True))
        share = rng.choice([0, 0.02, 0.6], p=[0.4, 0.4, 0.2])
        dead = [seq for seq in model if rng.random() < share]
        if n % 3 == 0:
            head.reserve(n)
        head.publish(seqs, vectors, dead)
        for seq in dead:
            del model[seq]
        view = head.view
        assert (view.n_alive, view.n_rows - view.n_dead) == (len(model), len(model))
        if step % 8 == 0:
            old.append((view, dict(model)))
    assert contents(head.view) == model
    for view, then in old:
        assert contents(view) == then


def test_rows_stay_in_ascending_seq() -> None:
    head = Head(1, chunk_rows=64)
    for start in range(0, 6000, 100):
        seqs = np.arange(start, start + 100)
        head.publish(seqs, np.ones((100, 1), np.float32), range(start - 50, start) if start else ())
    seqs = np.concatenate([chunk.seqs[: chunk.n_rows] for chunk in head.view.chunks])
    assert (np.diff(seqs) > 0).all()


def test_memory_of_dead_rows_is_bounded() -> None:
    head = Head(1, chunk_rows=1000)
    seq = 0
    alive: list[int] = []
    for _ in range(200):
        fresh = list(range(seq, seq + 500))
        seq += 500
        head.publish(np.array(fresh), np.ones((500, 1), np.float32), alive)
        alive = fresh
        assert head.view.n_dead <= max(MIN_DEAD_TO_COMPACT, 0.2 * head.view.n_rows)
        assert sum(chunk.capacity for chunk in head.view.chunks) <= 5000
    assert head.view.n_alive == 500


def test_all_rows_may_die() -> None:
    head = Head(2, chunk_rows=512)
    head.publish(np.arange(3000), np.ones((3000, 2), np.float32))
    head.publish(np.empty(0, np.int64), np.empty((0, 2), np.float32), range(3000))
    assert head.view.n_alive == 0
    head.publish(np.array([5000]), np.ones((1, 2), np.float32))
    assert contents(head.view) == {5000: [1.0, 1.0]}


def test_a_dead_seq_that_is_not_there_is_a_fault() -> None:
    head = Head(1)
    head.publish(np.array([1, 5]), np.ones((2, 1), np.float32))
    for seq in (0, 3, 9):
        with pytest.raises(AssertionError, match="not among the rows"):
            head.publish(np.empty(0, np.int64), np.empty((0, 1), np.float32), [seq])
