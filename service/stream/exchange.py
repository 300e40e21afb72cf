"""What every stream has in common with requests: its id, and what the log says of it when it is over."""

from starlette.types import Message, Receive, Send

SWITCHED, FORBIDDEN = 101, 403


class StreamExchange:
    """Knows how a handshake was answered, and how many bytes went either way."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self.upstream_receive, self.upstream_send = receive, send
        self.request_id = request_id
        self.status = 0
        """101 where there was a stream."""
        self.request_bytes = self.response_bytes = 0
        """Of the messages."""

    async def receive(self) -> Message:
        message = await self.upstream_receive()
        self.request_bytes += size(message)
        return message

    async def send(self, message: Message) -> None:
        own = (b"x-request-id", self.request_id.encode("ascii"))
        match message["type"]:
            case "websocket.accept":
                self.status = SWITCHED
                message = {**message, "headers": [*message.get("headers", []), own]}
            case "websocket.http.response.start":
                self.status = message["status"]
                added = [own, (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            case "websocket.close" if not self.status:
                self.status = FORBIDDEN
        self.response_bytes += size(message)
        await self.upstream_send(message)


def size(message: Message) -> int:
    """Bytes of the content; of a text, characters, which is near enough."""
    return len(message.get("bytes") or message.get("text") or message.get("body") or b"")
