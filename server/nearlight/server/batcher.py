"""Rows into batches, batches to the engines of a tower, vectors to their calls.

Each engine is a `Session`; whichever is free takes the next batch. An idle one takes what is there, at once
or after the rows that `Expectation` finds worth waiting for. While all of them run the queue fills by itself,
and as soon as it holds a full batch that batch is gathered ahead, so that an engine goes from one to the next
without a pause. An interactive input that comes then still goes before a bulk batch that was gathered.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nearlight.server.batch import Batch, still_wanted
from nearlight.server.call import Call, Lane, Row, Work
from nearlight.server.cost import CostModel
from nearlight.server.errors import NotReady, ServerError
from nearlight.server.expectation import Expectation
from nearlight.server.lanes import INTERACTIVE_WEIGHT, LaneQueue
from nearlight.server.metrics import observe
from nearlight.server.runtimes.encoder import Encoder
from nearlight.server.session import Session
from nearlight.server.supervisor import Pulse, Supervisor

CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a session runs next.

    Args:
        lane: whose turn it is.
        works: the inputs; may be empty.
        ahead: their batch, where it was gathered ahead.
    """

    lane: Lane
    works: list[Work]
    ahead: Batch | None


class Batcher:
    """The queue of ready rows of one tower, and the sessions that empty it.

    Every input put here is settled: with its vector, its own failure, or the reason why its session fell.

    Args:
        name: for logs and thread names, such as "nearlight-tiny/image".
        encoders: one for each session, used by one thread only.
        max_batch: most rows of one run.
        supervisor: watches the sessions, and begins one anew when it dies or hangs.
        renew: makes another encoder for the session of that number: the old one may still be stuck in a call.
            None: keep the old.
        costs: of the engines' runs; kept fresh.
        interactive_weight: see `LaneQueue`.
        shares_cores: the engines run on the cores that prepare rows, see `Expectation`.
    """

    def __init__(
        self,
        name: str,
        *encoders: Encoder,
        max_batch: int,
        supervisor: Supervisor,
        renew: Callable[[int], Encoder] | None = None,
        costs: CostModel | None = None,
        interactive_weight: float = INTERACTIVE_WEIGHT,
        shares_cores: bool = False,
    ) -> None:
        self.name = name
        self._max_batch = max_batch
        self._supervisor = supervisor
        self._costs = costs or CostModel()
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # engines wait here,
        self._filled = threading.Condition(lock)  # and here those who gather a batch ahead
        self._queue = LaneQueue(interactive_weight)
        self._ahead: Batch | None = None
        self._expectation = Expectation(shares_cores=shares_cores)
        self._is_closed = False
        names = [f"{name}#{number}" for number in range(len(encoders))] if len(encoders) > 1 else [name]
        self.sessions = [
            Session(names[number], self, encoder, partial(renew, number) if renew else None)
            for number, encoder in enumerate(encoders)
        ]
        for session in self.sessions:
            supervisor.start(session)

    @property
    def alive(self) -> int:
        """Sessions that work."""
        return sum(session.is_up for session in self.sessions)

    @property
    def is_dead(self) -> bool:
        """Whether no session works: nothing put here would be answered."""
        return not self.alive

    def expect(self, work: Work) -> None:
        """A row will be put here, unless it is given up."""
        with self._changed:
            self._expectation.add(work)

    def give_up(self, work: Work) -> None:
        """An expected row will not be put here."""
        if not work.is_expected:  # it has come, as nearly always
            return
        with self._changed:
            self._expectation.remove(work)
            self._notify(work.call.lane, 0)

    def put(self, works: Sequence[Work]) -> None:
        """Queue ready rows; called by the threads that prepare rows."""
        now = time.monotonic()
        with self._changed:
            for work in works:
                work.ready_at = now
                self._expectation.remove(work)
            if not (self._is_closed or self.is_dead):
                for work in works:
                    self._queue.push(work)
                for lane, n in Counter(work.call.lane for work in works).items():
                    self._notify(lane, n)
                return
        for work in works:
            work.settle(self._refusal())

    def _notify(self, lane: Lane, n: int) -> None:
        """Wake the threads where `n` rows more, or one less to come, change what they do.

        Whoever is woken for nothing takes the interpreter from those who prepare the next row.
        """
        waiting = self._queue.waiting(lane)
        is_full = waiting >= self._max_batch
        if waiting and (waiting == n or is_full or not self._expectation.coming(lane)):
            self._changed.notify_all()
        if is_full:
            self._filled.notify_all()

    def discard(self, call: Call) -> None:
        """Forget the waiting rows of a call that nobody reads any more."""
        with self._changed:
            self._queue.discard_call(call)

    def waiting(self, lane: Lane) -> int:
        """Rows that wait in a lane."""
        return self._queue.waiting(lane)

    def close(self) -> None:
        """Finish the running batches, refuse the rest, end the threads."""
        lives = [self._supervisor.forget(session) for session in self.sessions]
        with self._changed:
            self._is_closed = True
            self._wake_all()
        for life in lives:
            if life:
                life.join(CLOSE_SECONDS)
        with self._changed:
            left = [*self._rest(), *(work for session in self.sessions for work in session.put_down())]
        for work in left:
            work.settle(self._refusal())

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self._filled.notify_all()

    def _refusal(self) -> ServerError:
        return NotReady(f"{self.name} is " + ("closing" if self._is_closed else "out of service; try again"))

    # What sessions do here

    def enlist(self, session: Session) -> None:
        """A session begins a life."""
        with self._changed:
            session.is_up = True

    def dismiss(self, session: Session) -> tuple[list[Work], list[Work]]:
        """A session has fallen.

        Returns:
            What it held; and what waits, where it was the last to work: the others go on with that.
        """
        with self._changed:
            session.is_up = False
            held = session.put_down()
            self._wake_all()
            return held, self._rest() if self.is_dead else []

    def _rest(self) -> list[Work]:
        """Everything that no session holds, taken out."""
        ahead, self._ahead = self._ahead, None
        return [*self._queue.discard_all(), *(ahead.works if ahead else [])]

    def take_to_gather(self, session: Session, pulse: Pulse) -> tuple[Lane, list[Work]] | None:
        """Wait a while for a full batch that no session is free to run; now gathered by this one."""
        with self._changed:
            self._filled.wait_for(lambda: pulse.is_over or self._lane_to_gather(), pulse.rest_s)
            lane = self._lane_to_gather()
            if pulse.is_over or lane is None:
                return None
            session.gathering = self._take(lane, self._max_batch)
            return lane, session.gathering

    def put_ahead(self, session: Session, batch: Batch | None, pulse: Pulse) -> None:
        """A batch was gathered: the next free session runs it."""
        with self._changed:
            if not pulse.is_over:
                self._ahead, session.gathering = batch, []
                self._changed.notify_all()

    def _lane_to_gather(self) -> Lane | None:
        up = [session for session in self.sessions if session.is_up]
        can = self._ahead is None and all(session.running and not session.gathering for session in up)
        return self._queue.full_lane(self._max_batch) if can and up else None

    def next_turn(self, session: Session, pulse: Pulse) -> Turn | None:
        """Wait until there is something to run; it is then held by the session. None: its life is over."""
        with self._changed:
            if pulse.is_over:
                return None
            session.running, session.runs_until = [], 0.0
            self._wait_for_batch(pulse)
            if pulse.is_over:
                return None
            turn = self._next(session)
            if len(self.sessions) > 1:
                self._changed.notify_all()
            if self._lane_to_gather():
                self._filled.notify_all()
            return turn

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

    def _next(self, session: Session) -> Turn:
        """Whose turn it is, and the inputs that run now."""
        ahead = self._ahead
        lane = self._queue.turn(ahead.lane if ahead else None)
        assert lane is not None
        if ahead and ahead.lane == lane:
            self._ahead, works = None, ahead.works
        else:
            ahead, works = None, self._take(lane, self._share(lane))
        self._expectation.engine_runs()
        if works:
            batch_s = self._costs.batch_s(works[0].shape, len(works))
            self._queue.charge(lane, batch_s or float(len(works)))
            session.running, session.runs_until = works, time.monotonic() + batch_s
        return Turn(lane, works, ahead)

    def _share(self, lane: Lane) -> int:
        """Most rows of the next batch: where several sessions are idle each takes its part of what waits."""
        idle = sum(session.is_up and not session.running for session in self.sessions)
        return min(self._max_batch, -(-self._queue.waiting(lane) // max(1, idle)))

    def _take(self, lane: Lane, limit: int) -> list[Work]:
        """The next batch of a lane, and rows of the bulk lane that ride along nearly for nothing."""
        while batch := self._queue.take(lane, min(limit, self._in_time(lane))):
            wanted = still_wanted(batch)
            if wanted and lane == "interactive":
                riders = self._costs.riders(wanted[0].shape, len(wanted), self._max_batch)
                wanted += still_wanted(self._queue.take_shape("bulk", wanted[0].shape, riders))
            if wanted:
                return wanted
        return []

    def _in_time(self, lane: Lane) -> int:
        """Most rows of the next batch: no more than let its first input be answered in time.

        The first has waited longest. Those cut off come next, and their deadlines are later, as a rule.
        """
        first = self._queue.next(lane)
        if first is None or first.call.deadline is None:
            return self._max_batch
        begins = max(
            time.monotonic(), min((one.runs_until for one in self.sessions if one.is_up), default=0.0)
        )
        return self._costs.rows_within(first.shape, first.call.deadline - begins, self._max_batch)

    def observe(self, rows: Row, seconds: float) -> None:
        """A session ran a batch."""
        self._costs.observe(rows.shape[1:], len(rows), seconds)
        observe.batch(self.name, rows, seconds)
