"""The two addresses of streams, and what a handshake at any other is told."""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from service.context import RequestContext
from service.errors import NotFound
from service.stream.streams import Streams, refuse


def build_stream_routes(streams: Streams) -> list[WebSocketRoute]:
    """The routes of one app. The last takes every WebSocket: what stands behind it is reached by HTTP only."""

    async def pain(socket: WebSocket) -> None:
        await streams.serve("pain", socket)

    async def valence_arousal(socket: WebSocket) -> None:
        await streams.serve("valence-arousal", socket)

    async def nowhere(socket: WebSocket) -> None:
        context: RequestContext = socket.state.context
        context.client = socket.state.edge.client
        error = NotFound("no stream is at this address; there are /stream/pain and /stream/valence-arousal")
        await refuse(socket, context, error)

    return [
        WebSocketRoute("/stream/pain", pain),
        WebSocketRoute("/stream/valence-arousal", valence_arousal),
        WebSocketRoute("/{path:path}", nowhere),
    ]
