"""One request inside the pipeline: split into inputs on arrival, joined when the last of them is answered."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from nearlight.bundle.image import ImageProfile
from nearlight.server.errors import Abandoned, ServerError, TooLate
from nearlight.server.log import current_request

F32 = npt.NDArray[np.float32]
Row = npt.NDArray[np.uint8 | np.int64]
TowerKind = Literal["image", "text"]
TOWERS: tuple[TowerKind, ...] = ("image", "text")
Lane = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = ("interactive", "bulk")

_arrivals = itertools.count()


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to embed, as it came over the wire.

    Args:
        kind: the tower it is for.
        content: encoded image bytes, or text.
        field: its path in the request, such as "inputs[3].image", for error messages.
        profile: how an image is prepared; None: as the server does.
        hashed: an image whose perceptual hash is wanted too.
    """

    kind: TowerKind
    content: bytes | str
    field: str
    profile: ImageProfile | None = None
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """The answer to one input.

    Args:
        vector: (D,) unit length.
        truncated: its text was cut to the context length.
        perceptual_hash: of an image, where it was asked for and it has one; 0 to 2^64-1.
    """

    vector: F32
    truncated: bool = False
    perceptual_hash: int | None = None


Outcome = Embedded | ServerError


class Caller:
    """Whose turn it is: one per RPC. Queues go round robin between callers."""

    __slots__ = ()


@dataclass(slots=True)
class StageTimes:
    """The slowest input of a call at each stage, milliseconds of wall time."""

    decode_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0

    def cover(self, decode_ms: float = 0.0, queue_ms: float = 0.0, infer_ms: float = 0.0) -> None:
        """Keep the larger of what is known and what is given."""
        self.decode_ms = max(self.decode_ms, decode_ms)
        self.queue_ms = max(self.queue_ms, queue_ms)
        self.infer_ms = max(self.infer_ms, infer_ms)


class Call:
    """The inputs of one request, answered in any order by any thread.

    Every input is settled once, the first answer stays. `joined` returns when all are: every stage that takes
    an input settles it, also when it fails, so nobody waits forever.

    Args:
        size: number of inputs, at least 1.
        caller: for fairness between callers.
        deadline: on the clock of `time.monotonic`, None for no deadline.
        lane: its inputs wait in.
        on_answer: told each input's index and outcome once, by the thread that settles it; must not block.
    """

    def __init__(
        self,
        size: int,
        caller: Caller,
        deadline: float | None,
        lane: Lane = "interactive",
        on_answer: Callable[[int, Outcome], None] | None = None,
    ) -> None:
        self.caller = caller
        self.deadline = deadline
        self.lane = lane
        self._on_answer = on_answer
        self.times = StageTimes()
        self.is_cancelled = False
        self._is_late = False
        self.request_id = current_request()
        self._outcomes: list[Outcome | None] = [None] * size
        # Inputs that have no answer yet; changed under the lock, read by anyone.
        self.left = size
        self._lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def settle(self, index: int, outcome: Outcome) -> None:
        """Answer one input, from any thread; a second answer is ignored."""
        if self.note(index, outcome):
            wake([self])

    def note(self, index: int, outcome: Outcome) -> bool:
        """Answer one input without waking whoever waits for the call.

        Returns:
            Whether it was the last one: `wake` must follow.
        """
        with self._lock:
            if self._outcomes[index] is not None:
                return False
            self._outcomes[index] = outcome
            self.left -= 1
            is_last = not self.left
        if self._on_answer:
            self._on_answer(index, outcome)
        return is_last

    async def joined(self) -> Sequence[Outcome]:
        """All outcomes in the order of the inputs.

        Raises:
            TooLate: the deadline passed first.
        """
        alarm = None
        if self.deadline is not None:
            until = self.loop.time() + self.deadline - time.monotonic()
            alarm = self.loop.call_at(until, self._ring)
        try:
            await self.done
        finally:
            if alarm:
                alarm.cancel()
        # A stage may notice before the alarm rings: an answer of which parts came too late is too late.
        if self._is_late or any(isinstance(outcome, TooLate) for outcome in self._outcomes):
            raise TooLate("the deadline passed before the answer was ready")
        return [outcome for outcome in self._outcomes if outcome is not None]

    def _ring(self) -> None:
        """Its deadline has come."""
        if not self.done.done():
            self._is_late = True
            self.done.set_result(None)

    def cancel(self) -> None:
        """Nobody reads the answer any more: stages drop its inputs instead of working on them."""
        self.is_cancelled = True

    def no_longer_wanted(self) -> ServerError | None:
        """Why work on this call would be for nothing, or None while it is wanted."""
        if self.is_cancelled:
            return Abandoned("the caller went away")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return TooLate("the deadline passed before work on this input began")
        return None


def wake(calls: Sequence[Call]) -> None:
    """Tell those who wait for these calls; each event loop is woken once, from any thread.

    To wake a loop takes a system call, during which the loop already takes the interpreter: once for each
    call of a batch, the engine's thread would come back to its next batch milliseconds later.
    """
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for call in calls:
        loops.setdefault(call.loop, []).append(call.done)
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_finish, futures)
        except RuntimeError:  # the loop is closed: the process is ending and nobody is left to tell
            continue


def _finish(futures: Sequence["asyncio.Future[None]"]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the engine takes for one input.

    Args:
        row: (H, W, 3) uint8 pixels or (L,) int64 tokens.
        truncated: the text was cut to the context length.
        perceptual_hash: as `Embedded` has it.
    """

    row: Row
    truncated: bool = False
    perceptual_hash: int | None = None


Prepare = Callable[[Sequence[Input]], Sequence[Prepared | ServerError]]


def _nothing(work: "Work") -> None:
    return


@dataclass(frozen=True, slots=True)
class Route:
    """Where an input goes.

    Args:
        prepare: makes rows of inputs, or says for each why there is none. What it raises is held against all.
        deliver: takes inputs with their rows.
        expect: told that a row will come, before it is prepared.
        give_up: told that a row will not come; without effect once it has.
    """

    prepare: Prepare
    deliver: Callable[[Sequence["Work"]], None]
    expect: Callable[["Work"], None] = _nothing
    give_up: Callable[["Work"], None] = _nothing


@dataclass(slots=True, eq=False)
class Work:
    """One input on its way through the stages. Whoever holds it must settle it or hand it on.

    Args:
        call: whom the answer goes to.
        index: position in the call.
        input: as it came.
        route: the stages ahead.
        row: what the engine takes, once prepared: (H, W, 3) uint8 or (L,) int64.
        truncated: its text was cut to the context length.
        perceptual_hash: as `Embedded` has it.
        arrival: grows with every input of the process.
        ready_at: when the row was put into the engine's queue, `time.monotonic` seconds.
        is_expected: the engine's queue counts on its row; for that queue alone.
    """

    call: Call
    index: int
    input: Input
    route: Route
    row: Row | None = None
    truncated: bool = False
    perceptual_hash: int | None = None
    arrival: int = field(default_factory=lambda: next(_arrivals))
    ready_at: float = 0.0
    is_expected: bool = False

    def settle(self, outcome: Outcome) -> None:
        """Answer this input."""
        self.row = None
        self.call.settle(self.index, outcome)

    def note(self, outcome: Outcome) -> bool:
        """Answer this input as `Call.note` does."""
        self.row = None
        return self.call.note(self.index, outcome)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of one shape share a batch; () before preparation."""
        return () if self.row is None else self.row.shape
