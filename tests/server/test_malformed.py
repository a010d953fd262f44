"""Whatever bytes come in at whatever call: a status that blames the request, and a server that goes on."""

import importlib
import itertools
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nearlight.v1
from nearlight.v1 import collection_pb2, embedding_pb2, model_pb2, point_pb2

# Whatever is on the wire, so that no new call can be forgotten.
FILES = [
    importlib.import_module(f"nearlight.v1.{module.name}").DESCRIPTOR
    for module in pkgutil.iter_modules(nearlight.v1.__path__)
    if module.name.endswith("_pb2")
]
SERVICES = [
    *(service for file in FILES for service in file.services_by_name.values()),
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
ENDLESS = {"grpc.health.v1.Health.Watch"}
METHODS = [method for service in SERVICES for method in service.methods if method.full_name not in ENDLESS]
CALM = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}
HARMLESS = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KINDS = FieldDescriptor
NUMBERS = st.one_of(st.sampled_from([0, 1, 2, 7, 255, 2**31 - 1]), st.integers(0, 2**31 - 1))
TEXTS = st.one_of(
    st.sampled_from(
        ["c", "c", "", " ", "model", "tiny", "eye", "..", "a" * 600, "\0", "\U0001f600", "a/b", "{}"]
    ),
    st.text(max_size=20),
)
VECTOR = np.ones(16, "<f4").tobytes()
BYTES = st.one_of(
    st.sampled_from(
        [VECTOR, b"", b"\0", b"{}", b"null", b'{"a": NaN}', bytes(64), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
    ),
    st.binary(max_size=80),
)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field that is no message, the odd ones first."""
    if field.type == KINDS.TYPE_ENUM:
        return st.one_of(
            st.sampled_from([v.number for v in getattr(field.enum_type, "values", ())]), st.just(99)
        )
    if field.type == KINDS.TYPE_STRING:
        return TEXTS
    if field.type == KINDS.TYPE_BYTES:
        return BYTES
    if field.type == KINDS.TYPE_BOOL:
        return st.booleans()
    if field.type in (KINDS.TYPE_FLOAT, KINDS.TYPE_DOUBLE):
        return st.one_of(st.sampled_from([0.0, -1.0, 1.0, float("nan"), float("inf")]), st.floats(width=32))
    if field.type in (KINDS.TYPE_INT32, KINDS.TYPE_INT64, KINDS.TYPE_SINT32, KINDS.TYPE_SINT64):
        return st.one_of(NUMBERS, st.integers(-(2**31), -1))
    return NUMBERS


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 3) -> Any:
    """A message of a kind, each field left out, or filled with something it may hold."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if field.message_type is None:
            value = scalars(field)
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
            else:
                setattr(message, field.name, draw(value))
        elif depth and not is_map:
            value = messages(field.message_type, depth - 1)
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
            else:
                getattr(message, field.name).CopyFrom(draw(value))
    return message


def answer(channel: grpc.Channel, method: Any, contents: list[bytes]) -> tuple[grpc.StatusCode, list[Any]]:
    """Status and replies of one call, sent as it is."""
    path, parse = f"/{method.containing_service.full_name}/{method.name}", GetMessageClass(method.output_type)
    try:
        if method.server_streaming:
            call: Any = channel.stream_stream(path, response_deserializer=parse.FromString)
            return grpc.StatusCode.OK, list(call(iter(contents), timeout=60))
        call = channel.unary_unary(path, response_deserializer=parse.FromString)
        return grpc.StatusCode.OK, [call(contents[0], timeout=60)]
    except grpc.RpcError as error:
        return error.code(), []


def errors_in(message: Any) -> Iterator[int]:
    """Codes of the item and batch errors anywhere in a reply."""
    if message.DESCRIPTOR.name in ("ItemError", "BatchError"):
        yield message.code
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                yield from errors_in(part)


def check(stubs: Any, method: Any, contents: list[bytes]) -> None:
    status, replies = answer(stubs.channel, method, contents)
    assert status in CALM, (method.full_name, contents)
    internal = grpc.StatusCode.INTERNAL.value[0]
    assert internal not in itertools.chain.from_iterable(map(errors_in, replies)), (
        method.full_name,
        contents,
    )


@pytest.fixture(scope="module", autouse=True)
def well_afterwards(stubs: Any) -> Iterator[None]:
    """There is something to be harmed, and after all of it the server answers as before."""
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="c"))
    points = [point_pb2.PointInput(id={"num": number}, vector={"data": VECTOR}) for number in (0, 1, 7)]
    stubs.points.Upsert(point_pb2.UpsertRequest(collection="c", points=points))
    # Chance may unload a model that no alias holds, or make another one the default.
    keep = model_pb2.UpdateModelAliasesRequest(aliases={"kept-here": "tiny"})
    stubs.models.UpdateModelAliases(keep)
    request = embedding_pb2.EmbedRequest(
        model="kept-here", inputs=[{"text": "dog"}], cache={"skip_read": True}
    )
    before = stubs.embedding.Embed(request).vectors
    yield
    assert stubs.embedding.Embed(request).vectors == before


def test_no_call_of_the_server_is_left_out(stubs: Any) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(stubs.channel)
    [reply] = stub.ServerReflectionInfo(iter([ask]))
    served = {service.name for service in reply.list_services_response.service}
    assert served == {service.full_name for service in SERVICES}
    assert {method.containing_service.full_name for method in METHODS} == served


def test_a_broken_message_to_watch_health_is_refused(stubs: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(stubs.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.removeprefix("nearlight.v1."))
@HARMLESS
@given(data=st.data())
def test_a_request_of_any_content_is_answered_with_its_own_fault(stubs: Any, method: Any, data: Any) -> None:
    n = 3 if method.client_streaming else 1
    requests = [data.draw(messages(method.input_type)) for _ in range(n)]
    check(stubs, method, [request.SerializeToString() for request in requests])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.removeprefix("nearlight.v1."))
@settings(HARMLESS, max_examples=8)
@given(contents=st.lists(st.binary(max_size=60), min_size=1, max_size=2))
def test_bytes_that_are_no_message_are_refused(stubs: Any, method: Any, contents: list[bytes]) -> None:
    check(stubs, method, contents)
