"""uvicorn with a lame-duck pause: on SIGTERM the service stops being ready first, and stops listening later.

uvicorn closes its sockets before it runs the app's shutdown, so a balancer would never see the readiness fail. A
service that has failed stops listening at once, since a refused connection is tried again elsewhere, and waits for
nobody: it has to be started anew.
"""

import asyncio
import logging
import math
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.access.access import Access
from service.http.protocol import Connection
from service.http.shared_buffer import reading_at_once
from service.lifecycle import Lifecycle
from service.readiness import ReadinessLog
from service.settings import Settings, SettingsError
from service.stream.protocol import StreamProtocol
from service.stream.streams import Streams
from service.telemetry.logs import write_gathered
from service.threads.offload import ended

PING_EVERY_S: Final = 20.0
KEEP_ALIVE_S: Final = 75
"""Longer than the usual balancer keeps an idle connection, so that it is never the server that closes first."""
TICK_S: Final = 0.1
FAILED_GRACE_S: Final = 4.0
"""What is at work when the service fails may go on for so long: another device may still answer it."""
FAILED_END_S: Final = 10.0
"""So long after its failure the process ends, whatever still holds it: a driver may never return."""

logger = logging.getLogger("pkdot")


def refuse_foreign(host: str) -> None:
    """SettingsError for a name or an address that is not this machine's, whichever port it is to listen on."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"PKDOT_HOST={host!r} is not possible: no address has this name ({error})") from None
    reasons = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
        except OSError as error:
            reasons.append(error.strerror)
    if len(reasons) == len(found):
        raise SettingsError(f"PKDOT_HOST={host!r} is not possible: not an address of this machine ({reasons[0]})")


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
                http=reading_at_once(  # type: ignore[arg-type]  # it is called as a class is
                    partial(Connection, gate=app.state.gate, express=app.state.express)
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
        self.readiness = ReadinessLog(self.lifecycle)
        self.unsaid: deque[str] = deque()
        """Signals for the log, which a signal's handler must not write: it may have interrupted a writer."""

    @property
    def exit_code(self) -> int:
        """Of the process: 0 after a clean stop, 1 where it could not start or has failed, 2 for impossible settings."""
        if self.lifecycle.impossible:
            return 2
        return 0 if self.started and self.lifecycle.failure is None else 1

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal or a failure ends it."""
        super().run(sockets)
        self.say_the_end()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        """Called by the signal. uvicorn's own would raise the signal again at the end, and so spoil the exit code."""
        if self.should_exit:
            self.force_exit = sig == signal.SIGINT
            what = "what is at work is given up" if self.force_exit else "the service is stopping already"
        elif sig == signal.SIGTERM and self.stop_at_s is None:
            self.lifecycle.draining = True
            self.stop_at_s = time.monotonic() + self.drain_s
            what = f"draining for {self.drain_s:g} s, then the listening sockets close"
        else:
            self.should_exit = True
            what = "the listening sockets close at once"
        self.unsaid.append(f"{signal.Signals(sig).name}: {what}")

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
        self.tell()
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

    def tell(self) -> None:
        """Write what happened since the last time: requests, signals, changes of readiness."""
        write_gathered()
        while self.unsaid:
            logger.info("%s", self.unsaid.popleft())
        self.readiness.look()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait for what is at work, as long as the service has not failed."""
        self.lifecycle.draining = True
        self.tell()
        for server in self.servers:
            server.close()
        resources = self.lifecycle.resources
        at_work = 0 if resources is None else resources.admission.at_work
        logger.info("the listening sockets are closed; predictions at work: %d", at_work)
        watching = asyncio.create_task(self.watch_the_end())
        await super().shutdown(sockets)
        if self.force_exit:
            await self.give_up_requests()
        watching.cancel()

    async def give_up_requests(self) -> None:
        """End those at work, which tells their clients, and then the app: uvicorn leaves both to the loop's end."""
        at_work = [*self.server_state.tasks]
        for task in at_work:
            task.cancel()
        await ended(*at_work)
        await self.lifespan.shutdown()

    async def watch_the_end(self) -> None:
        """Go on to write the log. Once the service has failed, wait a little, and leave the clients that are left."""
        until_s = math.inf
        while time.monotonic() < until_s:
            self.tell()
            if self.lifecycle.failure is not None and until_s == math.inf:
                until_s = time.monotonic() + FAILED_GRACE_S
                self.end_in_any_case()
            await asyncio.sleep(TICK_S)
        for connection in [*self.server_state.connections]:
            connection.transport.abort()  # for the request that is as if its client had left

    def end_in_any_case(self) -> None:
        """End the process `FAILED_END_S` from now; where the service is one of several threads, that is not its own."""
        if threading.current_thread() is threading.main_thread():
            timer = threading.Timer(FAILED_END_S, self.give_up)
            timer.daemon = True
            timer.start()

    def give_up(self) -> None:
        self.say_the_end()
        os._exit(self.exit_code)

    def say_the_end(self) -> None:
        """The last line of the log."""
        self.tell()
        level = logging.INFO if self.exit_code == 0 else logging.WARNING
        logger.log(level, "the service has ended, with exit code %d", self.exit_code)
