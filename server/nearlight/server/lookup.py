"""One call's way through the cache: what is known, what others are computing, and the rest."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nearlight.server.cache import CacheUse, Flight, Key, VectorCache
from nearlight.server.call import Embedded, Outcome, StageTimes
from nearlight.server.errors import TooLate
from nearlight.server.metrics import observe
from nearlight.server.patience import Patience

# Where the call that computes a vector gives up or fails, those who waited for it ask again, so often; then
# each computes it alone.
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Outcomes in the order of the inputs, the slowest times at each stage, how many the cache gave."""

    outcomes: Sequence[Outcome]
    times: StageTimes
    cache_hits: int = 0


# Told a position among the inputs to compute, and its outcome.
OnAnswer = Callable[[int, Outcome], None]
# Embeds the inputs of the call at some positions.
Compute = Callable[[Sequence[int], OnAnswer], Awaitable[Embeddings]]


class Lookup:
    """One call.

    Args:
        cache: asked.
        keys: of the call's inputs.
        patience: of the caller.
        use: of the cache; reads.
    """

    def __init__(self, cache: VectorCache, keys: Sequence[Key], patience: Patience, use: CacheUse) -> None:
        self._cache = cache
        self._keys = keys
        self._patience = patience
        self._use = use
        self._outcomes: dict[int, Outcome] = {}
        self._times = StageTimes()
        self._hits = 0

    async def run(self, compute: Compute) -> Embeddings:
        """Outcomes of all inputs; raises what `compute` raises, and TooLate."""
        left = list(range(len(self._keys)))
        for _ in range(ROUNDS):
            if left:
                left = await self._round(left, compute)
        if left:
            await self._compute(left, {}, compute)
        for i in range(len(self._keys)):
            observe.cache("vectors", hit=i < self._hits)
        outcomes = [self._outcomes[i] for i in range(len(self._keys))]
        return Embeddings(outcomes, self._times, self._hits)

    async def _round(self, positions: Sequence[int], compute: Compute) -> list[int]:
        """Answer what can be; returns the positions whose vector another call did not bring."""
        mine: dict[int, Flight | None] = {}
        others: dict[int, asyncio.Future[Outcome | None]] = {}
        for i in positions:
            claim = self._cache.claim(self._keys[i], self._patience.lane)
            if isinstance(claim, Embedded):
                self._outcomes[i] = claim
                self._hits += 1
            elif claim is None or isinstance(claim, Flight):
                mine[i] = claim
            else:
                others[i] = claim
        try:
            if mine:
                await self._compute(list(mine), mine, compute)
        finally:
            for i, flight in mine.items():
                if flight:
                    self._cache.abandon(self._keys[i], flight)
        return [i for i, future in others.items() if not await self._came(i, future)]

    async def _compute(
        self, positions: Sequence[int], flights: dict[int, Flight | None], compute: Compute
    ) -> None:
        def on_answer(place: int, outcome: Outcome) -> None:
            i = positions[place]
            self._cache.answer(self._keys[i], flights.get(i), outcome, keep=self._use.write)

        made = await compute(positions, on_answer)
        self._outcomes.update(zip(positions, made.outcomes, strict=True))
        self._times.cover(made.times.decode_ms, made.times.queue_ms, made.times.infer_ms)

    async def _came(self, i: int, future: "asyncio.Future[Outcome | None]") -> bool:
        """Whether another call brought the vector of an input.

        Raises:
            TooLate: the deadline passed first.
        """
        deadline = self._patience.deadline
        left_s = None if deadline is None else deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                outcome = await future
        except TimeoutError:
            raise TooLate("the deadline passed before the answer was ready") from None
        if not isinstance(outcome, Embedded):
            return False  # its error speaks of its own field, deadline or queue: find out for ourselves
        self._outcomes[i] = outcome
        self._hits += 1
        return True
