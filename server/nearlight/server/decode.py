"""Inputs into rows, on arrival, in pools of threads: the engine's queue holds only what is ready to run."""

import threading
import time
from collections.abc import Callable, Sequence

from nearlight.bundle.errors import ImageError
from nearlight.bundle.image import ImageLimits, ImageProfile, decode_for, preprocess
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.server.batch import still_wanted
from nearlight.server.call import Call, Input, Prepare, Prepared, Route, Work
from nearlight.server.errors import InvalidInput, ModelFailure, NotReady, ServerError
from nearlight.server.lanes import INTERACTIVE_WEIGHT, LaneQueue
from nearlight.server.log import get_logger
from nearlight.server.perceptual_hash import perceptual_hash
from nearlight.server.supervisor import Life, Pulse, Supervisor

log = get_logger(__name__)

CLOSE_SECONDS = 5.0
# Of the texts that one turn takes: long ones are not to keep the next in line waiting for a second.
TURN_SIZE = 16_384


class DecodePool:
    """Threads that prepare inputs, in turns of lanes and callers.

    Every input given here is settled or handed to its engine's queue.

    Args:
        threads: at least 1.
        supervisor: watches them, and begins one anew when it dies or hangs.
        interactive_weight: see `LaneQueue`.
        work: what they do, for logs and thread names.
        at_once: most inputs that one thread takes; no thread waits for more than there are.
    """

    def __init__(
        self,
        threads: int,
        supervisor: Supervisor,
        interactive_weight: float = INTERACTIVE_WEIGHT,
        *,
        work: str = "decode",
        at_once: int = 1,
    ) -> None:
        self._supervisor = supervisor
        self._work = work
        self._at_once = at_once
        self._changed = threading.Condition()
        self._queue = LaneQueue(interactive_weight)
        self._is_closed = False
        self._decoders = [_Decoder(f"{work} {number}", self) for number in range(threads)]
        for decoder in self._decoders:
            supervisor.start(decoder)

    def submit(self, works: Sequence[Work]) -> None:
        """Queue the inputs of a call."""
        with self._changed:
            if self._is_working:
                for work in works:
                    work.route.expect(work)
                    self._queue.push(work)
                self._changed.notify(len(works))
                return
        for work in works:
            work.settle(self._refusal())

    def discard(self, call: Call) -> None:
        """Forget the waiting inputs of a call that nobody reads any more."""
        with self._changed:
            gone = self._queue.discard_call(call)
        for work in gone:
            work.route.give_up(work)

    def close(self) -> None:
        """Refuse what waits and end the threads."""
        lives = [self._supervisor.forget(decoder) for decoder in self._decoders]
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for life in lives:
            if life:
                life.join(CLOSE_SECONDS)
        self.fail_waiting(NotReady("the server is closing"))

    @property
    def _is_working(self) -> bool:
        return not self._is_closed and any(decoder.is_up for decoder in self._decoders)

    def _refusal(self) -> ServerError:
        return NotReady(f"no thread is left to {self._work}; try again")

    def next_works(self, decoder: "_Decoder", pulse: Pulse) -> list[Work]:
        """The inputs whose turn it is, now held by a decoder; none where there were none for a while."""
        with self._changed:
            self._changed.wait_for(lambda: pulse.is_over or len(self._queue) > 0, pulse.rest_s)
            if pulse.is_over:
                return []
            works: list[Work] = []
            size = 0
            while len(works) < self._at_once and size < TURN_SIZE and (lane := self._queue.turn()):
                self._queue.charge(lane, 1.0)
                works += self._queue.take(lane, 1)
                size += len(works[-1].input.content)
            decoder.held = works
            return works

    def put_down(self, decoder: "_Decoder") -> list[Work]:
        """A decoder has fallen: what it held. Where it was the last, nothing waits for it any more."""
        with self._changed:
            held, decoder.held, decoder.is_up = decoder.held, [], False
        if not self._is_working:
            self.fail_waiting(self._refusal())
        return held

    def fail_waiting(self, error: ServerError) -> None:
        """Answer everyone in the queue."""
        with self._changed:
            waiting = self._queue.discard_all()
        for work in waiting:
            work.route.give_up(work)
            work.settle(error)


class _Decoder:
    """One thread of the pool: a stage of its own, so that one that hangs leaves the others at work."""

    def __init__(self, name: str, pool: DecodePool) -> None:
        self.name = self.crew = name
        self.is_up = False
        self.held: list[Work] = []
        self._pool = pool

    def begin(self, life: Life) -> None:
        self.is_up = True
        life.start_thread(self.name, self._run)

    def fall(self, reason: str) -> None:
        for work in self._pool.put_down(self):
            work.route.give_up(work)
            work.settle(ModelFailure(reason))

    def _run(self, pulse: Pulse) -> None:
        while not pulse.is_over:
            pulse.beat()
            works = self._pool.next_works(self, pulse)
            _prepare(works, pulse)
            if not pulse.is_lost:
                self.held = []


def _prepare(works: Sequence[Work], pulse: Pulse) -> None:
    """Make rows and hand them on, or settle inputs with what is wrong with them.

    A thread that was given up while it prepared does neither: the inputs have their answers.

    Args:
        works: on one route or on several.
        pulse: of the thread.
    """
    routes: dict[Route, list[Work]] = {}
    for work in works:
        routes.setdefault(work.route, []).append(work)
    for route, mates in routes.items():
        try:
            wanted = still_wanted(mates)
            if wanted:
                _prepare_on(route, wanted, pulse)
        finally:
            for work in mates:
                route.give_up(work)  # unless it was delivered


def _prepare_on(route: Route, works: list[Work], pulse: Pulse) -> None:
    started = time.monotonic()
    outcomes = _outcomes(route, works, pulse)
    if pulse.is_lost:
        return
    decode_ms = (time.monotonic() - started) * 1e3
    ready: list[Work] = []
    for work, outcome in zip(works, outcomes, strict=True):
        if isinstance(outcome, ServerError):
            work.settle(outcome)
            continue
        work.row, work.truncated = outcome.row, outcome.truncated
        work.perceptual_hash = outcome.perceptual_hash
        work.call.times.cover(decode_ms=decode_ms)
        ready.append(work)
    if ready := still_wanted(ready):  # some callers may have left meanwhile
        route.deliver(ready)


def _outcomes(route: Route, works: list[Work], pulse: Pulse) -> Sequence[Prepared | ServerError]:
    """A row for each input, or why there is none; of inputs that fail together each is tried alone."""
    pulse.beat()
    try:
        return route.prepare([work.input for work in works])
    except Exception as error:
        if len(works) > 1:
            return [_outcomes(route, [work], pulse)[0] for work in works]
        field, request_id = works[0].input.field, works[0].call.request_id
        log.error("preparing an input failed", input=field, request_id=request_id, exc_info=True)
        return [ModelFailure(f"preparing failed: {error}")]


def one_by_one(prepare_one: Callable[[Input], Prepared]) -> Prepare:
    """A function for several inputs from one for one, which may raise what is wrong with its input."""

    def prepare_each(inputs: Sequence[Input]) -> list[Prepared | ServerError]:
        outcomes: list[Prepared | ServerError] = []
        for item in inputs:
            try:
                outcomes.append(prepare_one(item))
            except ServerError as error:
                outcomes.append(error)
        return outcomes

    return prepare_each


def image_preparation(spec: ImagePreprocess, limits: ImageLimits, profile: ImageProfile = "exact") -> Prepare:
    """A function from encoded images to their rows (H, W, 3) uint8, or to InvalidInput.

    Args:
        spec: of the bundle.
        limits: of the server.
        profile: of inputs that name none.
    """

    def prepare_image(image: Input) -> Prepared:
        assert isinstance(image.content, bytes)
        try:
            decoded = decode_for(image.content, spec, limits, image.profile or profile)
            seen = perceptual_hash(decoded) if image.hashed else None
            return Prepared(preprocess(decoded, spec), perceptual_hash=seen)
        except ImageError as error:
            raise InvalidInput(f"{image.field}: {error}", field=image.field) from error

    return one_by_one(prepare_image)
