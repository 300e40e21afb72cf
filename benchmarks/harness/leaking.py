"""The service with a leak, to show that the soak finds one: some bytes of every request are kept for ever."""

import argparse
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.server import Server
from service.settings import Settings

BYTES: Final = 16_384


class Leak:
    """Pure ASGI; keeps `BYTES` for each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.kept: list[bytearray] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.kept.append(bytearray(BYTES))
        await self.app(scope, receive, send)


def main() -> None:
    """The options that the benchmarks give to `pkdot serve`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    settings = Settings(bundles=arguments.bundles, port=arguments.port)
    app = create_app(settings)
    app.add_middleware(Leak)
    Server(app, settings, on_ready=lambda _: None).run()


if __name__ == "__main__":
    main()
