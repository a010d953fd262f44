"""How much one caller may ask for: calls at once, requests and bytes a second."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from nearlight.server.config_security import CallersConfig
from nearlight.server.errors import OverCallerLimit

IN_FLIGHT_RETRY_S = 0.1
# Above so many callers those that have been quiet are forgotten: hosts come and go.
MAX_REMEMBERED = 4096
_UNBOUND = nullcontext()


class _Allowance:
    """A bucket that fills at a rate and holds one second's worth; 0: no bound.

    A request larger than the bucket passes when it is full, and the next ones wait until the debt is paid.
    """

    __slots__ = ("_filled", "_level", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = self._size
        self._filled = now

    @property
    def _size(self) -> float:
        return max(self._rate, 1.0)

    def delay_s(self, n: float, now: float) -> float:
        """Seconds until `n` may be taken; 0: now."""
        if not self._rate:
            return 0.0
        self._level = min(self._size, self._level + (now - self._filled) * self._rate)
        self._filled = now
        # A sliver below the bound is rounding, not a debt.
        missing = min(n, self._size) - self._level
        return missing / self._rate if missing > 1e-9 * self._size else 0.0

    def take(self, n: float) -> None:
        """Take what `delay_s` allowed."""
        if self._rate:
            self._level -= n


class _Account:
    """One caller."""

    __slots__ = ("bytes", "in_flight", "requests")

    def __init__(self, config: CallersConfig, now: float) -> None:
        self.in_flight = 0
        self.requests = _Allowance(config.max_requests_per_second, now)
        self.bytes = _Allowance(config.max_bytes_per_second, now)

    def delay_s(self, n_bytes: int, now: float) -> float:
        """Seconds until a request of this size may pass."""
        return max(self.requests.delay_s(1, now), self.bytes.delay_s(n_bytes, now))

    def is_like_new(self, now: float) -> bool:
        """Whether a new account would be the same: nothing in flight, nothing owed."""
        return not (
            self.in_flight or self.requests.delay_s(math.inf, now) or self.bytes.delay_s(math.inf, now)
        )

    def take(self, n_bytes: int) -> None:
        """A request passes."""
        self.requests.take(1)
        self.bytes.take(n_bytes)


class CallerLimits:
    """The accounts of all callers. Used from the event loop only.

    Args:
        config: the bounds, the same for everyone.
        clock: seconds, monotonic.
    """

    def __init__(self, config: CallersConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._is_unbound = config == CallersConfig()
        self._tidied = clock()

    def call(self, caller: str, n_bytes: int | None) -> AbstractContextManager[None]:
        """Count a call from its begin to its end.

        Args:
            caller: name of the identity.
            n_bytes: of a single request; None for a stream, whose messages go through `message`.

        Raises:
            OverCallerLimit: on entering: too many at once, or too fast; carries the delay to wait.
        """
        return _UNBOUND if self._is_unbound else self._counted(caller, n_bytes)

    @contextmanager
    def _counted(self, caller: str, n_bytes: int | None) -> Iterator[None]:
        account = self._account(caller)
        bound = self._config.max_in_flight
        if bound and account.in_flight >= bound:
            raise OverCallerLimit(
                f"caller {caller!r} has {account.in_flight} calls in flight; its limit is {bound}",
                IN_FLIGHT_RETRY_S,
            )
        if n_bytes is not None:
            self._take(caller, account, n_bytes)
        account.in_flight += 1
        try:
            yield
        finally:
            account.in_flight -= 1

    async def message(self, caller: str, n_bytes: int) -> None:
        """Wait until a message of a stream is within the rates: flow control then holds the sender."""
        if self._is_unbound:
            return
        account = self._account(caller)
        delay_s = account.delay_s(n_bytes, self._clock())
        account.take(n_bytes)  # before the wait: the next message then waits behind this one
        if delay_s:
            await asyncio.sleep(delay_s)

    def _take(self, caller: str, account: _Account, n_bytes: int) -> None:
        delay_s = account.delay_s(n_bytes, self._clock())
        if delay_s:
            rate, size = self._config.max_requests_per_second, self._config.max_bytes_per_second
            bounds = [f"{rate:g} requests/s"] if rate else []
            bounds += [f"{size} bytes/s"] if size else []
            raise OverCallerLimit(
                f"caller {caller!r} asks faster than its limit of {' and '.join(bounds)}", delay_s
            )
        account.take(n_bytes)

    def _account(self, caller: str) -> _Account:
        account = self._accounts.get(caller)
        if account is None:
            now = self._clock()
            # Once a second at most: a flood of hosts that are all busy must not make each call look at all.
            if len(self._accounts) >= MAX_REMEMBERED and now - self._tidied >= 1.0:
                self._forget_quiet(now)
            account = self._accounts[caller] = _Account(self._config, now)
        return account

    def _forget_quiet(self, now: float) -> None:
        """Drop the accounts that a new one would equal."""
        self._tidied = now
        for name, account in list(self._accounts.items()):
            if account.is_like_new(now):
                del self._accounts[name]
