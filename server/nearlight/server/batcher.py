"""Rows into batches, batches through the engine, vectors to their calls.

An idle engine takes what is there, at once or after the rows that `Expectation` finds worth waiting for.
While it runs the queue fills by itself, and as soon as it holds a full batch that batch is gathered ahead, so
that the engine goes from one to the next without a pause. An interactive input that comes then still goes
before a bulk batch that was gathered.
"""

import threading
import time
from collections.abc import Callable

from nearlight.server.batch import Batch, gathered, run, still_wanted, without_unwanted
from nearlight.server.call import Call, Lane, Row, Work
from nearlight.server.cost import CostModel
from nearlight.server.errors import ModelFailure, NotReady, ServerError
from nearlight.server.expectation import Expectation
from nearlight.server.lanes import INTERACTIVE_WEIGHT, LaneQueue
from nearlight.server.metrics import observe
from nearlight.server.runtimes.encoder import Encoder
from nearlight.server.supervisor import Life, Pulse, Supervisor

CLOSE_SECONDS = 10.0


class Batcher:
    """The queue of ready rows of one tower, and the two threads that empty it: a stage.

    Every input put here is settled: with its vector, its own failure, or the reason why the stage fell.

    Args:
        name: for logs and thread names, such as "nearlight-tiny/image".
        encoder: used by one thread only.
        max_batch: most rows of one run.
        supervisor: watches the threads, and begins the stage anew when one dies or hangs.
        renew: makes another encoder for that: the old one may still be stuck in a call. None: keep the old.
        costs: of the engine's runs; kept fresh.
        interactive_weight: see `LaneQueue`.
        shares_cores: the engine runs on the cores that prepare rows, see `Expectation`.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        *,
        max_batch: int,
        supervisor: Supervisor,
        renew: Callable[[], Encoder] | None = None,
        costs: CostModel | None = None,
        interactive_weight: float = INTERACTIVE_WEIGHT,
        shares_cores: bool = False,
    ) -> None:
        self.name = name
        self.is_dead = False
        self._encoder = encoder
        self._renew = renew
        self._max_batch = max_batch
        self._supervisor = supervisor
        self._costs = costs or CostModel()
        self._changed = threading.Condition()
        self._queue = LaneQueue(interactive_weight)
        self._gathering: list[Work] = []
        self._ahead: Batch | None = None
        self._running: list[Work] = []
        self._runs_until = 0.0
        self._expectation = Expectation(shares_cores=shares_cores)
        self._is_closed = False
        supervisor.start(self)

    def expect(self, work: Work) -> None:
        """A row will be put here, unless it is given up."""
        with self._changed:
            self._expectation.add(work)

    def give_up(self, work: Work) -> None:
        """An expected row will not be put here."""
        with self._changed:
            self._expectation.remove(work)
            self._notify(work.call.lane)

    def put(self, work: Work) -> None:
        """Queue a ready row; called by the threads that prepare rows."""
        work.ready_at = time.monotonic()
        lane = work.call.lane
        with self._changed:
            self._expectation.remove(work)
            if not (self._is_closed or self.is_dead):
                self._queue.push(work)
                self._notify(lane)
                return
        work.settle(self._refusal())

    def _notify(self, lane: Lane) -> None:
        """Wake the threads where a row more, or one less to come, changes what they do."""
        waiting = self._queue.waiting(lane)
        if waiting and (waiting == 1 or waiting >= self._max_batch or not self._expectation.coming(lane)):
            self._changed.notify_all()

    def discard(self, call: Call) -> None:
        """Forget the waiting rows of a call that nobody reads any more."""
        with self._changed:
            self._queue.discard_call(call)

    def waiting(self, lane: Lane) -> int:
        """Rows that wait in a lane."""
        return self._queue.waiting(lane)

    def close(self) -> None:
        """Finish the running batch, refuse the rest, end both threads."""
        life = self._supervisor.forget(self)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if life:
            life.join(CLOSE_SECONDS)
        self._fail_all(self._refusal(), self._refusal())

    def _refusal(self) -> ServerError:
        return NotReady(f"{self.name} is " + ("closing" if self._is_closed else "out of service; try again"))

    # Its lives

    def begin(self, life: Life) -> None:
        """Start both threads, at first on the encoder given, later on a new one."""
        if self.is_dead and self._renew:
            self._encoder = self._renew()
        with self._changed:
            self.is_dead = False
        life.start_thread(f"{self.name} gather", self._gather_ahead)
        life.start_thread(f"{self.name} engine", self._run_engine)

    def fall(self, reason: str) -> None:
        """Nothing here will be answered by this life any more: say so to everyone."""
        with self._changed:
            self.is_dead = True
            self._changed.notify_all()
        self._fail_all(ModelFailure(reason), NotReady(f"{self.name} is out of service: {reason}; try again"))

    def _fail_all(self, held: ServerError, waiting: ServerError) -> None:
        """Settle everything: what was being worked on, and what was not yet."""
        with self._changed:
            works = [(work, held) for work in (*self._gathering, *self._running)]
            rest = [*self._queue.discard_all(), *(self._ahead.works if self._ahead else [])]
            works += [(work, waiting) for work in rest]
            self._gathering, self._running, self._ahead = [], [], None
        for work, error in works:
            work.settle(error)

    # The gathering thread

    def _gather_ahead(self, pulse: Pulse) -> None:
        """Keep a full batch ready beside the running one."""
        while True:
            pulse.beat()
            with self._changed:
                self._changed.wait_for(lambda: pulse.is_over or self._lane_to_gather(), pulse.rest_s)
                if pulse.is_over:
                    return
                lane = self._lane_to_gather()
                if lane is None:
                    continue
                works = self._gathering = self._take(lane)
            batch = gathered(self.name, lane, works)
            with self._changed:
                if pulse.is_over:
                    return
                self._ahead, self._gathering = batch, []
                self._changed.notify_all()

    def _lane_to_gather(self) -> Lane | None:
        can = bool(self._running) and self._ahead is None
        return self._queue.full_lane(self._max_batch) if can else None

    # The engine's thread

    def _run_engine(self, pulse: Pulse) -> None:
        """Run batch after batch."""
        encoder = self._encoder
        while True:
            pulse.beat()
            with self._changed:
                if pulse.is_over:
                    return
                self._running, self._runs_until = [], 0.0
                self._wait_for_batch(pulse)
                if pulse.is_over:
                    return
                lane, works, ahead = self._next()
                self._changed.notify_all()
            batch = without_unwanted(ahead) if ahead else gathered(self.name, lane, works)
            if batch:
                run(self.name, batch, encoder, pulse, self._observe)

    def _wait_for_batch(self, pulse: Pulse) -> None:
        while not pulse.is_over:
            hold_s = self._hold_s()
            if hold_s is not None and hold_s <= 0:
                return
            self._changed.wait(pulse.rest_s if hold_s is None else min(pulse.rest_s, hold_s))
            pulse.beat()

    def _hold_s(self) -> float | None:
        """Seconds to wait for rows that are being prepared; <= 0: run now, None: nothing to run."""
        if self._ahead:
            return 0.0
        lane = self._queue.turn()
        if lane is None:
            return None
        if self._queue.waiting(lane) >= self._max_batch:
            return 0.0
        return self._expectation.hold_s(lane, self._max_batch * self._costs.input_s(self._max_batch))

    def _next(self) -> tuple[Lane, list[Work], Batch | None]:
        """Whose turn it is, the inputs that run now, and their batch where it was gathered ahead."""
        ahead = self._ahead
        lane = self._queue.turn(ahead.lane if ahead else None)
        assert lane is not None
        if ahead and ahead.lane == lane:
            self._ahead, works = None, ahead.works
        else:
            ahead, works = None, self._take(lane)
        self._running = works
        self._expectation.engine_runs()
        if works:
            batch_s = self._costs.batch_s(works[0].shape, len(works))
            self._queue.charge(lane, batch_s or float(len(works)))
            self._runs_until = time.monotonic() + batch_s
        return lane, works, ahead

    def _take(self, lane: Lane) -> list[Work]:
        """The next batch of a lane, and rows of the bulk lane that ride along nearly for nothing."""
        while batch := self._queue.take(lane, self._limit(lane)):
            wanted = still_wanted(batch)
            if wanted and lane == "interactive":
                riders = self._costs.riders(wanted[0].shape, len(wanted), self._max_batch)
                wanted += still_wanted(self._queue.take_shape("bulk", wanted[0].shape, riders))
            if wanted:
                return wanted
        return []

    def _limit(self, lane: Lane) -> int:
        """Most rows of the next batch: no more than let its first input be answered in time.

        The first has waited longest. Those cut off come next, and their deadlines are later, as a rule.
        """
        first = self._queue.next(lane)
        if first is None or first.call.deadline is None:
            return self._max_batch
        begins = max(time.monotonic(), self._runs_until)
        return self._costs.rows_within(first.shape, first.call.deadline - begins, self._max_batch)

    def _observe(self, rows: Row, seconds: float) -> None:
        self._costs.observe(rows.shape[1:], len(rows), seconds)
        observe.batch(self.name, rows, seconds)
