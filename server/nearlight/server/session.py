"""One engine at work: it takes batches from the queue of its tower, runs them and answers.

The sessions of a tower share one queue. Each is a stage of its own, so that one that dies or hangs fails what
it held, and leaves the others serving while it is begun anew.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from nearlight.server.batch import gathered, run, without_unwanted
from nearlight.server.call import Work
from nearlight.server.errors import ModelFailure, NotReady
from nearlight.server.runtimes.encoder import Encoder
from nearlight.server.supervisor import Life, Pulse

if TYPE_CHECKING:
    from nearlight.server.batcher import Batcher


class Session:
    """An encoder, the thread that runs it, and one that gathers a batch ahead.

    Args:
        name: for logs and thread names.
        batcher: whose queue it empties.
        encoder: used by one thread only.
        renew: makes another one for a new life; None: the old one is kept.
    """

    def __init__(
        self, name: str, batcher: "Batcher", encoder: Encoder, renew: Callable[[], Encoder] | None
    ) -> None:
        self.name = name
        self.crew = batcher.name
        # These four are the batcher's to change, under its lock.
        self.is_up = False
        self.running: list[Work] = []
        self.runs_until = 0.0  # about; `time.monotonic`, 0 while it does not run
        self.gathering: list[Work] = []
        self._batcher = batcher
        self._encoder = encoder
        self._renew = renew
        self._has_lived = False

    def begin(self, life: Life) -> None:
        """Start both threads, at first on the encoder given, later on a new one."""
        if self._has_lived and self._renew:
            self._encoder = self._renew()
        self._has_lived = True
        self._batcher.enlist(self)
        try:
            life.start_thread(f"{self.name} gather", self._gather_ahead)
            life.start_thread(f"{self.name} engine", self._run_engine)
        except BaseException:  # no more threads to be had: whoever comes now must not wait for this one
            self.fall(f"{self.name} could not start its threads")
            raise

    def fall(self, reason: str) -> None:
        """Nothing that this life holds will be answered any more: say so to everyone."""
        held, rest = self._batcher.dismiss(self)
        for work in held:
            work.settle(ModelFailure(reason))
        for work in rest:
            work.settle(NotReady(f"{self.crew} is out of service: {reason}; try again"))

    def put_down(self) -> list[Work]:
        """What it held: it holds nothing any more."""
        held = [*self.gathering, *self.running]
        self.gathering, self.running = [], []
        return held

    def _gather_ahead(self, pulse: Pulse) -> None:
        """Keep a full batch ready beside those that run."""
        while not pulse.is_over:
            pulse.beat()
            taken = self._batcher.take_to_gather(self, pulse)
            if taken:
                self._batcher.put_ahead(self, gathered(self.name, *taken), pulse)

    def _run_engine(self, pulse: Pulse) -> None:
        """Run batch after batch."""
        encoder = self._encoder
        pulse.beat()
        while turn := self._batcher.next_turn(self, pulse):
            ahead = turn.ahead
            batch = without_unwanted(ahead) if ahead else gathered(self.name, turn.lane, turn.works)
            if batch:
                run(self.name, batch, encoder, pulse, self._batcher.observe)
            pulse.beat()
