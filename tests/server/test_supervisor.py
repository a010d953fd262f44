import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nearlight.server.supervisor import Life, Pulse, Supervisor


class Worker:
    """A stage of one thread that does what it is told: beat, die, end or hang."""

    def __init__(self, name: str = "worker") -> None:
        self.name = self.crew = name
        self.order = ""
        self.failed_begins = 0
        self.lives: list[Life] = []
        self.reasons: list[str] = []
        self.free = threading.Event()

    def begin(self, life: Life) -> None:
        if self.failed_begins:
            self.failed_begins -= 1
            raise OSError("no memory for it")
        self.order = ""
        self.lives.append(life)
        life.start_thread(f"{self.name} thread", self.run)

    def fall(self, reason: str) -> None:
        self.reasons.append(reason)

    def run(self, pulse: Pulse) -> None:
        while not pulse.is_over:
            pulse.beat()
            order = self.order
            if order == "die":
                raise SystemExit
            if order == "end":
                return
            if order == "hang":
                self.free.wait(30)
            time.sleep(0.002)


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


@pytest.fixture
def worker(supervisor: Supervisor) -> Iterator[Worker]:
    made = Worker()
    supervisor.start(made)
    yield made
    made.free.set()
    life = supervisor.forget(made)
    if life:
        life.join(30)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("die", "worker thread died"),
        ("end", "worker thread ended"),
        ("hang", "worker thread did not get on within 0.5 s"),
    ],
)
def test_a_stage_that_falls_answers_says_so_and_is_begun_anew(
    worker: Worker, falls: Any, order: str, reason: str
) -> None:
    worker.order = order
    until(lambda: falls.up)
    assert worker.reasons == [reason]
    assert (falls.down, falls.up) == (["worker"], ["worker"])
    first, second = worker.lives
    assert first.is_lost
    assert not second.is_over
    worker.free.set()  # the thread that hung comes back: it ends, and nobody minds
    first.join(30)
    time.sleep(0.05)
    assert falls.down == ["worker"]


def test_a_busy_stage_that_beats_is_left_alone(worker: Worker, falls: Any) -> None:
    time.sleep(1.2)
    assert not falls.down


def test_a_stage_that_cannot_begin_is_tried_again_ever_more_rarely(
    worker: Worker, supervisor: Supervisor, falls: Any
) -> None:
    worker.failed_begins = 2
    started = time.monotonic()
    worker.order = "die"
    until(lambda: falls.up)
    assert time.monotonic() - started >= 0.1 + 0.2 + 0.4  # never earlier
    assert falls.down == ["worker"]
    assert supervisor._delays[worker] == pytest.approx(0.4)


def test_one_stage_that_cannot_even_answer_does_not_keep_the_others_from_being_watched(
    worker: Worker, supervisor: Supervisor, falls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(reason: str) -> None:
        raise ZeroDivisionError

    other = Worker("other")
    supervisor.start(other)
    monkeypatch.setattr(other, "fall", stumble)
    other.order = "die"
    until(lambda: falls.up == ["other"])
    worker.order = "hang"
    until(lambda: falls.up == ["other", "worker"])
    supervisor.forget(other)


def test_a_stage_that_closed_is_not_begun_anew(worker: Worker, supervisor: Supervisor, falls: Any) -> None:
    worker.order = "die"
    until(lambda: worker.reasons)
    supervisor.forget(worker)
    time.sleep(0.3)
    assert len(worker.lives) == 1
    assert falls.up == ["worker"]  # what is closed is not down any more


def test_closing_is_no_fall(supervisor: Supervisor, falls: Any) -> None:
    made = Worker()
    supervisor.start(made)
    life = supervisor.forget(made)
    assert life
    life.join(30)
    assert not falls.down


def test_what_the_whole_process_lost_is_not_held_against_its_threads(
    worker: Worker, supervisor: Supervisor, falls: Any
) -> None:
    [pulse] = worker.lives[0].pulses
    now = time.monotonic()
    supervisor._look(now + 10, paused_s=10.0)  # stopped for ten seconds: all clocks have run on
    assert not falls.down
    assert pulse.last >= now
    supervisor._look(now + 30, paused_s=0.0)
    assert falls.down == ["worker"]


def test_a_first_start_that_fails_is_told_to_who_starts(supervisor: Supervisor, falls: Any) -> None:
    made = Worker()
    made.failed_begins = 1
    with pytest.raises(OSError, match="no memory"):
        supervisor.start(made)
    assert not falls.down
