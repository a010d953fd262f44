"""One run: the machine's limit, then callers in fixed numbers, then callers who arrive at rates."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nearlight.client.bench.load import closed_loop, open_loop
from nearlight.client.bench.results import Limit, Point, Raw
from nearlight.client.bench.target import asking
from nearlight.client.transport import Connection

WARM_UP_SHARE = 0.2
MAX_WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Arrivals of calls per second; or, where ``of_peak``, a multiple of the best closed loop's."""

    value: float
    of_peak: bool = False

    def per_second(self, peak: float) -> float:
        """Returns the rate where the closed loops reached so many calls per second."""
        return self.value * peak if self.of_peak else self.value


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        in_flight: numbers of callers, each >= 1.
        rates: of arrivals.
        seconds: of each point.
        batch: inputs of a call.
    """

    in_flight: tuple[int, ...]
    rates: tuple[Rate, ...]
    seconds: float
    batch: int


@dataclass(frozen=True, slots=True)
class LimitFigures:
    """What the machine does without a server: before and after the loads, so that a drift of it is seen."""

    inputs_per_s: tuple[float, ...]
    single_ms: float
    runs: dict[str, Any]

    @property
    def mean_per_s(self) -> float:
        """Returns the mean of the runs, inputs per second."""
        return sum(self.inputs_per_s) / len(self.inputs_per_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything one run measured. ``limit`` is None where there was none."""

    points: tuple[Point, ...]
    limit: LimitFigures | None

    @property
    def peak_per_s(self) -> float:
        """Returns the best closed loop's inputs per second; 0.0 without one."""
        return max((point.inputs_per_s for point in self.points if point.mode == "closed"), default=0.0)

    def document(self) -> dict[str, Any]:
        """Returns it ready for JSON; NaN becomes None."""
        limit = None
        if self.limit:
            limit = {**asdict(self.limit), "mean_per_s": self.limit.mean_per_s}
        points = []
        for point in self.points:
            line = {key: _plain(value) for key, value in asdict(point).items()}
            line["of_limit"] = point.inputs_per_s / self.limit.mean_per_s if self.limit else None
            line["p50_over_single"] = _plain(point.p50_ms / self.limit.single_ms) if self.limit else None
            points.append(line)
        return {"points": points, "limit": limit, "peak_per_s": self.peak_per_s}


def measure(
    connection: Connection,
    requests: Sequence[bytes],
    inputs: Sequence[Raw],
    plan: Plan,
    limit: Limit | None,
    on_point: Callable[[str], None],
) -> Outcome:
    """Measures everything, one thing after the other: nothing else may run meanwhile.

    Args:
        connection: to the server; its timeout bounds each call, and nothing is tried again.
        requests: what to send.
        inputs: the same, for the limit.
        plan: what to measure.
        limit: None: it is not measured.
        on_point: told what comes next.
    """
    limits: list[float] = []

    def measure_limit() -> None:
        if limit:
            on_point("the limit of this machine, without the server")
            limits.append(limit.throughput(inputs, plan.seconds))

    single_ms = math.nan
    if limit:
        on_point("one input after the other, without the server")
        single_ms = limit.single_ms(inputs, min(plan.seconds, 3.0))
    measure_limit()
    points: list[Point] = []
    for callers in plan.in_flight:
        on_point(f"{callers} calls in flight")
        points.append(asyncio.run(_closed(connection, requests, callers, plan.seconds)))
    if plan.in_flight:
        measure_limit()
    peak = max((point.inputs_per_s for point in points), default=0.0) / plan.batch
    for rate in plan.rates:
        per_second = rate.per_second(peak)
        if per_second <= 0:
            continue
        on_point(f"{per_second:.1f} calls arriving per second")
        points.append(asyncio.run(_open(connection, requests, per_second, plan.seconds)))
    figures = LimitFigures(tuple(limits), single_ms, limit.describe()) if limit else None
    return Outcome(tuple(points), figures)


async def _closed(connection: Connection, requests: Sequence[bytes], callers: int, seconds: float) -> Point:
    async with asking(connection, requests) as ask:
        warm_up_s = min(MAX_WARM_UP_S, WARM_UP_SHARE * seconds)
        return await closed_loop(ask, in_flight=callers, seconds=seconds, warm_up_s=warm_up_s)


async def _open(connection: Connection, requests: Sequence[bytes], rate: float, seconds: float) -> Point:
    async with asking(connection, requests) as ask:
        await ask()  # the connection is made before the first call is due
        return await open_loop(ask, rate=rate, seconds=seconds)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
