"""The two addresses of streams."""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from service.stream.streams import Streams


def build_stream_routes(streams: Streams) -> list[WebSocketRoute]:
    """The routes of one app."""

    async def pain(socket: WebSocket) -> None:
        await streams.serve("pain", socket)

    async def valence_arousal(socket: WebSocket) -> None:
        await streams.serve("valence-arousal", socket)

    return [
        WebSocketRoute("/stream/pain", pain),
        WebSocketRoute("/stream/valence-arousal", valence_arousal),
    ]
