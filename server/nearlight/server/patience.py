"""How a caller waits: whose turn it is, until when, and whether it may be refused for want of room."""

import time
from dataclasses import dataclass
from typing import Any

import grpc

from nearlight.server.call import Caller


@dataclass(frozen=True, slots=True)
class Patience:
    """How a caller waits.

    Args:
        caller: whose turn it is, one per RPC.
        deadline: on `time.monotonic`'s clock, None for none.
        waits_for_room: wait for room in a full queue (streams) instead of being refused.
    """

    caller: Caller
    deadline: float | None = None
    waits_for_room: bool = False


def patience_of(context: grpc.aio.ServicerContext[Any, Any], *, waits_for_room: bool = False) -> Patience:
    """The patience of the caller of an RPC: until its deadline."""
    remaining_s = context.time_remaining()
    deadline = None if remaining_s is None else time.monotonic() + remaining_s
    return Patience(Caller(), deadline, waits_for_room)
