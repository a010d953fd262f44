"""Whether the server is fit to take calls, told truthfully to callers and load balancers."""

import asyncio
import time
from collections.abc import Sequence
from enum import Enum

from grpc_health.v1 import health, health_pb2

from nearlight.server.errors import NotReady, Overloaded
from nearlight.server.log import get_logger

log = get_logger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

RETRY_DELAY_S = 0.5
# Quiet is when no call has come for so long; callers who never rest are not waited for longer than that.
QUIET_SECONDS = 0.1
LONGEST_QUIET_WAIT_SECONDS = 1.0


class Phase(Enum):
    """Where the server is in its life."""

    LOADING = "loading its models"
    SERVING = "serving"
    DRAINING = "draining"


class Health:
    """The phase, the stages that are down, and the calls in flight.

    grpc.health.v1 answers SERVING only while the phase is SERVING and every stage lives.

    Args:
        services: full names that can be asked for, besides "".
        max_calls: most calls in flight.
    """

    def __init__(self, services: Sequence[str], max_calls: int) -> None:
        self.servicer = health.aio.HealthServicer()
        self.phase = Phase.LOADING
        self.draining = asyncio.Event()
        self._services = ["", *services]
        self._dead: set[str] = set()
        self._max_calls = max_calls
        self._in_flight = 0
        self._last_call = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._tellings: set[asyncio.Task[None]] = set()

    async def enter(self, phase: Phase) -> None:
        """Move on, and tell."""
        self.phase = phase
        if phase is Phase.DRAINING:
            self.draining.set()
        await self.tell()

    def stage_died(self, stage: str) -> None:
        """A stage has fallen; called from any thread."""
        self._dead.add(stage)
        self._tell_from_anywhere()

    def stage_recovered(self, stage: str) -> None:
        """A stage that had fallen works again; called from any thread."""
        self._dead.discard(stage)
        self._tell_from_anywhere()

    def _tell_from_anywhere(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell_soon)
        except RuntimeError:  # the loop is closed: nobody asks any more
            return

    def _tell_soon(self) -> None:
        telling = self._loop.create_task(self.tell())
        self._tellings.add(telling)
        telling.add_done_callback(self._tellings.discard)

    async def tell(self) -> None:
        """Bring grpc.health.v1 up to date."""
        is_fit = self.phase is Phase.SERVING and not self._dead
        log.info("health", phase=self.phase.value, serving=is_fit, dead_stages=sorted(self._dead))
        for service in self._services:
            await self.servicer.set(service, _SERVING if is_fit else _NOT_SERVING)

    def begin_call(self) -> None:
        """A call wants to begin.

        Raises:
            NotReady: not the time for it.
            Overloaded: too many calls at once.
        """
        self._last_call = time.monotonic()
        if self.phase is not Phase.SERVING:
            raise NotReady(f"the server is {self.phase.value}")
        if self._in_flight >= self._max_calls:
            reason = f"{self._in_flight} calls are in flight; the limit is {self._max_calls}"
            raise Overloaded(reason, RETRY_DELAY_S)
        self._in_flight += 1
        self._idle.clear()

    @property
    def n_calls(self) -> int:
        """Calls in flight."""
        return self._in_flight

    def end_call(self) -> None:
        """A call that had begun is over."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def wait_idle(self, seconds: float) -> int:
        """Wait until no call is in flight, or so long; returns the calls still in flight."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain time is over", calls_cut_off=self._in_flight, drain_seconds=seconds)
        return self._in_flight

    async def wait_quiet(self) -> None:
        """Wait until no calls come any more, but not for long.

        gRPC cuts calls off that reach it just when it closes; those sent before the server said that it
        drains must still be read, and get a status.
        """
        ends = time.monotonic() + LONGEST_QUIET_WAIT_SECONDS
        while (left_s := min(ends, self._last_call + QUIET_SECONDS) - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
