"""Every route. Each handler parses, calls one thing, and answers."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from models.manifest import Calibration
from service import schemas
from service.bundles.reload import Role
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.docs.openapi import PREDICT_AFFECT, PREDICT_PAIN, lines, problems
from service.lifecycle import Lifecycle, versions
from service.predict.answers import bundle_warnings
from service.predict.predict import Predictor
from service.telemetry.metrics import Telemetry

UNHEALTHY: Final[dict[int | str, dict[str, Any]]] = {503: {"model": schemas.Health}}


def build_router(lifecycle: Lifecycle, telemetry: Telemetry, predictor: Predictor) -> APIRouter:
    """The routes of one app."""
    router = APIRouter()

    @router.post(
        "/predict/pain",
        response_model=schemas.PainAnswerReply,
        responses=lines("pain") | problems("predict"),
        openapi_extra=PREDICT_PAIN,
        tags=["predict"],
    )
    async def predict_pain(request: Request) -> Response:
        """The level of pain in each window of a recording, from the face."""
        return await predictor.answer("pain", request)

    @router.post(
        "/predict/valence-arousal",
        response_model=schemas.AffectAnswerReply,
        responses=lines("valence-arousal") | problems("predict"),
        openapi_extra=PREDICT_AFFECT,
        tags=["predict"],
    )
    async def predict_valence_arousal(request: Request) -> Response:
        """Valence and arousal in each window of a recording, from the face, the voice, or both."""
        return await predictor.answer("valence-arousal", request)

    @router.get("/health/live", response_model=schemas.Health, responses=UNHEALTHY, tags=["service"])
    async def live(response: Response) -> schemas.Health:
        """200 while the process can recover by itself; 503 where only a restart helps."""
        response.status_code = 503 if lifecycle.beyond_repair() else 200
        return schemas.Health(status=lifecycle.status())

    @router.get("/health/ready", response_model=schemas.Health, responses=UNHEALTHY, tags=["service"])
    async def ready(response: Response) -> schemas.Health:
        """200 while predictions should be sent here; 503 while starting, stalled, failed or draining."""
        status = lifecycle.status()
        response.status_code = 200 if status == "ok" else 503
        return schemas.Health(status=status)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["service"])
    async def metrics() -> Response:
        """All metrics in Prometheus's text format."""
        return Response(telemetry.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.get("/models", response_model=schemas.ModelsReply, responses=problems("models"), tags=["service"])
    async def models() -> schemas.ModelsReply:
        """The loaded bundles, and the versions of what computes here."""
        resources = lifecycle.require()
        return schemas.ModelsReply(
            models=model_replies(resources.shelf, resources.shadow.share), versions=versions(resources.providers)
        )

    for route in list(router.routes):
        if isinstance(route, APIRoute) and route.methods == {"GET"}:  # balancers probe with HEAD
            router.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
    return router


def model_replies(shelf: BundleShelf, shadow_share: float) -> list[schemas.ModelReply]:
    """Every loaded bundle, and how much of the requests or windows goes to it."""
    tried = {canary.name for canary in shelf.canaries}
    shares = [1 - shelf.canary_share if loaded.name in tried else 1.0 for loaded in shelf.bundles]
    return [
        *(model_reply(loaded, "bundle", share) for loaded, share in zip(shelf.bundles, shares, strict=True)),
        *(model_reply(loaded, "canary", shelf.canary_share) for loaded in shelf.canaries),
        *(model_reply(loaded, "shadow", shadow_share) for loaded in shelf.shadows),
    ]


def calibration_reply(calibration: Calibration) -> schemas.CalibrationReply:
    """What is known of a graph's sets and intervals."""
    return schemas.CalibrationReply(
        kind=calibration.kind,
        confidence_level=calibration.confidence_level,
        people=calibration.people,
        reason=calibration.reason,
        coverage={
            output: schemas.CoverageReply.model_validate(found.model_dump())
            for output, found in calibration.coverage.items()
        },
    )


def model_reply(loaded: LoadedBundle, role: Role, share: float) -> schemas.ModelReply:
    """A bundle as /models lists it."""
    manifest, provenance = loaded.bundle.manifest, loaded.bundle.manifest.provenance
    return schemas.ModelReply(
        name=manifest.name,
        version=loaded.bundle.version,
        role=role,
        share=share,
        task=manifest.task,
        levels=list(manifest.levels),
        graphs=[
            schemas.GraphReply(
                available=list(graph.available),
                hallucinated=list(graph.hallucinated),
                calibration=calibration_reply(graph.calibration),
            )
            for graph in manifest.graphs
        ],
        window_s=manifest.inputs.window_s,
        hop_s=manifest.inputs.hop_s,
        trained_on=provenance.trained_on,
        synthetic=provenance.synthetic,
        protocol=provenance.protocol,
        warnings=bundle_warnings(manifest),
        metrics=provenance.metrics,
        licences=provenance.licences,
    )
