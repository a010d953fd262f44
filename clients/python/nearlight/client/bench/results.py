"""What was measured, as values that go into a table, into JSON and into a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

# What is sent: a text, or an encoded image.
Raw = str | bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one call: inputs that were embedded, and failures by status."""

    embedded: int
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """One load and what it did.

    Attributes:
        mode: "closed": so many calls at once, each caller asks again when answered. "open": calls arrive at a
            rate, whether or not others were answered.
        load: calls at once, or arrivals per second.
        seconds: of measuring, warm-up not counted.
        calls: answered with a result.
        inputs_per_s: inputs embedded per second.
        p50_ms, p95_ms, p99_ms, max_ms: of answered calls; in an open loop from the moment a call was due, so
            that a server that makes callers late does not look fast. NaN where none was answered.
        errors: count of failed calls and inputs by gRPC status.
        lag_ms: the latest that this program itself began a call that was due; large: it is the bottleneck.
    """

    mode: Literal["closed", "open"]
    load: float
    seconds: float
    calls: int
    inputs_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]
    lag_ms: float = 0.0


class Tally:
    """Counts the answers of one point."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.inputs = 0
        self.errors: Counter[str] = Counter()

    def add(self, answer: Answer, latency_ms: float) -> None:
        """Counts one call; only calls with a result have a latency that means something."""
        self.errors.update(answer.failures)
        self.inputs += answer.embedded
        if answer.embedded:
            self.latencies_ms.append(latency_ms)

    def point(
        self, mode: Literal["closed", "open"], load: float, seconds: float, lag_ms: float = 0.0
    ) -> Point:
        """Returns what was counted in so many seconds."""
        ordered = sorted(self.latencies_ms)
        p50, p95, p99, most = (percentile(ordered, q) for q in (0.5, 0.95, 0.99, 1.0))
        rate = self.inputs / seconds
        return Point(mode, load, seconds, len(ordered), rate, p50, p95, p99, most, dict(self.errors), lag_ms)


def percentile(ordered: Sequence[float], q: float) -> float:
    """Returns the q-quantile of ordered values, between neighbours by a straight line; NaN of none."""
    if not ordered:
        return math.nan
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Limit(Protocol):
    """What this machine can do with the same bundle and threads and no server: an entry point makes one."""

    def throughput(self, inputs: Sequence[Raw], seconds: float) -> float:
        """Returns inputs per second, decoded ahead and in full batches."""
        ...

    def single_ms(self, inputs: Sequence[Raw], seconds: float) -> float:
        """Returns the median milliseconds of one input after the other: decode, then run."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what runs it: bundle, space_id, provider, threads, batch sizes."""
        ...

    def close(self) -> None:
        """Ends its threads."""
        ...
