"""Everything the client raises, and the one place where gRPC's errors become it.

NearlightError
├── InvalidInput          a field is wrong: names the field, the value and the limit      do not retry
│   ├── MessageTooLarge   a single message over the limit                                 make it smaller
│   └── ItemsFailed       some items of a list failed; .errors says which and why         look at each
├── NotFound              no such model, collection, point, label set                     do not retry
├── AlreadyExists         the name is taken                                               do not retry
├── WrongSpace            vectors of another space, or a model without the tower needed   do not retry
├── Unauthenticated       no token, or an unknown one                                     do not retry
├── Forbidden             the token does not allow the call                               do not retry
├── Unsupported           the call or field is not built in this server                   do not retry
├── Overloaded            the server is full; .retry_after_seconds                        the client retried
├── NotReady              loading, draining, or nothing listens                           the client retried
├── TooLate               the deadline passed                                             decide
├── Cancelled             the call was cancelled
├── TransferFailed        a file of an export or import; no server is to blame            mend the file
└── ServerFailure         a fault of the server; the detail is in its log                 report
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from nearlight.client.values import ItemError

_REQUEST_ID = "x-request-id"
_STATUS_DETAILS = "grpc-status-details-bin"
# gRPC's own wording, both ways: "Received message larger than max (5 vs. 4)", "CLIENT: Sent message ...".
_TOO_LARGE = "message larger than max"


class NearlightError(Exception):
    """Any failure of a call. The message is for people and names what was wrong."""


class InvalidInput(NearlightError):
    """The request cannot be right: the message names the field, the value and the limit."""


class MessageTooLarge(InvalidInput):
    """One message is over the limit of the server (or of this client)."""


class ItemsFailed(InvalidInput):
    """Some items of a list failed.

    Attributes:
        errors: one for each failed item, ascending by index.
    """

    def __init__(self, errors: tuple[ItemError, ...], total: int) -> None:
        super().__init__(f"{len(errors)} of {total} failed; the first: {errors[0]}")
        self.errors = errors


class NotFound(NearlightError):
    """No such model, collection, point or label set."""


class AlreadyExists(NearlightError):
    """The name is taken."""


class WrongSpace(NearlightError):
    """The vectors are of another space, or the model lacks the tower that the call needs."""


class Unauthenticated(NearlightError):
    """No token was sent, or one the server does not know."""


class Forbidden(NearlightError):
    """The token does not allow this call."""


class Unsupported(NearlightError):
    """The call, or a field of it, is not built in this server."""


class Overloaded(NearlightError):
    """The server is full, still so after the client's own retries.

    Attributes:
        retry_after_seconds: the delay the server asked for; None where it gave none.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotReady(NearlightError):
    """The server is loading or draining, or nothing listens at the address."""


class TooLate(NearlightError):
    """The deadline passed first."""


class Cancelled(NearlightError):
    """The call was cancelled."""


class TransferFailed(NearlightError):
    """A file of an export or import cannot be read or written, or does not belong to what is asked."""


class ServerFailure(NearlightError):
    """A fault of the server."""


_BY_CODE: dict[grpc.StatusCode, type[NearlightError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: WrongSpace,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.UNAVAILABLE: NotReady,
    grpc.StatusCode.DEADLINE_EXCEEDED: TooLate,
    grpc.StatusCode.CANCELLED: Cancelled,
}
_CODE_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_code(number: int, message: str, retry_after_seconds: float | None = None) -> NearlightError:
    """Returns the error for a gRPC status number, such as those of ItemError and BatchError."""
    code = _CODE_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if _TOO_LARGE in message:
            return MessageTooLarge(message)
        return Overloaded(message, retry_after_seconds)
    return _BY_CODE.get(code, ServerFailure)(message)


def from_rpc(error: Any) -> NearlightError:
    """Returns the error for a failed call of grpc or grpc.aio.

    Args:
        error: what calls raise: a ``grpc.RpcError`` that is also a ``grpc.Call``, or an ``AioRpcError``.
    """
    message = error.details() or error.code().name
    metadata = error.trailing_metadata() or ()
    if error.code() is grpc.StatusCode.INTERNAL:
        # The server keeps the detail to itself; this is what to look for in its log.
        message += "".join(f" (request id {value})" for key, value in metadata if key == _REQUEST_ID)
    return from_code(error.code().value[0], message, _retry_delay_seconds(metadata))


def _retry_delay_seconds(metadata: Any) -> float | None:
    """Returns google.rpc.RetryInfo's delay from a call's trailing metadata, or None."""
    for key, value in metadata:
        if key != _STATUS_DETAILS:
            continue
        info = error_details_pb2.RetryInfo()
        try:
            details = status_pb2.Status.FromString(value).details
            if any(detail.Unpack(info) for detail in details):
                return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:  # a proxy's own bytes under this key
            return None
    return None
