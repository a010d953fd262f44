"""Plans that keep collections whole."""

from __future__ import annotations

from nearlight.client import convert
from nearlight.client.methods import VERIFY
from nearlight.client.plan import Plan, ask
from nearlight.client.values import Problem, Verification
from nearlight.v1 import maintenance_pb2


def verify(collection: str, sample: int) -> Plan[Verification]:
    """Compares what searches read with what is stored."""
    request = maintenance_pb2.VerifyRequest(
        collection=convert.text_for_wire(collection), sample=convert.uint32_for_wire("sample", sample)
    )
    reply = yield from ask(VERIFY(request))
    problems = tuple(Problem(one.kind, one.message) for one in reply.problems)
    return Verification(reply.points_checked, problems)
