"""Rows into batches, batches through the engine, vectors to their calls.

An idle engine takes what is there at once. While it runs the queue fills by itself, and as soon as it holds a
full batch that batch is gathered ahead, so that the engine goes from one to the next without a pause.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearlight.server.call import Call, Embedded, Lane, Row, Work
from nearlight.server.engine import Encoder
from nearlight.server.errors import ModelFailure, NotReady, ServerError
from nearlight.server.fair_queue import FairQueue
from nearlight.server.log import get_logger
from nearlight.server.metrics import observe
from nearlight.server.threads import start_stage_thread

log = get_logger(__name__)

CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Batch:
    works: list[Work]
    rows: Row  # (B, …)


class Batcher:
    """The queue of ready rows of one tower, and the two threads that empty it.

    Every input put here is settled: with its vector, its own failure, or the reason why the stage ended.

    Args:
        name: for logs and thread names, such as "nearlight-tiny/image".
        encoder: used by one thread only.
        max_batch: most rows of one run.
        on_death: called once with the stage's name if one of its threads dies.
    """

    def __init__(
        self, name: str, encoder: Encoder, *, max_batch: int, on_death: Callable[[str], None]
    ) -> None:
        self.name = name
        self.is_dead = False
        self._encoder = encoder
        self._max_batch = max_batch
        self._on_death = on_death
        self._changed = threading.Condition()
        self._queue = FairQueue()
        self._gathering: list[Work] = []
        self._ahead: _Batch | None = None
        self._running: list[Work] = []
        self._is_closed = False
        self._threads = [
            start_stage_thread(f"{name} gather", self._gather_ahead, self._die),
            start_stage_thread(f"{name} engine", self._run_engine, self._die),
        ]

    def put(self, work: Work) -> None:
        """Queue a ready row; called by the threads that prepare rows."""
        work.ready_at = time.monotonic()
        with self._changed:
            if not self._is_over:
                self._queue.push(work)
                self._changed.notify_all()
                return
        work.settle(self._refusal())

    def discard(self, call: Call) -> None:
        """Forget the waiting rows of a call that nobody reads any more."""
        with self._changed:
            self._queue.discard_call(call)

    def waiting(self, lane: Lane) -> int:
        """Rows that wait in a lane."""
        return len(self._queue)

    def close(self) -> None:
        """Finish the running batch, refuse the rest, end both threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
        self._fail_all(self._refusal())

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self.is_dead

    def _refusal(self) -> ServerError:
        return NotReady(f"{self.name} is " + ("out of service: a stage died" if self.is_dead else "closing"))

    # The gathering thread

    def _gather_ahead(self) -> None:
        """Keep a full batch ready beside the running one."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._should_gather())
                if self._is_over:
                    return
                self._gathering = self._take()
            batch = self._gather(self._gathering)
            with self._changed:
                self._ahead, self._gathering = batch, []
                self._changed.notify_all()

    def _should_gather(self) -> bool:
        return bool(self._running) and self._ahead is None and self._queue.holds_full_batch(self._max_batch)

    # The engine's thread

    def _run_engine(self) -> None:
        """Run batch after batch."""
        while True:
            with self._changed:
                self._running = []
                self._changed.wait_for(
                    lambda: self._is_over or self._ahead is not None or len(self._queue) > 0
                )
                if self._is_over:
                    return
                batch, self._ahead = self._ahead, None
                self._running = batch.works if batch else self._take()
                self._changed.notify_all()
            batch = batch or self._gather(self._running)
            if batch:
                self._encode(batch.works, batch.rows)

    def _take(self) -> list[Work]:
        """The next batch, less the inputs that nobody waits for any more."""
        while batch := self._queue.take(self._max_batch):
            wanted = [work for work in batch if not _dropped(work)]
            if wanted:
                return wanted
        return []

    def _gather(self, works: list[Work]) -> _Batch | None:
        """Copy rows side by side; None where there are none, or no memory for them."""
        try:
            rows = [work.row for work in works if work.row is not None]
            return _Batch(works, np.stack(rows)) if rows else None
        except Exception as error:
            log.error("gathering a batch failed", stage=self.name, rows=len(works), exc_info=True)
            for work in works:
                work.settle(ModelFailure(f"gathering failed: {error}"))
            return None

    def _encode(self, works: list[Work], rows: Row) -> None:
        """Answer each input; on failure halve the batch until only the poisoned input fails."""
        started = time.monotonic()
        try:
            vectors = self._encoder.encode(rows)  # (B, D)
            if vectors.shape != (len(works), self._encoder.dim):
                raise ValueError(f"{vectors.shape} vectors for {len(works)} rows of dim {self._encoder.dim}")
        except Exception as error:
            if len(works) == 1:
                log.error(
                    "the engine failed on an input",
                    stage=self.name,
                    input=works[0].input.field,
                    exc_info=True,
                )
                works[0].settle(ModelFailure(f"the engine failed: {error}"))
                return
            half = len(works) // 2
            self._encode(works[:half], rows[:half])
            self._encode(works[half:], rows[half:])
            return
        infer_ms = (time.monotonic() - started) * 1e3
        observe.batch(self.name, rows, infer_ms / 1e3)
        is_finite = np.isfinite(np.sum(vectors, axis=1))  # (B,)
        for i, work in enumerate(works):
            work.call.times.cover(queue_ms=(started - work.ready_at) * 1e3, infer_ms=infer_ms)
            if is_finite[i]:
                work.settle(Embedded(vectors[i], work.truncated))
            else:
                log.error(
                    "the engine gave a vector that is not finite", stage=self.name, input=work.input.field
                )
                work.settle(ModelFailure("the engine gave a vector that is not finite"))

    # The end

    def _die(self, thread: str) -> None:
        """A thread is gone: nothing here will be answered any more, so say so to everyone."""
        with self._changed:
            self.is_dead = True
            self._changed.notify_all()
        self._on_death(thread)
        self._fail_all(ModelFailure(f"{thread} died"))

    def _fail_all(self, error: ServerError) -> None:
        with self._changed:
            owned = [*self._queue.discard_all(), *self._gathering, *self._running]
            owned += self._ahead.works if self._ahead else []
            self._ahead = None
        for work in owned:
            work.settle(error)


def _dropped(work: Work) -> bool:
    """Answer an input that is no longer wanted, before it costs anything."""
    reason = work.call.no_longer_wanted()
    if reason:
        work.settle(reason)
    return reason is not None
