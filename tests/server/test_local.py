from pathlib import Path
from typing import Any

import grpc
import pytest

from nearlight.server.local import start
from nearlight.v1 import collection_pb2


def test_a_local_server_says_its_address_keeps_its_data_and_stops(
    tiny_bundle: Path, tmp_path: Path, stubs_of: Any
) -> None:
    with start(str(tiny_bundle), tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stubs_of(channel).collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="kept"))
    server.stop()
    again = start(str(tiny_bundle), tmp_path)
    with grpc.insecure_channel(again.address) as channel:
        stubs = stubs_of(channel)
        assert (
            stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="kept")).name == "kept"
        )
        again.stop()
        with pytest.raises(grpc.RpcError) as caught:
            stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="kept"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
