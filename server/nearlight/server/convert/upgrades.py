"""Upgrades: from the wire and back."""

import math

from nearlight.server.call import Input
from nearlight.server.convert.values import check_count, json_bytes
from nearlight.server.errors import InvalidInput, NotBuilt
from nearlight.server.models import Models
from nearlight.store import Counts, Upgrade
from nearlight.v1 import maintenance_pb2

MAX_QUERIES = 1000
MAX_REASON_BYTES = 1000
MAX_SEQ = 2**63 - 1

_STATES: dict[str, maintenance_pb2.UpgradeState] = {
    "running": maintenance_pb2.UPGRADE_STATE_RUNNING,
    "paused": maintenance_pb2.UPGRADE_STATE_PAUSED,
    "ready": maintenance_pb2.UPGRADE_STATE_READY,
    "promoted": maintenance_pb2.UPGRADE_STATE_PROMOTED,
    "cancelled": maintenance_pb2.UPGRADE_STATE_CANCELLED,
    "failed": maintenance_pb2.UPGRADE_STATE_FAILED,
    "done": maintenance_pb2.UPGRADE_STATE_DONE,
}


def check_start(request: maintenance_pb2.StartUpgradeRequest) -> None:
    """Check what concerns no collection.

    Raises:
        InvalidInput: no model, or a rate that is none.
        NotBuilt: a folder on the server to read from.
    """
    if request.image_root:
        raise NotBuilt(
            "image_root is not built in this server; send the originals with SendUpgradeSources",
            field="image_root",
        )
    if not request.model:
        raise InvalidInput("model is empty; it must name a loaded model", field="model")
    rate = request.max_points_per_second
    if not math.isfinite(rate) or rate < 0:
        field = "max_points_per_second"
        raise InvalidInput(f"{field} is {rate}; it must be 0 or more", field=field)


def upgrade_message(
    collection: str, upgrade: Upgrade, counts: Counts, models: Models
) -> maintenance_pb2.UpgradeInfo:
    """An upgrade on the wire."""
    model = models.of_space(upgrade.new.space_id)
    message = maintenance_pb2.UpgradeInfo(
        collection=collection,
        state=_STATES[upgrade.state],
        old_space_id=upgrade.old.space_id,
        new_space_id=upgrade.new.space_id,
        done=counts.done,
        total=counts.total,
        failed=counts.failed,
        started_unix_ms=upgrade.started_unix_ms,
        message=upgrade.message,
        wanted=counts.wanted,
        model=model.name if model else "",
        bundle=upgrade.bundle,
        max_points_per_second=upgrade.max_points_per_second,
        left_out=counts.left_out,
    )
    if upgrade.evaluation:
        found = upgrade.evaluation
        message.evaluation.CopyFrom(
            maintenance_pb2.UpgradeEvaluation(
                points=found["n_points"],
                point_overlap_at_10=found["point_overlap"],
                texts=found["n_texts"],
                text_overlap_at_10=found["text_overlap"],
                old_query_ms=found["old_ms"],
                new_query_ms=found["new_ms"],
            )
        )
        parts = [(found["n_points"], found["point_overlap"]), (found["n_texts"], found["text_overlap"])]
        known = [(n, overlap) for n, overlap in parts if overlap is not None]
        if known:
            message.overlap_at_10 = sum(n * overlap for n, overlap in known) / sum(n for n, _ in known)
    return message


def check_queries(request: maintenance_pb2.ControlUpgradeRequest) -> list[str]:
    """The texts to compare the spaces with.

    Raises:
        InvalidInput: too many.
    """
    if request.queries:
        check_count(len(request.queries), MAX_QUERIES, "queries")
    return list(request.queries)


def source_of(message: maintenance_pb2.UpgradeSource, i: int) -> Input | str:
    """An original to embed, or why there is none.

    Raises:
        InvalidInput: none of the three, no seq, or a reason that is too long.
    """
    field = f"sources[{i}]"
    if not 1 <= message.seq <= MAX_SEQ:
        reason = f"{field}.seq is {message.seq}; it must be the seq of a point that is wanted"
        raise InvalidInput(reason, field=f"{field}.seq")
    which = message.WhichOneof("source")
    if which == "image":
        return Input("image", message.image, f"{field}.image")
    if which == "text":
        return Input("text", message.text, f"{field}.text")
    if which is None:
        raise InvalidInput(f"{field} has no source; it must hold image, text or missing", field=field)
    n_bytes = len(message.missing.encode())
    if n_bytes > MAX_REASON_BYTES:
        reason = f"{field}.missing has {n_bytes} bytes; the limit is {MAX_REASON_BYTES}"
        raise InvalidInput(reason, field=f"{field}.missing")
    return message.missing or "its original is missing"


def seq_after(token: str) -> int:
    """The seq that a page begins after.

    Raises:
        InvalidInput: the token is not one of ours.
    """
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidInput(f"page_token is {token[:40]!r}; it is none of ours", field="page_token")
    return int(token)


def id_json(point_id: str | int) -> bytes:
    """A point's id as JSON."""
    return json_bytes(point_id)
