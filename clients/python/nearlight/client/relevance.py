"""Calibrating a collection, so that its hits have a relevance: the result, and the plan of the call."""

from __future__ import annotations

from dataclasses import dataclass

from nearlight.client import convert
from nearlight.client.methods import CALIBRATE
from nearlight.client.plan import Plan, ask
from nearlight.v1 import maintenance_pb2


@dataclass(frozen=True, slots=True)
class CollectionCalibration:
    """What was fitted.

    Attributes:
        text_midpoint: cosine at which a text query's hit has relevance one half, for a typical point; None
            where the server has no model for texts in this space.
        image_midpoint: the same for an image query.
        points: how many points it was fitted to.
    """

    text_midpoint: float | None
    image_midpoint: float
    points: int


def calibrate_collection(name: str) -> Plan[CollectionCalibration]:
    """Fits the relevance of a collection's hits."""
    request = maintenance_pb2.CalibrateRequest(collection=convert.text_for_wire(name))
    reply = yield from ask(CALIBRATE(request))
    text = reply.text_midpoint if reply.HasField("text_midpoint") else None
    return CollectionCalibration(text, reply.image_midpoint, reply.points)
