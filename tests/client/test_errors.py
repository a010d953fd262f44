"""Each gRPC status becomes one error, whatever is in the details."""

from typing import Any

import grpc
import pytest

from nearlight.client import errors


class Failed:
    """What grpc and grpc.aio raise, as far as the client looks at it."""

    def __init__(self, code: grpc.StatusCode, details: str | None = "why", metadata: Any = None) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidInput),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.WrongSpace),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Forbidden),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TooLate),
        (grpc.StatusCode.UNAVAILABLE, errors.NotReady),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.INTERNAL, errors.ServerFailure),
        (grpc.StatusCode.UNKNOWN, errors.ServerFailure),
        (grpc.StatusCode.DATA_LOSS, errors.ServerFailure),
    ],
)
def test_the_table_of_the_design(code: grpc.StatusCode, expected: type[Exception]) -> None:
    error = errors.from_rpc(Failed(code))
    assert type(error) is expected
    assert str(error) == "why"


@pytest.mark.parametrize(
    "details",
    ["Received message larger than max (9 vs. 4)", "CLIENT: Sent message larger than max (9 vs. 4)"],
)
def test_a_message_over_the_limit_is_not_overload(details: str) -> None:
    error = errors.from_rpc(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, details))
    assert isinstance(error, errors.MessageTooLarge)


def test_no_details_and_foreign_details_do_no_harm() -> None:
    metadata = (("other", "x"), ("grpc-status-details-bin", b"\xff\xff not protobuf"))
    error = errors.from_rpc(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, None, metadata))
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after_seconds is None
    assert str(error) == "RESOURCE_EXHAUSTED"


def test_unknown_numbers_are_a_fault_of_the_server() -> None:
    assert isinstance(errors.from_code(99, "?"), errors.ServerFailure)
