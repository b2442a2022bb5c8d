"""What goes over the control socket: frames of MessagePack, each after its length in four bytes, most significant first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from asyncio import StreamReader

MESSAGE_MAX = 1 << 20
"""Largest message in bytes; a longer one is a framing error."""

FRAME_TIMEOUT_S = 5.0
"""A frame that has begun must be complete within this time (real seconds)."""

_HEADER_BYTES = 4


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request; `id` is echoed in every answer to it. `role` is a role's name in lower case."""

    id: int
    verb: str
    args: dict[str, object] = {}
    user: str = ""
    role: str = "observer"
    process: str = ""


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer: a result when `ok`, else why not. `more` is set on every answer of a stream but the last."""

    id: int
    ok: bool
    result: object = None
    code: str = ""
    reason: str = ""
    more: bool = False


class BadFrame(Exception):
    """The peer does not speak this protocol: the connection is of no more use."""


def pack(message: Request | Response) -> bytes:
    """A message as a frame. ValueError when it is too long or holds what MessagePack cannot say."""
    try:
        body = msgspec.msgpack.encode(message)
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"cannot be sent: {error}") from error
    if len(body) > MESSAGE_MAX:
        raise ValueError(f"the message has {len(body)} bytes, at most {MESSAGE_MAX} can be sent")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


async def receive(reader: StreamReader) -> bytes | None:
    """The next message's body; None when the peer has closed between two frames. Raises BadFrame.

    Waits for a frame to begin as long as it takes.
    """
    try:
        first = await reader.read(1)
        if not first:
            return None
        async with asyncio.timeout(FRAME_TIMEOUT_S):
            header = first + await reader.readexactly(_HEADER_BYTES - 1)
            length = int.from_bytes(header, "big")
            if not 0 < length <= MESSAGE_MAX:
                raise BadFrame(f"a length of {length} bytes")
            return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise BadFrame("closed within a frame") from error
    except TimeoutError as error:
        raise BadFrame("a frame that does not end") from error
    except OSError as error:
        raise BadFrame(str(error)) from error


_request_decoder = msgspec.msgpack.Decoder(Request)
_response_decoder = msgspec.msgpack.Decoder(Response)


def request_from(body: bytes) -> Request:
    """Decode a request; raises BadFrame."""
    try:
        return _request_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from error


def response_from(body: bytes) -> Response:
    """Decode a response; raises BadFrame."""
    try:
        return _response_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from error
