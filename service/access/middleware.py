"""At the headers of every request: is it meant for this service, and may it come in?"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.access import Access, bearer_token, is_open
from service.access.proxies import edge_of
from service.context import RequestContext, new_context
from service.errors import ServiceError, error_response
from service.telemetry.metrics import Telemetry


class AccessMiddleware:
    """Pure ASGI, within the middleware that makes the context: before the body is read, before admission.

    `scope["state"]["edge"]` then says who is at the other end. A stream is checked for its host and origin here; its
    token comes later, with its hello. `expects(scope, caller)` says whether a request joins a run that its key's limit
    counts already.
    """

    def __init__(
        self, app: ASGIApp, access: Access, telemetry: Telemetry, expects: Callable[[Scope, str], bool]
    ) -> None:
        self.app = app
        self.expects = expects
        self.access = access
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        with ExitStack() as stack:
            try:
                self.enter(scope, stack)
            except ServiceError as error:
                await self.refuse(error, scope, receive, send)
                return
            await self.app(scope, receive, send)

    def enter(self, scope: Scope, stack: ExitStack) -> None:
        state = scope.setdefault("state", {})
        edge = state.get("edge") or self.access.check(scope)  # the gate may have checked it
        state["edge"] = edge
        if scope["type"] == "http":
            context: RequestContext = state["context"]
            context.client = edge.client
            if not is_open(scope["path"]):
                token = bearer_token(scope["headers"])
                stack.enter_context(self.access.admitted(token, context, partial(self.expects, scope)))

    async def refuse(self, error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
        self.telemetry.refused.labels(error.code).inc()
        context: RequestContext = scope.setdefault("state", {}).get("context") or new_context(scope["headers"], 0.0)
        context.code = error.code
        context.client = context.client or edge_of(scope, self.access.settings.trusted_proxies).client
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        await error_response(error, scope["path"], context.request_id)(scope, receive, send)
