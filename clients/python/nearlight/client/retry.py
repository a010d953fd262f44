"""When to try a call again, and after how long. Pure: it neither sleeps nor calls."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from nearlight.client.errors import InvalidInput, NearlightError, NotReady, Overloaded, TooLate


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    Attributes:
        max_attempts: tries of one call, the first included, >= 1.
        first_backoff_ms: upper end of the first random delay; doubles each time.
        max_backoff_ms: the upper end never exceeds it. A delay asked for by the server is not cut.
    """

    max_attempts: int = 6
    first_backoff_ms: float = 100.0
    max_backoff_ms: float = 5000.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidInput(f"max_attempts is {self.max_attempts}; at least 1")
        if not 0 <= self.first_backoff_ms <= self.max_backoff_ms:
            raise InvalidInput(f"first_backoff_ms is {self.first_backoff_ms}; 0 to {self.max_backoff_ms}")


@dataclass(slots=True)
class Attempts:
    """The tries of one call within one deadline.

    Attributes:
        policy: how often and how long.
        timeout: seconds for all tries and the waits between them.
        retry_not_ready: whether UNAVAILABLE may be tried again; not for calls that differ when done twice.
    """

    policy: RetryPolicy
    timeout: float
    retry_not_ready: bool = True
    _failures: int = 0
    _started: float = field(default_factory=time.monotonic)

    def remaining_seconds(self) -> float:
        """Returns what is left for the next try, > 0; raises TooLate where nothing is."""
        left = self.timeout - (time.monotonic() - self._started)
        if left <= 0:
            raise TooLate(f"the timeout of {self.timeout:g} s passed")
        return left

    def delay_seconds(self, error: NearlightError) -> float:
        """Returns how long to wait before the next try.

        Raises:
            NearlightError: ``error`` itself, where another try is useless, not allowed, or too late.
        """
        self._failures += 1
        retryable = isinstance(error, Overloaded) or (isinstance(error, NotReady) and self.retry_not_ready)
        if not retryable or self._failures >= self.policy.max_attempts:
            raise error
        delay = self._backoff_seconds()
        if isinstance(error, Overloaded) and error.retry_after_seconds is not None:
            # Spread by up to a quarter, so that callers refused together do not come back together.
            delay = error.retry_after_seconds * (1 + 0.25 * random.random())
        if delay >= self.timeout - (time.monotonic() - self._started):
            raise error
        return delay

    def succeeded(self) -> None:
        """Starts over: used by streams, where every acknowledgement is a success."""
        self._failures = 0
        self._started = time.monotonic()

    def _backoff_seconds(self) -> float:
        highest = self.policy.first_backoff_ms * 2 ** (self._failures - 1)
        return random.uniform(0, min(highest, self.policy.max_backoff_ms)) / 1000
