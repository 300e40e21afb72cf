"""The protocol's routes. They are not in /openapi.json: the protocol has a description of its own."""

from itertools import chain
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.bundles.shelf import LoadedBundle
from service.lifecycle import Lifecycle
from service.oip.address import INFER, INFER_VERSION
from service.oip.calls import find
from service.oip.infer import TensorInference
from service.oip.metadata import SERVER, model_metadata

MODEL: Final = "/v2/models/{name}"
MODEL_PATHS: Final = (MODEL, MODEL + "/versions/{version}")


def build_oip_routes(lifecycle: Lifecycle, inference: TensorInference) -> list[Route]:
    """Every route under /v2; those that must be quick come first."""

    async def server(_: Request) -> Response:
        return JSONResponse(SERVER)

    async def live(_: Request) -> Response:
        alive = not lifecycle.beyond_repair()
        return JSONResponse({"live": alive}, 200 if alive else 503)

    async def ready(_: Request) -> Response:
        fit = lifecycle.status() == "ok"
        return JSONResponse({"ready": fit}, 200 if fit else 503)

    def asked_for(request: Request) -> LoadedBundle:
        return find(lifecycle.require().shelf, request.path_params["name"], request.path_params.get("version"))

    async def model(request: Request) -> Response:
        return JSONResponse(model_metadata(asked_for(request), lifecycle.require().shelf))

    async def model_ready(request: Request) -> Response:
        name, fit = asked_for(request).name, lifecycle.status() == "ok"
        return JSONResponse({"name": name, "ready": fit}, 200 if fit else 503)

    infer = [Route(path, inference.answer, methods=["POST"]) for path in (INFER, INFER_VERSION)]
    about_models = [(Route(path, model), Route(path + "/ready", model_ready)) for path in MODEL_PATHS]
    about_server = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    return [*infer, *about_server, *chain.from_iterable(about_models)]
