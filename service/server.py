"""uvicorn with a lame-duck pause: on SIGTERM the service stops being ready first, and stops listening later.

uvicorn closes its sockets before it runs the app's shutdown, so a balancer would never see the readiness fail.
"""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.access.access import Access
from service.lifecycle import Lifecycle
from service.logs import write_gathered
from service.protocol import READ_BYTES, Connection
from service.settings import Settings
from service.stream.protocol import StreamProtocol
from service.stream.streams import Streams

PING_EVERY_S: Final = 20.0
KEEP_ALIVE_S: Final = 75
"""Longer than the usual balancer keeps an idle connection, so that it is never the server that closes first."""

logger = logging.getLogger("pkdot")


class Server(uvicorn.Server):
    """Serves one app, and calls `on_ready(port)` once it is ready.

    SIGTERM drains for `settings.drain_s`; SIGINT, or a second signal, stops at once.
    """

    def __init__(self, app: FastAPI, settings: Settings, on_ready: Callable[[int], None]) -> None:
        self.access: Access = app.state.access
        tls = self.access.tls
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=partial(  # type: ignore[arg-type]  # it is called as a class is
                    Connection,
                    gate=app.state.gate,
                    express=app.state.express,
                    buffer=memoryview(bytearray(READ_BYTES)),
                ),
                ws=StreamProtocol,
                ws_max_size=2
                * settings.max_stream_message_bytes,  # what is a little too large gets a problem, not 1009
                ws_ping_interval=PING_EVERY_S,
                ws_ping_timeout=PING_EVERY_S,
                ws_per_message_deflate=False,  # JPEG gains nothing, and what is inflated has no bound
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=round(settings.max_request_timeout_s),
            )
        )
        self.lifecycle: Lifecycle = app.state.lifecycle
        self.streams: Streams = app.state.streams
        self.drain_s = settings.drain_s
        self.on_ready = on_ready
        self.announced = False
        self.stop_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        """Called by the signal. uvicorn's own would raise the signal again at the end, and so spoil the exit code."""
        if self.should_exit:
            self.force_exit = sig == signal.SIGINT
        elif sig == signal.SIGTERM and self.stop_at_s is None:
            self.lifecycle.draining = True
            self.stop_at_s = time.monotonic() + self.drain_s
        else:
            self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and reload at every SIGHUP; signals reach the main thread only."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read keys and certificates again now, and the bundles soon."""
        self.access.reload_or_log()
        self.lifecycle.reload_soon()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; True ends the serving."""
        write_gathered()
        if self.lifecycle.draining:
            self.streams.leave()
        if self.stop_at_s is not None and time.monotonic() >= self.stop_at_s:
            self.should_exit = True
        if self.lifecycle.failure is not None:
            self.should_exit = True
        if not self.announced and self.lifecycle.resources is not None:
            self.announced = True
            self.on_ready(self.servers[0].sockets[0].getsockname()[1])
        return await super().on_tick(counter)
