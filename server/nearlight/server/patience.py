"""How a caller waits: whose turn it is, until when, and whether it may be refused for want of room."""

import time
from dataclasses import dataclass, replace
from typing import Any

import grpc

from nearlight.server.call import Caller, Lane
from nearlight.server.errors import InvalidInput
from nearlight.v1 import input_pb2

_LANES: dict[int, Lane] = {
    input_pb2.PRIORITY_INTERACTIVE: "interactive",
    input_pb2.PRIORITY_BULK: "bulk",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How a caller waits.

    Args:
        caller: whose turn it is, one per RPC.
        deadline: on `time.monotonic`'s clock, None for none.
        waits_for_room: wait for room in a full queue (streams) instead of being refused.
        lane: its inputs wait in.
    """

    caller: Caller
    deadline: float | None = None
    waits_for_room: bool = False
    lane: Lane = "interactive"

    def wishing(self, priority: int) -> "Patience":
        """The same, in the lane that a request asks for by its `priority`; unspecified changes nothing.

        Raises:
            InvalidInput: a number that is no priority.
        """
        if priority == input_pb2.PRIORITY_UNSPECIFIED:
            return self
        if priority not in _LANES:
            reason = f"priority is {priority}; it must be 1 (INTERACTIVE) or 2 (BULK)"
            raise InvalidInput(reason, field="priority")
        return replace(self, lane=_LANES[priority])


def patience_of(context: grpc.aio.ServicerContext[Any, Any], *, waits_for_room: bool = False) -> Patience:
    """The patience of the caller of an RPC: until its deadline; in the bulk lane where it waits for room."""
    remaining_s = context.time_remaining()
    deadline = None if remaining_s is None else time.monotonic() + remaining_s
    return Patience(Caller(), deadline, waits_for_room, "bulk" if waits_for_room else "interactive")
