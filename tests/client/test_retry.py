"""When to try again: pure arithmetic, without waiting."""

import pytest

from nearlight.client import InvalidInput, NotFound, NotReady, Overloaded, RetryPolicy, TooLate
from nearlight.client.retry import Attempts

POLICY = RetryPolicy(max_attempts=5, first_backoff_ms=100, max_backoff_ms=300)


def test_backoff_doubles_up_to_its_bound_and_is_random() -> None:
    def delays() -> list[float]:
        attempts = Attempts(POLICY, 100)
        return [attempts.delay_seconds(NotReady("x")) for _ in range(4)]

    many = [delays() for _ in range(300)]
    for highest, column in zip([0.1, 0.2, 0.3, 0.3], zip(*many, strict=True), strict=True):
        assert 0 <= min(column) < 0.2 * highest
        assert 0.8 * highest < max(column) <= highest


def test_it_ends_after_max_attempts() -> None:
    attempts = Attempts(POLICY, 100)
    for _ in range(4):
        attempts.delay_seconds(NotReady("x"))
    with pytest.raises(NotReady):
        attempts.delay_seconds(NotReady("x"))


def test_success_starts_over() -> None:
    attempts = Attempts(POLICY, 100)
    for _ in range(20):
        attempts.delay_seconds(NotReady("x"))
        attempts.succeeded()


def test_the_servers_delay_is_a_lower_bound() -> None:
    delay = Attempts(POLICY, 100).delay_seconds(Overloaded("full", 7.0))
    assert 7.0 <= delay <= 7.0 * 1.25


@pytest.mark.parametrize("error", [NotFound("x"), InvalidInput("x"), Overloaded("full", 11.0)])
def test_useless_tries_are_not_made(error: Exception) -> None:
    with pytest.raises(type(error)):
        Attempts(POLICY, 10).delay_seconds(error)  # type: ignore[arg-type]


def test_unavailable_is_final_for_calls_that_may_have_happened() -> None:
    with pytest.raises(NotReady):
        Attempts(POLICY, 10, retry_not_ready=False).delay_seconds(NotReady("x"))
    assert Attempts(POLICY, 10, retry_not_ready=False).delay_seconds(Overloaded("x")) >= 0


def test_a_deadline_that_passed() -> None:
    with pytest.raises(TooLate, match=r"1e-09 s"):
        Attempts(POLICY, 1e-9).remaining_seconds()
