"""Plans that keep collections whole."""

from __future__ import annotations

from nearlight.client import convert
from nearlight.client.methods import (
    CREATE_SNAPSHOT,
    DELETE_SNAPSHOT,
    LIST_SNAPSHOTS,
    RESTORE_SNAPSHOT,
    VERIFY,
)
from nearlight.client.plan import Plan, ask
from nearlight.client.values import CollectionInfo, Problem, Snapshot, Verification
from nearlight.v1 import maintenance_pb2


def verify(collection: str, sample: int) -> Plan[Verification]:
    """Compares what searches read with what is stored."""
    request = maintenance_pb2.VerifyRequest(
        collection=convert.text_for_wire(collection), sample=convert.uint32_for_wire("sample", sample)
    )
    reply = yield from ask(VERIFY(request))
    problems = tuple(Problem(one.kind, one.message) for one in reply.problems)
    return Verification(reply.points_checked, problems)


def create_snapshot(collection: str) -> Plan[Snapshot]:
    """Copies a collection while it serves."""
    request = maintenance_pb2.CreateSnapshotRequest(collection=convert.text_for_wire(collection))
    return snapshot_from_wire((yield from ask(CREATE_SNAPSHOT(request))))


def snapshots(collection: str) -> Plan[list[Snapshot]]:
    """Lists the snapshots of a collection, "" for all, over all pages."""
    name = convert.text_for_wire(collection)
    found: list[Snapshot] = []
    token = ""
    while True:
        request = maintenance_pb2.ListSnapshotsRequest(collection=name, page_token=token)
        page = yield from ask(LIST_SNAPSHOTS(request))
        found += map(snapshot_from_wire, page.snapshots)
        token = page.next_page_token
        if not token:
            return found


def delete_snapshot(snapshot: str) -> Plan[None]:
    """Removes a snapshot."""
    request = maintenance_pb2.DeleteSnapshotRequest(snapshot=convert.text_for_wire(snapshot))
    yield from ask(DELETE_SNAPSHOT(request))


def restore_snapshot(snapshot: str, collection: str) -> Plan[CollectionInfo]:
    """Makes a collection of a snapshot."""
    request = maintenance_pb2.RestoreSnapshotRequest(
        snapshot=convert.text_for_wire(snapshot), collection=convert.text_for_wire(collection)
    )
    return convert.collection_from_wire((yield from ask(RESTORE_SNAPSHOT(request))))


def snapshot_from_wire(message: maintenance_pb2.SnapshotInfo) -> Snapshot:
    """Returns a snapshot."""
    return Snapshot(
        name=message.snapshot,
        collection=message.collection,
        count=message.count,
        last_seq=message.last_seq,
        space_id=message.space_id,
        created_unix_ms=message.created_unix_ms,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
    )
