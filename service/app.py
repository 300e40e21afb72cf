"""The app, assembled in one place: settings in, FastAPI out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service.access.access import Access
from service.access.hosts import ALLOWED_HEADERS, ALLOWED_METHODS, EXPOSED_HEADERS
from service.access.middleware import AccessMiddleware
from service.admin import admin_token, build_admin_router
from service.context import Finished
from service.docs.openapi import add_security
from service.docs.page import build_docs_page
from service.errors import MalformedRequest, MethodNotAllowed, NotFound, ServiceError, error_response
from service.gate import Gate
from service.lifecycle import Lifecycle
from service.middleware import RequestMiddleware
from service.oip.express import Express
from service.oip.infer import TensorInference
from service.oip.routes import build_oip_routes
from service.predict.predict import Predictor
from service.routes import build_router
from service.schemas import Problem
from service.settings import Settings, SettingsError
from service.stream.routes import build_stream_routes
from service.stream.streams import Streams
from service.telemetry.logs import log_request
from service.telemetry.metrics import Telemetry
from service.threads.offload import ended
from service.version import VERSION

if TYPE_CHECKING:
    from service.telemetry.tracing import Tracing

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own would send the messages of exceptions, which may quote what a caller sent."""
DESCRIPTION = (
    "Pain, valence and arousal from the modalities that are really there. For research: not a medical device, and not "
    "for diagnosis. Not listed here: live streams at `WS /stream/pain` and `WS /stream/valence-arousal`, and tensors "
    "at `/v2`, the Open Inference Protocol."
)


def create_app(settings: Settings) -> FastAPI:
    """An app that loads its bundles when it starts. `app.state.lifecycle` tells when it is ready, or why it is not.

    Raises SettingsError where a setting names a file that cannot be used, or needs a package that is missing.
    """
    telemetry = Telemetry(latency_objective_s=settings.latency_objective_s)
    access = Access(settings)
    lifecycle = Lifecycle(settings, telemetry)
    streams = Streams(settings, lifecycle, telemetry, access)
    tracing = open_tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None

    def report(finished: Finished) -> None:
        if tracing is not None:
            tracing.record(finished)  # first, since it gives a trace its id
        log_request(finished)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(lifecycle.run(), name="lifecycle")
        try:
            yield
        finally:
            running.cancel()
            await ended(running)
            streams.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = FastAPIOffline(  # FastAPI's own /docs is blank where the browser cannot reach a public CDN, as in a ward
        title="pkdot",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        exception_handlers={ServiceError: answer_error, HTTPException: answer_http_error},
    )
    app.state.lifecycle, app.state.access, app.state.streams = lifecycle, access, streams
    predictor = Predictor(settings, lifecycle, telemetry)
    inference = TensorInference(settings, lifecycle, telemetry, predictor)
    app.add_middleware(AccessMiddleware, access=access, telemetry=telemetry, expects=predictor.expects)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=ALLOWED_METHODS,
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(
        RequestMiddleware,
        telemetry=telemetry,
        over_tls=access.tls is not None,
        closing=lambda: lifecycle.draining,
        report=report,
    )
    app.state.gate = Gate(lifecycle, access, predictor, telemetry, report)
    app.state.express = Express(
        lifecycle, access, telemetry, inference, report, app.state.gate.has_entered, streams.open
    )
    app.include_router(build_router(lifecycle, telemetry, predictor))
    token = admin_token(settings)
    if token is not None:
        app.include_router(build_admin_router(lifecycle, access, token))
    app.router.routes.append(build_docs_page(app))
    app.router.routes[:0] = build_stream_routes(streams)
    app.router.routes[:0] = build_oip_routes(lifecycle, inference)
    app.openapi = lambda: openapi(app, keys=access.keys is not None)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


def open_tracing(endpoint: str) -> "Tracing":
    """Spans go to the collector at `endpoint` from now on; SettingsError where the packages for it are missing."""
    try:
        from service.telemetry.tracing import Tracing
    except ImportError as error:
        raise SettingsError(
            f"PKDOT_OTLP_ENDPOINT is set, but {error.name or 'OpenTelemetry'} is not installed; "
            "install pkdot's extra `otel`, or unset it"
        ) from error
    return Tracing(endpoint)


async def answer_error(request: Request, error: Exception) -> Response:
    """Any error of the tree in the form of its address."""
    assert isinstance(error, ServiceError)
    request.state.context.code = error.code
    return error_response(error, request.url.path, request.state.context.request_id)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What Starlette's routing refuses, as a problem."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return await answer_error(request, NotFound("there is nothing at this address; /docs lists what there is"))
    if error.status_code == 405:
        accepted = Headers(error.headers or {}).get("allow", "")
        if accepted == "GET":
            accepted = "GET, HEAD"  # of two routes at one address only the first is named
        detail = f"{request.method} is not answered here; accepted is {accepted}"
        return await answer_error(request, MethodNotAllowed(detail, headers={"allow": accepted}))
    return await answer_error(request, MalformedRequest(str(error.detail)))


def openapi(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    """/openapi.json: FastAPI's document, the schema of problems, and what needs a key or token."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs", {}) | {"Problem": schema}
        add_security(document, keys=keys)
        app.openapi_schema = document
    return app.openapi_schema
