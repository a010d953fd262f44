"""Unary gRPC calls over bare HTTP/2: a caller that costs less than half of grpcio's.

Where client and server share the cores of one machine, what the client uses is missing to the server: of a
call that is refused it would be a third. Here a request is written as frames made of bytes that are there
already, and of a reply only the status and the message are looked for. No TLS, no compression, no metadata.

Frames, flow control and the bytes of header fields: RFC 9113, RFC 7541; how gRPC uses them: the protocol
description "gRPC over HTTP2". Header fields are never put into HPACK's dynamic table, neither sent nor
received (its size is set to 0), so that a block of them can be read as it stands.
"""

import asyncio
import re
import struct
from collections import deque
from dataclasses import dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_PADDED = 8
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_HEAD = struct.Struct(">IBI")  # length and type, flags, stream
_SETTING = struct.Struct(">HI")
_U32 = struct.Struct(">I")
_FIRST_WINDOW = 65_535
_MAX_FRAME = 16_384
_OUR_WINDOW = 1 << 30
# A literal field without its name in a table: length, name, length, value.
_STATUS = re.compile(rb"\x0bgrpc-status([\x01\x02])(\d{1,2})")
UNAVAILABLE = 14


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Args:
        status: number of the gRPC status, 0 for OK.
        message: the reply's, in bytes; empty unless OK.
    """

    status: int
    message: bytes


class _Stream:
    """One call: what of its request is left to send, and what came."""

    __slots__ = ("answer", "came", "future", "left", "window")

    def __init__(self, left: memoryview, window: int, future: "asyncio.Future[Reply]") -> None:
        self.left = left
        self.window = window
        self.future = future
        self.came = bytearray()
        self.answer: Reply | None = None


class PlainChannel(asyncio.Protocol):
    """One connection to a server on this machine; `connect` makes it.

    Args:
        authority: host and port, as the server shall see it.
        path: of the method, "/package.Service/Method".
    """

    def __init__(self, authority: str, path: str) -> None:
        self._fields = b"".join(
            [
                b"\x83\x86",  # :method POST, :scheme http
                _field(b":path", path.encode()),
                _field(b":authority", authority.encode()),
                _field(b"content-type", b"application/grpc"),
                _field(b"te", b"trailers"),
            ]
        )
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._sending: deque[int] = deque()
        self._next_id = 1
        self._window = self._stream_window = _FIRST_WINDOW
        self._came = bytearray()

    @classmethod
    async def connect(cls, address: str, path: str) -> "PlainChannel":
        """A channel to `host:port`, for calls of one method."""
        host, _, port = address.rpartition(":")
        _, channel = await asyncio.get_running_loop().create_connection(
            lambda: cls(address, path), host, int(port)
        )
        return channel

    async def call(self, message: bytes, timeout_s: float | None = None) -> Reply:
        """One call; the deadline is the server's to keep.

        Args:
            message: the request, encoded.
            timeout_s: told to the server.
        """
        assert self._transport
        number, self._next_id = self._next_id, self._next_id + 2
        fields = self._fields
        if timeout_s is not None:
            fields += _field(b"grpc-timeout", b"%dm" % round(1e3 * timeout_s))
        body = memoryview(struct.pack(">BI", 0, len(message)) + message)
        stream = _Stream(body, self._stream_window, self._loop.create_future())
        self._streams[number] = stream
        self._sending.append(number)
        self._send([_head(len(fields), _HEADERS, _END_HEADERS, number), fields])
        return await stream.future

    def close(self) -> None:
        """End the connection; calls under way answer UNAVAILABLE."""
        if self._transport:
            self._transport.close()

    # What the connection tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = _SETTING.pack(_HEADER_TABLE_SIZE, 0) + _SETTING.pack(_INITIAL_WINDOW_SIZE, _OUR_WINDOW)
        more = _U32.pack(_OUR_WINDOW - _FIRST_WINDOW)
        transport.write(
            _PREFACE
            + _head(len(settings), _SETTINGS, 0, 0)
            + settings
            + _head(len(more), _WINDOW_UPDATE, 0, 0)
            + more
        )

    def data_received(self, data: bytes) -> None:
        came = self._came
        came += data
        at = 0
        while len(came) - at >= _HEAD.size:
            length_and_type, flags, number = _HEAD.unpack_from(came, at)
            end = at + _HEAD.size + (length_and_type >> 8)
            if end > len(came):
                break
            self._frame(length_and_type & 0xFF, flags, number, bytes(came[at + _HEAD.size : end]))
            at = end
        del came[:at]
        self._send([])

    def connection_lost(self, error: Exception | None) -> None:
        for number in list(self._streams):
            self._end(number, Reply(UNAVAILABLE, b""))

    def _frame(self, kind: int, flags: int, number: int, content: bytes) -> None:
        stream = self._streams.get(number)
        if kind == _WINDOW_UPDATE:
            more = _U32.unpack(content)[0]
            if not number:
                self._window += more
            elif stream:
                stream.window += more
        elif kind == _SETTINGS and not flags & _ACK:
            self._settle(content)
        elif kind == _PING and not flags & _ACK:
            self._write([_head(len(content), _PING, _ACK, 0), content])
        elif kind == _GOAWAY and self._transport:
            self._transport.close()
        elif kind == _RST_STREAM and stream:
            self._end(number, Reply(UNAVAILABLE, b""))
        elif kind == _DATA and stream:
            assert not flags & _PADDED
            stream.came += content
        elif kind == _HEADERS and stream and flags & _END_STREAM:
            found = _STATUS.search(content)
            assert found, f"no status in {content!r}"
            status = int(found[2])
            self._end(number, Reply(status, bytes(stream.came[5:]) if status == 0 else b""))

    def _settle(self, content: bytes) -> None:
        """The server's settings."""
        for key, value in _SETTING.iter_unpack(content):
            if key == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._write([_head(0, _SETTINGS, _ACK, 0)])

    def _end(self, number: int, reply: Reply) -> None:
        stream = self._streams.pop(number)
        if stream.left:  # refused before it was sent: tell the server that no more will come
            self._write([_head(4, _RST_STREAM, 0, number), bytes(4)])
        if not stream.future.done():
            stream.future.set_result(reply)

    # Sending

    def _send(self, parts: list[bytes | memoryview]) -> None:
        """Write these, and of the requests as much as the server has room for."""
        for _ in range(len(self._sending)):
            number = self._sending.popleft()
            stream = self._streams.get(number)
            if stream and not self._send_stream(number, stream, parts):
                self._sending.append(number)
        self._write(parts)

    def _send_stream(self, number: int, stream: _Stream, parts: list[bytes | memoryview]) -> bool:
        """Add frames of one request; returns whether it is sent."""
        while stream.left:
            n = min(len(stream.left), _MAX_FRAME, stream.window, self._window)
            if n <= 0:
                return False
            is_last = n == len(stream.left)
            parts += [_head(n, _DATA, _END_STREAM if is_last else 0, number), stream.left[:n]]
            stream.left = stream.left[n:]
            stream.window -= n
            self._window -= n
        return True

    def _write(self, parts: list[bytes | memoryview]) -> None:
        if parts and self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


def _head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return _HEAD.pack(length << 8 | kind, flags, stream)


def _field(name: bytes, value: bytes) -> bytes:
    """A header field as a literal that is not put into a table; both shorter than 127 bytes."""
    return b"\x00%c%b%c%b" % (len(name), name, len(value), value)
