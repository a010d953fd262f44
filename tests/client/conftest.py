"""A real gRPC server that answers from memory and fails as it is told, to see what the client makes of it."""

import asyncio
import inspect
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from nearlight.client import AsyncClient, Client, Connection, Limits, RetryPolicy
from nearlight.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    embedding_pb2,
    embedding_pb2_grpc,
    input_pb2,
    maintenance_pb2,
    maintenance_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    point_pb2,
    point_pb2_grpc,
    query_pb2,
    vector_pb2,
)

DIM = 4
FAST = RetryPolicy(max_attempts=4, first_backoff_ms=1, max_backoff_ms=5)


def vector_of(source: input_pb2.Input) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector that tells inputs apart: length of the image or text, then its first byte."""
    content = source.image or source.text.encode()
    return np.array([len(content), content[0], 0, 1], np.float32)


@dataclass
class Failure:
    code: grpc.StatusCode
    message: str
    retry_ms: int | None = None

    async def abort(self, context: Any) -> None:
        if self.retry_ms is None:
            await context.abort(self.code, self.message)
        info, packed = error_details_pb2.RetryInfo(), AnyMessage()
        info.retry_delay.FromMilliseconds(self.retry_ms or 0)
        packed.Pack(info)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=[packed])
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(self.code, self.message, metadata)


@dataclass
class Script:
    """What the server does next, and what it saw."""

    limits: Limits = field(default_factory=Limits)
    failures: dict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))
    batch_errors: deque[input_pb2.BatchError] = field(default_factory=deque)
    break_stream_after: deque[int] = field(default_factory=deque)
    stall: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    points: dict[Any, point_pb2.PointInput] = field(default_factory=dict)
    collections: dict[str, collection_pb2.CollectionInfo] = field(default_factory=dict)
    calibrated: set[str] = field(default_factory=set)
    label_sets: dict[str, embedding_pb2.LabelSet] = field(default_factory=dict)
    most_in_flight: int = 0

    def fail(
        self,
        method: str,
        code: grpc.StatusCode,
        message: str = "told to",
        *,
        times: int = 1,
        retry_ms: int | None = None,
    ) -> None:
        self.failures[method] += [Failure(code, message, retry_ms)] * times

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.seen if name == method]


class Services(
    embedding_pb2_grpc.EmbeddingServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
    collection_pb2_grpc.CollectionServiceServicer,
    point_pb2_grpc.PointServiceServicer,
    maintenance_pb2_grpc.MaintenanceServiceServicer,
):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def begin(self, method: str, request: Any, context: Any) -> None:
        self.script.seen.append((method, request))
        self.script.metadata.append(dict(context.invocation_metadata()))
        if self.script.failures[method]:
            await self.script.failures[method].popleft().abort(context)

    async def ListModels(self, request: Any, context: Any) -> Any:
        await self.begin("ListModels", request, context)
        limits = model_pb2.Limits(
            max_message_bytes=self.script.limits.max_message_bytes,
            max_batch_inputs=self.script.limits.max_batch_inputs,
            max_block_points=self.script.limits.max_block_points,
        )
        first = not request.page_token
        model = model_pb2.ModelInfo(
            name="a" if first else "b",
            dim=DIM,
            space_id="s",
            towers=[model_pb2.TOWER_IMAGE, model_pb2.TOWER_TEXT],
            limits=limits,
        )
        return model_pb2.ListModelsResponse(
            models=[model], next_page_token="2" if first else "", limits=limits
        )

    async def GetModel(self, request: Any, context: Any) -> Any:
        await self.begin("GetModel", request, context)
        return model_pb2.ModelInfo(name=request.name or "a", dim=DIM, state=model_pb2.MODEL_STATE_READY)

    def embed(self, request: embedding_pb2.EmbedRequest) -> embedding_pb2.EmbedResponse:
        rows = [vector_of(source) for source in request.inputs]
        bad = [
            i for i, source in enumerate(request.inputs) if b"bad" in (source.image or source.text.encode())
        ]
        for i in bad:
            rows[i][:] = 0
        block = vector_pb2.VectorBlock(
            data=np.stack(rows).astype("<f4").tobytes(), dtype=vector_pb2.DTYPE_F32, dim=DIM, count=len(rows)
        )
        errors = [input_pb2.ItemError(index=i, code=3, message="is bad", field=f"inputs[{i}]") for i in bad]
        return embedding_pb2.EmbedResponse(
            vectors=block, errors=errors, model=request.model or "a", space_id="s"
        )

    async def Embed(self, request: Any, context: Any) -> Any:
        await self.begin("Embed", request, context)
        return self.embed(request)

    async def Classify(self, request: Any, context: Any) -> Any:
        await self.begin("Classify", request, context)
        labels = request.labels
        if request.label_set:
            labels = self.script.label_sets[request.label_set].labels
        names = [label.name for label in labels.labels]
        results = [
            embedding_pb2.ImageLabels(
                labels=[]
                if image == b"bad"
                else [embedding_pb2.ScoredLabel(label=names[len(image) % len(names)], probability=0.5)],
                abstained=request.min_probability > 0.5,
            )
            for image in request.images
        ]
        bad = [i for i, image in enumerate(request.images) if image == b"bad"]
        errors = [input_pb2.ItemError(index=i, code=3, message="is bad") for i in bad]
        stored = self.script.label_sets.get(request.label_set)
        calibrated = stored is not None and stored.HasField("calibration")
        return embedding_pb2.ClassifyResponse(results=results, errors=errors, calibrated=calibrated)

    async def PutLabelSet(self, request: Any, context: Any) -> Any:
        await self.begin("PutLabelSet", request, context)
        name = request.label_set.name
        if request.only_if_absent and name in self.script.label_sets:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"label set {name!r} exists")
        stored = embedding_pb2.LabelSet()
        stored.CopyFrom(request.label_set)
        stored.updated_unix_ms = 1_700_000_000_000
        self.script.label_sets[name] = stored
        return stored

    async def GetLabelSet(self, request: Any, context: Any) -> Any:
        await self.begin("GetLabelSet", request, context)
        if request.name not in self.script.label_sets:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no label set {request.name!r}")
        return self.script.label_sets[request.name]

    async def ListLabelSets(self, request: Any, context: Any) -> Any:
        """Answers one set a page."""
        await self.begin("ListLabelSets", request, context)
        names = sorted(name for name in self.script.label_sets if name > request.page_token)
        return embedding_pb2.ListLabelSetsResponse(
            label_sets=[self.script.label_sets[name] for name in names[:1]],
            next_page_token=names[0] if len(names) > 1 else "",
        )

    async def DeleteLabelSet(self, request: Any, context: Any) -> Any:
        await self.begin("DeleteLabelSet", request, context)
        if self.script.label_sets.pop(request.name, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no label set {request.name!r}")
        return embedding_pb2.DeleteLabelSetResponse()

    async def CreateCollection(self, request: Any, context: Any) -> Any:
        await self.begin("CreateCollection", request, context)
        if request.name in self.script.collections:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"collection {request.name!r} exists")
        info = collection_pb2.CollectionInfo(
            name=request.name,
            dim=request.custom_space.dim or DIM,
            metadata_json=request.metadata_json,
            model=request.model,
        )
        self.script.collections[request.name] = info
        return info

    async def GetCollection(self, request: Any, context: Any) -> Any:
        await self.begin("GetCollection", request, context)
        if request.name not in self.script.collections:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no collection {request.name!r}")
        return self.script.collections[request.name]

    async def ListCollections(self, request: Any, context: Any) -> Any:
        await self.begin("ListCollections", request, context)
        names = sorted(self.script.collections)
        at = int(request.page_token or 0)
        page = [self.script.collections[name] for name in names[at : at + 1]]
        token = str(at + 1) if at + 1 < len(names) else ""
        return collection_pb2.ListCollectionsResponse(collections=page, next_page_token=token)

    async def DeleteCollection(self, request: Any, context: Any) -> Any:
        await self.begin("DeleteCollection", request, context)
        if self.script.collections.pop(request.name, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no collection {request.name!r}")
        return collection_pb2.DeleteCollectionResponse(deleted=len(self.script.points))

    async def Calibrate(self, request: Any, context: Any) -> Any:
        """Knows no model for texts in collections of the name "images"."""
        await self.begin("Calibrate", request, context)
        self.script.calibrated.add(request.collection)
        text = None if request.collection == "images" else 0.25
        return maintenance_pb2.CalibrateResponse(text_midpoint=text, image_midpoint=0.75, points=60)

    def upsert(self, request: point_pb2.UpsertRequest) -> point_pb2.UpsertResponse:
        errors = []
        for i, point in enumerate(request.points):
            if point.image == b"bad":
                errors.append(
                    input_pb2.ItemError(index=i, code=3, message="is bad", field=f"points[{i}].image")
                )
            else:
                self.script.points[point.id.str or point.id.num] = point
        for i, point_id in enumerate(request.block.ids):
            start = 4 * DIM * i
            vector = vector_pb2.Vector(data=request.block.vectors.data[start : start + 4 * DIM])
            payload = request.block.payloads_json[i] if request.block.payloads_json else b"{}"
            point = point_pb2.PointInput(id=point_id, vector=vector, payload_json=payload)
            self.script.points[point_id.str or point_id.num] = point
        written = len(request.points) + len(request.block.ids) - len(errors)
        return point_pb2.UpsertResponse(seq=len(self.script.seen), upserted=written, errors=errors)

    async def Upsert(self, request: Any, context: Any) -> Any:
        await self.begin("Upsert", request, context)
        return self.upsert(request)

    async def EmbedStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self.stream(
            "EmbedStream", requests, context, self.embed, embedding_pb2.EmbedStreamResponse
        ):
            yield response

    async def UpsertStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self.stream(
            "UpsertStream", requests, context, self.upsert, point_pb2.UpsertStreamResponse
        ):
            yield response

    async def stream(
        self, name: str, requests: Any, context: Any, answer: Callable[[Any], Any], reply: Any
    ) -> AsyncIterator[Any]:
        """Answers late: it first takes all that the client is willing to send ahead."""
        await self.begin(name, None, context)
        limit = self.script.break_stream_after.popleft() if self.script.break_stream_after else -1
        waiting: deque[Any] = deque()
        source = aiter(requests)
        pending: asyncio.Task[Any] | None = None
        ended = False
        while True:
            if pending is None and not ended:
                pending = asyncio.ensure_future(anext(source, None))
            if pending is not None:
                await asyncio.wait([pending], timeout=0.02)
                if pending.done():
                    request, pending = pending.result(), None
                    if request is None:
                        ended = True
                    else:
                        self.script.seen.append((name, request))
                        waiting.append(request)
                        self.script.most_in_flight = max(self.script.most_in_flight, len(waiting))
                        continue
            if not waiting and ended:
                return
            if self.script.stall.is_set():
                await asyncio.sleep(0.02)  # or a client that has gone would leave this loop without a pause
            elif waiting:
                if limit == 0:
                    if pending is not None:
                        pending.cancel()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "broken, as told")
                limit -= 1
                request = waiting.popleft()
                if self.script.batch_errors:
                    yield reply(sequence=request.sequence, error=self.script.batch_errors.popleft())
                else:
                    yield reply(sequence=request.sequence, result=answer(request.batch))

    async def Delete(self, request: Any, context: Any) -> Any:
        await self.begin("Delete", request, context)
        found = [self.script.points.pop(i.str or i.num, None) for i in request.points.ids.ids]
        return point_pb2.DeleteResponse(seq=1, deleted=sum(one is not None for one in found))

    async def SetPayload(self, request: Any, context: Any) -> Any:
        await self.begin("SetPayload", request, context)
        return point_pb2.PayloadResponse(seq=1, updated=len(request.points.ids.ids) or 7)

    async def DeletePayload(self, request: Any, context: Any) -> Any:
        await self.begin("DeletePayload", request, context)
        return point_pb2.PayloadResponse(seq=1, updated=len(request.points.ids.ids) or 7)

    async def Get(self, request: Any, context: Any) -> Any:
        """Answers two ids at a time, as a server does whose reply would grow too large."""
        await self.begin("Get", request, context)
        records = [
            self.record(i.str or i.num) for i in request.ids[:2] if (i.str or i.num) in self.script.points
        ]
        more = {"next_index": 2} if len(request.ids) > 2 else {}
        return point_pb2.GetResponse(records=records, **more)

    def record(self, point_id: Any) -> point_pb2.Record:
        point = self.script.points[point_id]
        vector = point.vector if point.HasField("vector") else None
        return point_pb2.Record(id=point.id, payload_json=point.payload_json, vector=vector)

    async def Scroll(self, request: Any, context: Any) -> Any:
        await self.begin("Scroll", request, context)
        ids, at = sorted(self.script.points, key=str), int(request.cursor or 0)
        end = at + (request.limit or 100)
        return point_pb2.ScrollResponse(
            records=[self.record(i) for i in ids[at:end]], next_cursor=str(end) if end < len(ids) else ""
        )

    async def Count(self, request: Any, context: Any) -> Any:
        await self.begin("Count", request, context)
        return point_pb2.CountResponse(count=len(self.script.points))

    async def Query(self, request: Any, context: Any) -> Any:
        """Answers three hits at a time."""
        await self.begin("Query", request, context)
        ids = sorted(self.script.points, key=str)[request.offset : request.offset + request.limit]
        hits = [
            query_pb2.Hit(
                id=self.script.points[i].id,
                score=0.5,
                payload_json=self.script.points[i].payload_json,
                relevance=0.75 if request.collection in self.script.calibrated else None,
            )
            for i in ids[:3]
        ]
        more = {"next_offset": request.offset + 3} if len(ids) > 3 else {}
        return query_pb2.QueryResponse(hits=hits, info=query_pb2.SearchInfo(exact=True, space_id="s"), **more)


@dataclass
class FakeServer:
    script: Script
    address: str
    loop: asyncio.AbstractEventLoop


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    """The server, on a port of its own, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    script = Script()
    limits: Limits = getattr(request, "param", Limits())

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", limits.max_message_bytes)])
        services = Services(script)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(services, server)  # type: ignore[no-untyped-call]
        model_pb2_grpc.add_ModelServiceServicer_to_server(services, server)  # type: ignore[no-untyped-call]
        collection_pb2_grpc.add_CollectionServiceServicer_to_server(services, server)  # type: ignore[no-untyped-call]
        point_pb2_grpc.add_PointServiceServicer_to_server(services, server)  # type: ignore[no-untyped-call]
        maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server(services, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    script.limits = limits
    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield FakeServer(script, f"127.0.0.1:{port}", loop)
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(timeout=30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Blocking:
    """Drives an AsyncClient from a test that does not await, so that one suite tests both clients."""

    def __init__(self, connection: Connection) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._make(connection))

    async def _make(self, connection: Connection) -> AsyncClient:
        return AsyncClient(connection)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._iterate(result) if inspect.isasyncgen(result) else self._runner.run(result)

        return call

    def _iterate(self, items: Any) -> Iterator[Any]:
        end = object()

        async def step() -> Any:
            return await anext(items, end)

        try:
            while (item := self._runner.run(step())) is not end:
                yield item
        finally:
            self._runner.run(items.aclose())

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


Connect = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, fake: FakeServer) -> Iterator[Connect]:
    """Makes clients of the fake server, of either kind; arguments are Connection's."""
    opened: list[Any] = []

    def make(**options: Any) -> Any:
        connection = Connection(**{"address": fake.address, "retry": FAST, "timeout": 20.0, **options})
        opened.append(Client(connection) if request.param == "sync" else Blocking(connection))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Any:
    return connect()
