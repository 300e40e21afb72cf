"""The socket of a stream, as far as the service has to do with it: messages with limits, and its end."""

import asyncio
import contextlib
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from service.errors import ClientGone, ServiceError, TooLarge, problem_of
from service.http.closing import UNREAD_S
from service.stream.messages import message

FAREWELL_S: Final = 1.0
PROBLEM_CODES: Final = 4000
"""A close code is this and the problem's status."""
DONE, GOING_AWAY = 1000, 1001


async def receive(socket: WebSocket, max_bytes: int) -> dict[str, Any]:
    """The next message: `text` or `bytes`. Raises ClientGone, and TooLarge where it has more than `max_bytes`."""
    came = await socket.receive()
    if came["type"] == "websocket.disconnect":
        raise ClientGone
    size = len(came.get("bytes") or came.get("text") or "")
    if size > max_bytes:
        raise TooLarge(f"a message has {size} bytes; at most {max_bytes} are accepted: send smaller pictures or pieces")
    return dict(came)


async def send(socket: WebSocket, text: str, within_s: float = UNREAD_S) -> None:
    """Raises ClientGone where nobody takes it."""
    try:
        async with asyncio.timeout(within_s):
            await socket.send_text(text)
    except (TimeoutError, WebSocketDisconnect):
        raise ClientGone from None


async def close(socket: WebSocket, code: int) -> None:
    """End the stream, if it has not ended."""
    with contextlib.suppress(TimeoutError, WebSocketDisconnect):
        async with asyncio.timeout(FAREWELL_S):
            await socket.close(code)


async def fail(socket: WebSocket, error: ServiceError, request_id: str) -> None:
    """Say why the stream cannot go on, and end it."""
    with contextlib.suppress(ClientGone):
        await send(socket, message("error", {"problem": problem_of(error, request_id)}), FAREWELL_S)
        await close(socket, PROBLEM_CODES + error.status)
