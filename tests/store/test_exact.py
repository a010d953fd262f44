from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store.exact import Found, Scanner, Span
from nearlight.store.validation import unit_rows
from nearlight.store.view import Head

F32 = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    made = Scanner(2)
    yield made
    made.close()


def brute_force(rows: dict[int, F32], query: F32, span: Span) -> list[tuple[int, float]]:
    """Every row scored in float64, sorted in Python."""
    table = np.stack(list(rows.values())).astype(np.float64)
    scored = list(zip(rows, (table @ query.astype(np.float64)).tolist(), strict=True))
    if span.score_threshold is not None:
        scored = [(seq, score) for seq, score in scored if score >= span.score_threshold]
    scored.sort(key=lambda item: (-item[1], item[0]))
    return scored[span.offset : span.offset + span.limit]


def assert_equal(found: Found, expected: list[tuple[int, float]], rows: dict[int, F32], query: F32) -> None:
    """The same scores to float32 precision; rows whose scores differ only by rounding may swap."""
    assert len(found.seqs) == len(expected)
    assert np.abs(found.scores - np.array([score for _, score in expected], np.float32)).max(initial=0) < 2e-6
    assert len(set(found.seqs.tolist())) == len(found.seqs)
    for seq, score in zip(found.seqs.tolist(), found.scores.tolist(), strict=True):
        assert abs(float(rows[seq].astype(np.float64) @ query) - score) < 2e-6
    order = list(zip((-found.scores).tolist(), found.seqs.tolist(), strict=True))
    assert order == sorted(order)


def filled(
    n: int, dim: int, rng: np.random.Generator, *, chunk_rows: int, dead_share: float
) -> tuple[Head, dict[int, F32]]:
    head = Head(dim, chunk_rows)
    vectors = unit_rows(rng.standard_normal((n, dim)))
    head.publish(np.arange(1, n + 1) * 3, vectors)
    rows = {(i + 1) * 3: vectors[i] for i in range(n)}
    dead = [seq for seq in rows if rng.random() < dead_share]
    head.publish(np.empty(0, np.int64), np.empty((0, dim), np.float32), dead)
    for seq in dead:
        del rows[seq]
    return head, rows


@pytest.mark.parametrize("n_queries", [1, 4, 5, 33])
@pytest.mark.parametrize("dead_share", [0.0, 0.15, 0.9])
def test_search_equals_brute_force(scanner: Scanner, n_queries: int, dead_share: float) -> None:
    rng = np.random.default_rng(n_queries)
    head, rows = filled(1500, 24, rng, chunk_rows=400, dead_share=dead_share)
    queries = unit_rows(rng.standard_normal((n_queries, 24)))
    for span in (
        Span(1),
        Span(10),
        Span(7, 5),
        Span(5, 1495),
        Span(10, 10**6),
        Span(2**31),
        Span(50, 3, 0.3),
        Span(9, 0, 0.99),
    ):
        found = scanner.search(head.view, queries, span)
        for one, query in zip(found, queries, strict=True):
            assert_equal(one, brute_force(rows, query, span), rows, query)


@pytest.mark.parametrize("n_queries", [1, 6, 40])
def test_ties_are_broken_by_seq_in_every_batch(scanner: Scanner, n_queries: int) -> None:
    """2,000 rows of eight different vectors, spread over chunks: far more ties than a scan proposes."""
    rng = np.random.default_rng(7)
    kinds = unit_rows(rng.standard_normal((8, 48)))
    kind = rng.integers(0, 8, 2000)
    head = Head(48, 300)
    head.publish(np.arange(2000), kinds[kind])
    head.publish(np.empty(0, np.int64), np.empty((0, 48), np.float32), range(0, 2000, 11))
    queries = unit_rows(rng.standard_normal((n_queries, 48)))
    for span in (Span(20), Span(300, 100), Span(40, 240)):
        for one, query in zip(scanner.search(head.view, queries, span), queries, strict=True):
            scores = kinds.astype(np.float64) @ query
            live = [seq for seq in range(2000) if seq % 11]
            expected = sorted(live, key=lambda seq: (-scores[kind[seq]], seq))[
                span.offset : span.offset + span.limit
            ]
            assert one.seqs.tolist() == expected


def test_an_answer_does_not_depend_on_its_batch(scanner: Scanner) -> None:
    rng = np.random.default_rng(3)
    head, _ = filled(3000, 100, rng, chunk_rows=700, dead_share=0.1)
    queries = unit_rows(rng.standard_normal((70, 100)))
    alone = [scanner.search(head.view, query[None], Span(30))[0] for query in queries]
    together = scanner.search(head.view, queries, Span(30))
    for one, other in zip(alone, together, strict=True):
        assert one.seqs.tolist() == other.seqs.tolist()
        assert one.scores.tobytes() == other.scores.tobytes()


@pytest.mark.parametrize("n_queries", [2, 30])
def test_dead_rows_among_the_best_do_not_hide_live_ones(scanner: Scanner, n_queries: int) -> None:
    """The 900 nearest rows are dead: the matrix product proposes only them at first."""
    rng = np.random.default_rng(5)
    centre = unit_rows(rng.standard_normal((1, 32)))
    near = unit_rows(centre + 0.01 * rng.standard_normal((900, 32)))
    far = unit_rows(rng.standard_normal((3000, 32)))
    head = Head(32, 1024)
    head.publish(np.arange(3900), np.concatenate([near, far]))
    head.publish(np.empty(0, np.int64), np.empty((0, 32), np.float32), range(0, 900))
    rows = {900 + i: far[i] for i in range(3000)}
    queries = np.repeat(centre, n_queries, axis=0)
    for one in scanner.search(head.view, queries, Span(25)):
        assert_equal(one, brute_force(rows, centre[0], Span(25)), rows, centre[0])


def test_vectors_come_with_their_rows(scanner: Scanner) -> None:
    rng = np.random.default_rng(9)
    head, rows = filled(500, 16, rng, chunk_rows=100, dead_share=0.2)
    (found,) = scanner.search(head.view, unit_rows(rng.standard_normal((1, 16))), Span(12), with_vectors=True)
    assert found.vectors is not None
    for seq, vector in zip(found.seqs.tolist(), found.vectors, strict=True):
        assert vector.tobytes() == rows[seq].tobytes()


def test_an_empty_view_and_no_queries_give_nothing(scanner: Scanner) -> None:
    head = Head(8)
    (found,) = scanner.search(head.view, np.eye(1, 8, dtype=np.float32), Span(5), with_vectors=True)
    assert (len(found.seqs), len(found.scores)) == (0, 0)
    head.publish(np.array([1]), np.eye(1, 8, dtype=np.float32))
    assert scanner.search(head.view, np.empty((0, 8), np.float32), Span(5)) == []


def test_a_vector_finds_itself_with_score_one(scanner: Scanner) -> None:
    rng = np.random.default_rng(11)
    head, rows = filled(300, 512, rng, chunk_rows=100, dead_share=0)
    queries = np.stack(list(rows.values()))
    for seq, found in zip(rows, scanner.search(head.view, queries, Span(1)), strict=True):
        assert found.seqs[0] == seq
        assert 1 - 1e-6 < found.scores[0] <= 1


@pytest.mark.slow
def test_two_hundred_thousand_rows_equal_brute_force(scanner: Scanner) -> None:
    rng = np.random.default_rng(13)
    centres = rng.standard_normal((1000, 512), dtype=np.float32)
    vectors = unit_rows(
        centres[rng.integers(0, 1000, 200_000)] + rng.standard_normal((200_000, 512), dtype=np.float32)
    )
    head = Head(512)
    head.publish(np.arange(200_000), vectors)
    dead = np.arange(0, 200_000, 9)
    head.publish(np.empty(0, np.int64), np.empty((0, 512), np.float32), dead.tolist())
    queries = unit_rows(vectors[::3200] + 0.02 * rng.standard_normal((63, 512)))
    expected = queries @ vectors.T  # (Q, N)
    expected[:, dead] = -2
    order = np.argsort(-expected, axis=1, kind="stable")[:, :100]
    for size in (1, 63):
        found = [
            one
            for at in range(0, 63, size)
            for one in scanner.search(head.view, queries[at : at + size], Span(100))
        ]
        for i, one in enumerate(found):
            assert np.abs(one.scores - expected[i, order[i]]).max() < 2e-6
            assert np.abs(one.scores - expected[i, one.seqs]).max() < 2e-6
