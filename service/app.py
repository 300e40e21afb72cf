"""The app, assembled in one place: settings in, FastAPI out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.errors import MalformedRequest, MethodNotAllowed, NotFound, ServiceError, error_response
from service.lifecycle import Lifecycle
from service.middleware import RequestMiddleware
from service.offload import ended
from service.oip.infer import TensorInference
from service.oip.routes import build_oip_routes
from service.predict import Predictor
from service.routes import build_router
from service.schemas import Problem
from service.settings import Settings
from service.telemetry import Telemetry
from service.version import VERSION

DESCRIPTION = "Pain, valence and arousal from the modalities that are really there."


def create_app(settings: Settings) -> FastAPI:
    """An app that loads its bundles when it starts. `app.state.lifecycle` tells when it is ready, or why it is not."""
    telemetry = Telemetry(latency_objective_s=settings.latency_objective_s)
    lifecycle = Lifecycle(settings, telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(lifecycle.run(), name="lifecycle")
        try:
            yield
        finally:
            running.cancel()
            await ended(running)

    app = FastAPIOffline(  # FastAPI's own /docs is blank where the browser cannot reach a public CDN, as in a ward
        title="pkdot",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServiceError: answer_error, HTTPException: answer_http_error},
    )
    app.state.lifecycle = lifecycle
    app.add_middleware(RequestMiddleware, telemetry=telemetry, closing=lambda: lifecycle.draining)
    predictor = Predictor(settings, lifecycle, telemetry)
    app.include_router(build_router(lifecycle, telemetry, predictor))
    app.router.routes[:0] = build_oip_routes(lifecycle, TensorInference(settings, lifecycle, telemetry, predictor))
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


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
        headers = dict(error.headers or {})
        accepted = headers.get("Allow") or headers.get("allow", "")
        detail = f"{request.method} is not answered here; accepted is {accepted}"
        return await answer_error(request, MethodNotAllowed(detail, headers=headers))
    return await answer_error(request, MalformedRequest(str(error.detail)))


def openapi(app: FastAPI) -> dict[str, Any]:
    """/openapi.json: FastAPI's document, and the schema of problems."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs", {}) | {"Problem": schema}
        app.openapi_schema = document
    return app.openapi_schema
