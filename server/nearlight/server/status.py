"""The one table between errors and gRPC status. Only this file and the interceptor speak gRPC status."""

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from nearlight import store
from nearlight.server import errors

INTERNAL_MESSAGE = "internal error"
_RETRY_INFO = f"type.googleapis.com/{error_details_pb2.RetryInfo.DESCRIPTOR.full_name}"

_CODES: dict[type[BaseException], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotPossible: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Abandoned: grpc.StatusCode.CANCELLED,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.NotBuilt: grpc.StatusCode.UNIMPLEMENTED,
    store.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    store.CollectionNotFound: grpc.StatusCode.NOT_FOUND,
    store.CollectionExists: grpc.StatusCode.ALREADY_EXISTS,
    store.AliasNotFound: grpc.StatusCode.NOT_FOUND,
    store.SnapshotNotFound: grpc.StatusCode.NOT_FOUND,
    store.SnapshotDamaged: grpc.StatusCode.DATA_LOSS,
    store.PayloadIndexNotFound: grpc.StatusCode.NOT_FOUND,
    store.PayloadIndexExists: grpc.StatusCode.ALREADY_EXISTS,
    store.LabelSetNotFound: grpc.StatusCode.NOT_FOUND,
    store.LabelSetExists: grpc.StatusCode.ALREADY_EXISTS,
    store.UpgradeNotFound: grpc.StatusCode.NOT_FOUND,
    store.UpgradeRefused: grpc.StatusCode.FAILED_PRECONDITION,
    store.SpaceChanged: grpc.StatusCode.UNAVAILABLE,
    store.WrongSpace: grpc.StatusCode.FAILED_PRECONDITION,
    # Without RetryInfo: a client must not retry it as it would an overload.
    store.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    store.StoreClosed: grpc.StatusCode.UNAVAILABLE,
    store.EngineUnavailable: grpc.StatusCode.UNAVAILABLE,
    store.NotOnThisEngine: grpc.StatusCode.FAILED_PRECONDITION,
}


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status of an error; INTERNAL for whatever is not in the table."""
    kind = type(error)
    code = _CODES.get(kind)
    if code is None:
        known = (_CODES[base] for base in kind.__mro__ if base in _CODES)
        code = next(known, grpc.StatusCode.INTERNAL)
    return code


def number_of(error: BaseException) -> int:
    """The status as google.rpc.Code."""
    number: int = code_of(error).value[0]
    return number


def message_of(error: BaseException) -> str:
    """What the caller is told; the detail of an internal error stays in the log."""
    return INTERNAL_MESSAGE if code_of(error) is grpc.StatusCode.INTERNAL else str(error)


def status_of(error: BaseException) -> status_pb2.Status:
    """The rich status, with google.rpc.RetryInfo where a retry makes sense."""
    details = []
    if isinstance(error, errors.Overloaded):
        seconds, ms = divmod(retry_after_ms(error), 1000)
        retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=ms * 1_000_000))
        # What `Pack` does, without its detours: under overload this is made a hundred times a second.
        details.append(AnyMessage(type_url=_RETRY_INFO, value=retry.SerializeToString()))
    return status_pb2.Status(code=number_of(error), message=message_of(error), details=details)


def retry_after_ms(error: BaseException) -> int:
    """Milliseconds to wait before a retry; 0: do not retry."""
    return max(1, round(error.retry_delay_s * 1e3)) if isinstance(error, errors.Overloaded) else 0
