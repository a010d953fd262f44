import asyncio
import time
from contextlib import ExitStack

import pytest

from nearlight.server.config_security import CallersConfig
from nearlight.server.errors import OverCallerLimit
from nearlight.server.security import callers as callers_module
from nearlight.server.security.callers import CallerLimits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(limits: CallerLimits, caller: str = "alice", n_bytes: int = 1) -> None:
    with limits.call(caller, n_bytes):
        pass


def test_calls_at_once_are_bounded_for_each_caller_alone() -> None:
    limits = CallerLimits(CallersConfig(max_in_flight=2))
    with ExitStack() as open_calls:
        for _ in range(2):
            open_calls.enter_context(limits.call("alice", None))
        with pytest.raises(OverCallerLimit, match="'alice' has 2 calls in flight; its limit is 2") as caught:
            ask(limits)
        assert caught.value.retry_delay_s > 0
        ask(limits, "bob")
    ask(limits)


def test_a_call_that_fails_is_no_longer_in_flight() -> None:
    limits = CallerLimits(CallersConfig(max_in_flight=1))
    for _ in range(3):
        with pytest.raises(KeyError), limits.call("alice", 1):
            raise KeyError


def test_the_rate_equals_a_bucket_that_refills() -> None:
    """Against a loop over many calls: never more than rate x seconds + one second's worth."""
    clock = Clock()
    limits = CallerLimits(CallersConfig(max_requests_per_second=10), clock)
    passed, delays = 0, []
    for step in range(400):  # 4 s, 100 calls a second
        clock.now = 100 + step / 100
        try:
            ask(limits)
            passed += 1
        except OverCallerLimit as error:
            delays.append(error.retry_delay_s)
    assert 0 < min(delays) < max(delays) <= 0.1
    assert passed == pytest.approx(10 + 4 * 10, abs=1)


def test_after_the_delay_that_was_told_the_call_passes() -> None:
    clock = Clock()
    limits = CallerLimits(CallersConfig(max_requests_per_second=3, max_bytes_per_second=1000), clock)
    for n_bytes in (1, 900, 300, 1000, 5):
        try:
            ask(limits, n_bytes=n_bytes)
        except OverCallerLimit as error:
            clock.now += error.retry_delay_s
            ask(limits, n_bytes=n_bytes)


def test_a_request_larger_than_a_second_passes_alone_and_is_paid_for() -> None:
    clock = Clock()
    limits = CallerLimits(CallersConfig(max_bytes_per_second=100), clock)
    ask(limits, n_bytes=500)
    with pytest.raises(OverCallerLimit, match="100 bytes/s") as caught:
        ask(limits, n_bytes=1)
    assert caught.value.retry_delay_s == pytest.approx(4.01)
    ask(limits, "bob", n_bytes=50)


def test_messages_of_a_stream_wait_instead() -> None:
    limits = CallerLimits(CallersConfig(max_requests_per_second=50))

    async def stream() -> float:
        started = time.monotonic()
        for _ in range(60):
            await limits.message("alice", 10)
        return time.monotonic() - started

    assert asyncio.run(stream()) >= 0.19  # 50 at once, 10 more at 50/s


def test_quiet_callers_are_forgotten_and_those_in_debt_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "MAX_REMEMBERED", 3)
    clock = Clock()
    limits = CallerLimits(CallersConfig(max_bytes_per_second=100), clock)
    ask(limits, "debtor", n_bytes=5000)
    for number in range(50):
        ask(limits, f"host {number}")
        clock.now += 0.5
        assert len(limits._accounts) <= 6
    with pytest.raises(OverCallerLimit):
        ask(limits, "debtor")
    assert "host 0" not in limits._accounts


def test_without_bounds_nothing_is_kept() -> None:
    limits = CallerLimits(CallersConfig())
    for number in range(100):
        ask(limits, f"host {number}", n_bytes=10**12)
    assert limits._accounts == {}
