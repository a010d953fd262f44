"""Threads that may die or hang without taking anyone along: watched, told, begun anew.

A `Stage` owns work and does it in threads. One run of a stage, from its start to its end, is a `Life`. Each
thread of a life beats a `Pulse` at every turn of its loop, and now and then while it rests. The supervisor
ends a life when one of its threads dies, or has not beaten for too long: it says so (health), lets the stage
answer everyone it held, and begins a new life a little later. A thread that hangs cannot be killed: it is
left behind with its life, and whatever it still brings is ignored.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nearlight.server.log import get_logger

log = get_logger(__name__)

# A resting thread wakes this often to beat, or more often where the limit is short.
REST_SECONDS = 1.0
TICK_SECONDS = 0.25
# A stage that falls again and again is begun anew ever more rarely, until a life has lasted this long.
LONGEST_RESTART_SECONDS = 60.0
PROVEN_SECONDS = 60.0


class Pulse:
    """The sign of life of one thread.

    Args:
        thread: its name.
        life: it belongs to.
        rest_s: longest rest of the thread: it then wakes to beat.
    """

    __slots__ = ("_life", "last", "rest_s", "thread")

    def __init__(self, thread: str, life: "Life", rest_s: float) -> None:
        self.thread = thread
        self.rest_s = rest_s
        self.last = time.monotonic()
        self._life = life

    def beat(self) -> None:
        """Say that the thread gets on; at least every `call_limit_s`."""
        self.last = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the thread should end, once it has finished what it holds."""
        return self._life.is_over

    @property
    def is_lost(self) -> bool:
        """Whether the thread was given up: what it holds has been answered, it must not touch the stage."""
        return self._life.is_lost


Loop = Callable[[Pulse], None]


class Life:
    """One run of a stage: its threads, from the start to the fall or the end."""

    def __init__(self, stage: "Stage", supervisor: "Supervisor") -> None:
        self.stage = stage
        self.began = time.monotonic()
        self.is_over = False
        self.is_lost = False
        self.pulses: list[Pulse] = []
        self._supervisor = supervisor
        self._threads: list[threading.Thread] = []

    def start_thread(self, name: str, loop: Loop) -> None:
        """Start a thread whose end before the life's end is a fall.

        Args:
            name: for logs.
            loop: returns only when its pulse is over; anything it raises is a death.
        """
        pulse = Pulse(name, self, min(REST_SECONDS, self._supervisor.call_limit_s / 4))

        def run() -> None:
            try:
                loop(pulse)
                reason = f"{name} ended"
            except BaseException:
                log.critical("a stage thread died", stage=self.stage.name, thread=name, exc_info=True)
                reason = f"{name} died"
            self._supervisor.fell(self, reason)

        self.pulses.append(pulse)
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)  # last: `join` may come from another thread at any moment

    def end(self) -> None:
        """The stage closes: the end of its threads is no fall."""
        self.is_over = True

    def join(self, seconds: float) -> None:
        """Wait for its threads, so long for each at most."""
        for thread in self._threads:
            thread.join(seconds)


class Stage(Protocol):
    """Something that works in threads and owes answers.

    Attributes:
        name: for logs.
        crew: stages of one crew do the same work, one for another. Health hears of the crew: that it is down
            when the last of them falls, that it is up when the first works again.
    """

    name: str
    crew: str

    def begin(self, life: Life) -> None:
        """Start the threads of a new life; may take seconds, and may raise: it is then tried again later."""
        ...

    def fall(self, reason: str) -> None:
        """The life is over before its time: answer everyone whose work was held. Must not block."""
        ...


@dataclass(frozen=True, slots=True)
class _Restart:
    stage: Stage
    due: float


class Supervisor:
    """Watches the stages of a server.

    Args:
        on_down: called with the name of a crew when its last stage falls; must not block.
        on_up: called with its name when one works again, or when it closes; must not block.
        call_limit_s: longest time between two beats: a bound on every single call of an engine or a decoder.
        restart_after_s: before a stage that fell is begun anew; doubled while it keeps falling.
    """

    def __init__(
        self,
        on_down: Callable[[str], None],
        on_up: Callable[[str], None],
        *,
        call_limit_s: float = 60.0,
        restart_after_s: float = 1.0,
    ) -> None:
        self.call_limit_s = call_limit_s
        self._on_down = on_down
        self._on_up = on_up
        self._restart_after_s = restart_after_s
        self._tick_s = min(TICK_SECONDS, call_limit_s / 4, max(0.01, restart_after_s / 4))
        self._lock = threading.Lock()
        self._lives: dict[Stage, Life] = {}
        self._delays: dict[Stage, float] = {}
        self._restarts: list[_Restart] = []
        self._down: set[str] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, stage: Stage) -> None:
        """Begin the first life of a stage, here and now.

        Raises:
            Exception: whatever kept the stage from beginning.
        """
        with self._lock:
            self._lives[stage] = Life(stage, self)
        self._begin(stage)

    def forget(self, stage: Stage) -> Life | None:
        """The stage closes: end its life and watch it no more; returns that life, for its threads."""
        with self._lock:
            life = self._lives.pop(stage, None)
            self._restarts = [restart for restart in self._restarts if restart.stage is not stage]
            self._delays.pop(stage, None)
            if not any(other.crew == stage.crew for other in self._lives):
                self._tell_up(stage.crew)
        if life:
            life.end()
        return life

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._thread.join()

    def fell(self, life: Life, reason: str) -> None:
        """A thread of this life died or hangs; a second report of one life does nothing."""
        with self._lock:
            if life.is_over:
                return
            life.is_over = life.is_lost = True
            self._tell_down(life.stage.crew)  # inside: down and up are told in their order
        stage, lasted_s = life.stage, time.monotonic() - life.began
        log.critical("a stage fell", stage=stage.name, reason=reason, lasted_s=round(lasted_s, 3))
        try:
            stage.fall(reason)
        except Exception:
            log.critical("a stage could not answer for its fall", stage=stage.name, exc_info=True)
        self._begin_later(stage, is_proven=lasted_s >= PROVEN_SECONDS)

    def _begin_later(self, stage: Stage, *, is_proven: bool) -> None:
        with self._lock:
            if stage not in self._lives:
                return  # it closed meanwhile
            last = 0.0 if is_proven else self._delays.get(stage, 0.0)
            delay_s = min(2 * last, LONGEST_RESTART_SECONDS) if last else self._restart_after_s
            self._delays[stage] = delay_s
            self._restarts.append(_Restart(stage, time.monotonic() + delay_s))

    def _begin(self, stage: Stage) -> None:
        """Begin a new life, unless the stage has closed."""
        life = Life(stage, self)
        with self._lock:
            if stage not in self._lives:
                return
            self._lives[stage] = life
        try:
            stage.begin(life)
        except BaseException:
            life.is_over = life.is_lost = True
            raise

    def _begin_anew(self, stage: Stage) -> None:
        """In a thread of its own: a stage may take seconds to load what it needs."""
        try:
            self._begin(stage)
        except Exception:
            log.critical("a stage cannot be begun anew", stage=stage.name, exc_info=True)
            self._begin_later(stage, is_proven=False)
            return
        with self._lock:
            life = self._lives.get(stage)
            if life and not life.is_over:
                log.warning("a stage works again", stage=stage.name)
                self._tell_up(stage.crew)

    def _tell_down(self, crew: str) -> None:
        # A life without threads yet is only about to begin, and may not.
        mates = (life for stage, life in self._lives.items() if stage.crew == crew and life.pulses)
        if crew not in self._down and all(life.is_over for life in mates):
            self._down.add(crew)
            self._on_down(crew)

    def _tell_up(self, crew: str) -> None:
        if crew in self._down:
            self._down.remove(crew)
            self._on_up(crew)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._closed.wait(self._tick_s):
            now = time.monotonic()
            try:
                self._look(now, paused_s=max(0.0, now - before - 2 * self._tick_s))
            except Exception:
                log.critical("the supervisor stumbled", exc_info=True)
            before = now

    def _look(self, now: float, paused_s: float) -> None:
        """One round.

        Args:
            now: `time.monotonic`.
            paused_s: how long this very thread did not get to run: the process was stopped, or starved of
                processor time. Then the others were too, and that is not held against them.
        """
        with self._lock:
            lives = [life for life in self._lives.values() if not life.is_over]
            due = [restart for restart in self._restarts if restart.due <= now]
            self._restarts = [restart for restart in self._restarts if restart.due > now]
        for life in lives:
            for pulse in life.pulses:
                pulse.last = min(now, pulse.last + paused_s)
                if now - pulse.last > self.call_limit_s:
                    self.fell(life, f"{pulse.thread} did not get on within {self.call_limit_s:g} s")
        for restart in due:
            threading.Thread(
                target=self._begin_anew,
                args=[restart.stage],
                name=f"{restart.stage.name} restart",
                daemon=True,
            ).start()
