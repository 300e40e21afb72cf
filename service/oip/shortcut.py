"""Inference requests pass by the router and what FastAPI wraps around it: small ones would spend long in them."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError
from service.oip.address import infer_address


class Shortcut:
    """Pure ASGI, within all other middleware. `infer` answers what is posted to a bundle, `refuse` its errors.

    All other methods at these addresses are the router's to refuse.
    """

    def __init__(
        self,
        app: ASGIApp,
        infer: Callable[[Request], Awaitable[Response]],
        refuse: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self.app, self.infer, self.refuse = app, infer, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = infer_address(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if address is None:
            await self.app(scope, receive, send)
            return
        scope["path_params"] = {"name": address.name, "version": address.version}
        scope["route"] = address
        request = Request(scope, receive, send)
        try:
            response = await self.infer(request)
        except ServiceError as error:
            response = await self.refuse(request, error)
        await response(scope, receive, send)
