"""Plans of indexes: configured, and their recall measured."""

from __future__ import annotations

from nearlight.client import convert
from nearlight.client.index_values import IndexConfig, Recall, config_for_wire
from nearlight.client.methods import MEASURE_RECALL, UPDATE_COLLECTION
from nearlight.client.plan import Plan, ask
from nearlight.client.values import CollectionInfo
from nearlight.v1 import collection_pb2, maintenance_pb2


def configure_index(name: str, config: IndexConfig) -> Plan[CollectionInfo]:
    """Changes how a collection is indexed."""
    request = collection_pb2.UpdateCollectionRequest(
        name=convert.text_for_wire(name), index_config=config_for_wire(config)
    )
    return convert.collection_from_wire((yield from ask(UPDATE_COLLECTION(request))))


def measure_recall(collection: str, queries: int, limit: int) -> Plan[Recall]:
    """Compares searches with exact ones."""
    request = maintenance_pb2.MeasureRecallRequest(
        collection=convert.text_for_wire(collection),
        queries=convert.uint32_for_wire("queries", queries),
        limit=convert.uint32_for_wire("limit", limit),
    )
    reply = yield from ask(MEASURE_RECALL(request))
    return Recall(
        reply.recall,
        reply.queries,
        reply.image_recall if reply.HasField("image_recall") else None,
        reply.text_recall if reply.HasField("text_recall") else None,
    )
