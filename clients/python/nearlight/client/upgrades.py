"""Upgrades: what they are on this side of the wire, and their plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nearlight.client import convert
from nearlight.client.methods import (
    CONTROL_UPGRADE,
    GET_UPGRADE,
    LIST_UPGRADE_FAILURES,
    LIST_UPGRADE_WANTED,
    SEND_UPGRADE_SOURCES,
    START_UPGRADE,
)
from nearlight.client.plan import Plan, ask
from nearlight.client.values import ItemError, PointId
from nearlight.v1 import maintenance_pb2

UpgradeState = Literal["running", "paused", "ready", "promoted", "cancelled", "failed", "done"]
UpgradeStep = Literal["pause", "resume", "evaluate", "promote", "roll_back", "cancel", "clean"]


@dataclass(frozen=True, slots=True)
class SpaceComparison:
    """How both spaces answer the same queries.

    Attributes:
        points: points used as queries.
        point_overlap_at_10: mean share of their ten best hits that both spaces agree on, 0 to 1, or None.
        texts: texts used as queries.
        text_overlap_at_10: the same for them.
        old_query_ms: median milliseconds of a query in the old space.
        new_query_ms: in the new one.
    """

    points: int
    point_overlap_at_10: float | None
    texts: int
    text_overlap_at_10: float | None
    old_query_ms: float
    new_query_ms: float


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A collection that changes its model; see UpgradeInfo in maintenance.proto.

    Attributes:
        done: points with a vector of the new model, of ``total``; ``failed`` could not be embedded.
        wanted: points whose original the server has not: somebody must send it.
        left_out: points that searches leave out, because they have no vector of the space in use.
        model: of the new space, "" where none is loaded.
        message: why it failed, or what it waits for.
    """

    collection: str
    state: UpgradeState
    old_space_id: str
    new_space_id: str
    done: int
    total: int
    failed: int
    wanted: int
    left_out: int
    model: str
    bundle: str
    max_points_per_second: float
    started_unix_ms: int
    message: str
    overlap_at_10: float | None
    evaluation: SpaceComparison | None


@dataclass(frozen=True, slots=True)
class UpgradeFailure:
    """A point that could not be embedded, and why."""

    id: PointId
    message: str


@dataclass(frozen=True, slots=True)
class WantedOriginal:
    """A point whose original the server has not kept; ``seq`` names this version of it."""

    seq: int
    id: PointId
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Original:
    """What a point was embedded from: an image, or why there is none."""

    seq: int
    image: bytes | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class OriginalsSent:
    """What became of originals: embedded, of points changed since, failed."""

    embedded: int
    outdated: int
    errors: tuple[ItemError, ...]


def start(collection: str, model: str, max_points_per_second: float) -> Plan[Upgrade]:
    """Begins an upgrade, or goes on with it."""
    request = maintenance_pb2.StartUpgradeRequest(
        collection=convert.text_for_wire(collection),
        model=convert.text_for_wire(model),
        max_points_per_second=max_points_per_second,
    )
    return upgrade_from_wire((yield from ask(START_UPGRADE(request))))


def get(collection: str) -> Plan[Upgrade]:
    """Tells how far an upgrade is."""
    request = maintenance_pb2.GetUpgradeRequest(collection=convert.text_for_wire(collection))
    return upgrade_from_wire((yield from ask(GET_UPGRADE(request))))


def control(
    collection: str, step: UpgradeStep, *, drop_missing: bool, queries: Sequence[str]
) -> Plan[Upgrade]:
    """Moves an upgrade on."""
    request = maintenance_pb2.ControlUpgradeRequest(
        collection=convert.text_for_wire(collection),
        action=f"UPGRADE_ACTION_{step.upper()}",
        drop_missing=drop_missing,
        queries=[convert.text_for_wire(query) for query in queries],
    )
    return upgrade_from_wire((yield from ask(CONTROL_UPGRADE(request))))


def failures(collection: str) -> Plan[list[UpgradeFailure]]:
    """Lists the points that could not be embedded, over all pages."""
    found: list[UpgradeFailure] = []
    token = ""
    while True:
        request = maintenance_pb2.ListUpgradeFailuresRequest(
            collection=convert.text_for_wire(collection), page_size=1000, page_token=token
        )
        page = yield from ask(LIST_UPGRADE_FAILURES(request))
        found += [UpgradeFailure(json.loads(one.id_json), one.message) for one in page.failures]
        token = page.next_page_token
        if not token:
            return found


def wanted(collection: str, token: str) -> Plan[tuple[list[WantedOriginal], str]]:
    """Gets a page of the points whose original somebody must send, and the token of the next, "" for none."""
    request = maintenance_pb2.ListUpgradeWantedRequest(
        collection=convert.text_for_wire(collection), page_size=1000, page_token=token
    )
    page = yield from ask(LIST_UPGRADE_WANTED(request))
    found = [
        WantedOriginal(one.seq, json.loads(one.id_json), convert.json_from_wire(one.payload_json))
        for one in page.wanted
    ]
    return found, page.next_page_token


def send(collection: str, originals: Sequence[Original]) -> Plan[OriginalsSent]:
    """Sends originals; they must fit one message."""
    request = maintenance_pb2.SendUpgradeSourcesRequest(
        collection=convert.text_for_wire(collection), sources=map(original_for_wire, originals)
    )
    reply = yield from ask(SEND_UPGRADE_SOURCES(request))
    errors = tuple(convert.item_error_from_wire(one, one.index) for one in reply.errors)
    return OriginalsSent(reply.embedded, reply.outdated, errors)


def original_for_wire(original: Original) -> maintenance_pb2.UpgradeSource:
    """Returns an original as it is sent."""
    if original.image is not None:
        return maintenance_pb2.UpgradeSource(seq=original.seq, image=original.image)
    reason = original.missing.encode(errors="backslashreplace")[:1000].decode(errors="ignore")
    return maintenance_pb2.UpgradeSource(seq=original.seq, missing=reason)


def upgrade_from_wire(message: maintenance_pb2.UpgradeInfo) -> Upgrade:
    """Returns an upgrade."""
    state = maintenance_pb2.UpgradeState.Name(message.state).removeprefix("UPGRADE_STATE_").lower()
    found = message.evaluation
    comparison = SpaceComparison(
        points=found.points,
        point_overlap_at_10=found.point_overlap_at_10 if found.HasField("point_overlap_at_10") else None,
        texts=found.texts,
        text_overlap_at_10=found.text_overlap_at_10 if found.HasField("text_overlap_at_10") else None,
        old_query_ms=found.old_query_ms,
        new_query_ms=found.new_query_ms,
    )
    return Upgrade(
        collection=message.collection,
        state=state,  # type: ignore[arg-type]  # one of the literals, by the proto
        old_space_id=message.old_space_id,
        new_space_id=message.new_space_id,
        done=message.done,
        total=message.total,
        failed=message.failed,
        wanted=message.wanted,
        left_out=message.left_out,
        model=message.model,
        bundle=message.bundle,
        max_points_per_second=message.max_points_per_second,
        started_unix_ms=message.started_unix_ms,
        message=message.message,
        overlap_at_10=message.overlap_at_10 if message.HasField("overlap_at_10") else None,
        evaluation=comparison if message.HasField("evaluation") else None,
    )
