"""Answers for clients of HTTP/1.0, which know no chunks (RFC 9112, section 6.1)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


async def without_chunks(app: ASGIApp, cycle: RequestResponseCycle, scope: Scope, receive: Receive, send: Send) -> None:
    """`app`, with an answer that ends where the connection does, which uvicorn closes behind `cycle`."""

    async def send_as_it_is(message: Message) -> None:
        cycle.chunked_encoding = False
        cycle.expected_content_length = len(message.get("body", b""))  # uvicorn would send no more than was announced
        await send(message)

    await app(scope, receive, send_as_it_is)
