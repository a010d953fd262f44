"""Filling upgrades in the background: originals that the store keeps become vectors of the new space.

One task for each collection whose upgrade is under way. What it has done is in the store; after a restart,
whatever ended the last one, it goes on where vectors are missing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, Caller, Input, Outcome
from nearlight.server.catalog import Catalog
from nearlight.server.embedder import Embedder
from nearlight.server.errors import Abandoned, NotReady, Overloaded, ServerError, TooLate
from nearlight.server.log import get_logger
from nearlight.server.models import LoadedModel
from nearlight.server.patience import Patience
from nearlight.server.status import message_of
from nearlight.store import (
    CollectionNotFound,
    Counts,
    StoreClosed,
    StoreError,
    Upgrade,
    UpgradeNotFound,
    UpgradeRefused,
    Upgrades,
)

log = get_logger(__name__)

BATCH_POINTS = 32
# Between looks for points that came in without a vector of the new space.
REST_SECONDS = 0.5
# Of the time, at most so large a share is spent on counting.
COUNTING_SHARE = 0.05
_PASSING = (Overloaded, TooLate, NotReady, Abandoned)
_OVER = (CollectionNotFound, StoreClosed, UpgradeNotFound)


class Pace:
    """So many points a second, over all who embed for one upgrade."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def take(self, n: int, points_per_second: float) -> None:
        """Wait until n more points are allowed; 0 means no bound."""
        if points_per_second <= 0:
            return
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + n / points_per_second
        await asyncio.sleep(start - now)


@dataclass(slots=True)
class _Round:
    """How far a task is: no original waits up to a seq; which write it last counted at, and when it may."""

    after: int = 0
    last_seq: int = -1
    may_count_at: float = 0.0


class Upgrader:
    """Fills upgrades.

    Args:
        catalog: collections and models.
        embedder: embeds.
        evaluate: compares the spaces of a collection once all is embedded.
    """

    def __init__(
        self, catalog: Catalog, embedder: Embedder, evaluate: Callable[[str], Awaitable[object]]
    ) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._evaluate = evaluate
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._paces: dict[str, Pace] = {}
        self._news: dict[str, asyncio.Event] = {}

    async def begin(self) -> None:
        """Go on with what a former process has begun."""
        for info in await self._catalog.run(self._catalog.store.collections):
            if info.other_space_id:
                self.wake(info.name)

    async def close(self) -> None:
        """Stop; what is embedded is kept."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _upgrades(self) -> Upgrades:
        return self._catalog.embedded("an upgrade").upgrades

    def wake(self, name: str) -> None:
        """Look at a collection's upgrade again from its first point: it was started, resumed, or switched."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
        self._news[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name), name=f"upgrade of {name}")

    def tell(self, name: str) -> None:
        """Points of a collection were embedded, or given up, by somebody else."""
        if name in self._news:
            self._news[name].set()

    async def pace(self, name: str, n: int, points_per_second: float) -> None:
        """Wait for the turn of n points."""
        await self._paces.setdefault(name, Pace()).take(n, points_per_second)

    async def embed(
        self, model: LoadedModel, inputs: Mapping[int, Input]
    ) -> tuple[dict[int, F32], dict[int, str], dict[int, ServerError]]:
        """Embed originals by their seq.

        Returns:
            Vectors (D,), why the others cannot be embedded, and what may go better another time.

        Raises:
            ServerError: none can be embedded now.
        """
        patience = Patience(Caller(), waits_for_room=True, lane="bulk")
        use = CacheUse(read=True, write=False)
        made = await self._embedder.embed(model, list(inputs.values()), patience, use)
        return _sorted(list(inputs), made.outcomes)

    async def _run(self, name: str) -> None:
        """Embed what is there to embed, batch by batch, until the upgrade is promoted, paused or over."""
        round_ = _Round()
        while True:
            try:
                upgrade = self._upgrades.get(name)
                if upgrade.state not in ("running", "ready"):
                    return
                if not await self._step(name, upgrade, round_):
                    await self._rest(name)
            except _OVER:
                return
            except UpgradeRefused:
                await asyncio.sleep(0)  # its state is another now
            except _PASSING as error:
                log.info("an upgrade waits", collection=name, reason=str(error))
                await asyncio.sleep(REST_SECONDS)
            except Exception as error:
                log.error("an upgrade failed", collection=name, exc_info=error)
                await self._fail(name, error)
                return

    async def _step(self, name: str, upgrade: Upgrade, round_: _Round) -> bool:
        """Embed one batch, or see whether all is done; False where there is nothing to do now."""
        model = await self._model(name, upgrade)
        if model is None:
            return False
        reached = await self._embed_some(name, upgrade, model, round_.after)
        if reached > round_.after:
            round_.after = reached
            return True
        news, last_seq = self._news[name], self._catalog.collection(name).info.last_seq
        is_other = news.is_set() or last_seq != round_.last_seq
        if upgrade.state == "running" and is_other and time.monotonic() > round_.may_count_at:
            news.clear()
            round_.last_seq = last_seq
            began = time.monotonic()
            await self._end_if_done(name)
            ended = time.monotonic()
            round_.may_count_at = ended + (ended - began) / COUNTING_SHARE
        return False

    async def _model(self, name: str, upgrade: Upgrade) -> LoadedModel | None:
        """The new model; None, and a word in the upgrade, where it is not loaded."""
        model = self._catalog.models.of_space(upgrade.new.space_id)
        waits = "" if model else f"waits for a model of space {upgrade.new.space_id[:16]} to be loaded"
        if upgrade.message != waits and upgrade.state == "running":
            upgrades = self._upgrades
            await self._catalog.run(lambda: upgrades.set_state(name, upgrade.state, waits))
        return model

    async def _embed_some(self, name: str, upgrade: Upgrade, model: LoadedModel, after: int) -> int:
        """Embed a batch of what is kept; returns the seq up to which nothing is left to do."""
        upgrades = self._upgrades
        rate = upgrade.max_points_per_second
        size = min(BATCH_POINTS, max(1, int(rate))) if rate else BATCH_POINTS
        batch = await self._catalog.run(lambda: upgrades.pending(name, after, size))
        if not batch:
            return after
        await self.pace(name, len(batch), rate)
        inputs = {one.seq: input_of(one.original, f"point of seq {one.seq}") for one in batch}
        vectors, failed, passing = await self.embed(model, inputs)
        await self._catalog.run(lambda: upgrades.write(name, vectors, failed))
        self.tell(name)
        if passing:
            raise next(iter(passing.values()))
        return batch[-1].seq

    async def _end_if_done(self, name: str) -> None:
        counts: Counts = await self._catalog.run(lambda: self._upgrades.counts(name))
        if counts.wanted or counts.pending:
            return
        await self._evaluate(name)
        await self._catalog.run(lambda: self._upgrades.set_state(name, "ready"))
        log.info("an upgrade is ready", collection=name, points=counts.total, failed=counts.failed)

    async def _rest(self, name: str) -> None:
        if self._news[name].is_set():  # it is not time to count yet
            await asyncio.sleep(REST_SECONDS / 5)
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                await self._news[name].wait()

    async def _fail(self, name: str, error: Exception) -> None:
        message = message_of(error) if isinstance(error, ServerError | StoreError) else "internal error"
        with suppress(StoreError):
            await self._catalog.run(lambda: self._upgrades.set_state(name, "failed", message[:1000]))


def input_of(original: bytes | str, field: str) -> Input:
    """An image or a text to embed."""
    return Input("image" if isinstance(original, bytes) else "text", original, field)


def _sorted(
    seqs: Sequence[int], outcomes: Sequence[Outcome]
) -> tuple[dict[int, F32], dict[int, str], dict[int, ServerError]]:
    vectors: dict[int, F32] = {}
    failed: dict[int, str] = {}
    passing: dict[int, ServerError] = {}
    for seq, outcome in zip(seqs, outcomes, strict=True):
        if isinstance(outcome, _PASSING):
            passing[seq] = outcome
        elif isinstance(outcome, ServerError):
            failed[seq] = message_of(outcome)
        else:
            vectors[seq] = outcome.vector
    return vectors, failed, passing
