"""Every route. Each handler parses, calls one thing, and answers."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import schemas
from service.answers import bundle_warnings
from service.bundles import LoadedBundle
from service.lifecycle import Lifecycle, versions
from service.openapi import PREDICT_AFFECT, PREDICT_PAIN, problems
from service.predict import Predictor
from service.telemetry import Telemetry


def build_router(lifecycle: Lifecycle, telemetry: Telemetry, predictor: Predictor) -> APIRouter:
    """The routes of one app."""
    router = APIRouter()

    @router.post(
        "/predict/pain",
        response_model=schemas.PainAnswerReply,
        responses=problems("predict"),
        openapi_extra=PREDICT_PAIN,
        tags=["predict"],
    )
    async def predict_pain(request: Request) -> Response:
        """The level of pain in each window of a recording, from the face."""
        return await predictor.answer("pain", request)

    @router.post(
        "/predict/valence-arousal",
        response_model=schemas.AffectAnswerReply,
        responses=problems("predict"),
        openapi_extra=PREDICT_AFFECT,
        tags=["predict"],
    )
    async def predict_valence_arousal(request: Request) -> Response:
        """Valence and arousal in each window of a recording, from the face, the voice, or both."""
        return await predictor.answer("valence-arousal", request)

    @router.get("/health/live", response_model=schemas.Health, responses={503: {"model": schemas.Health}})
    async def live(response: Response) -> schemas.Health:
        """200 while the process can recover by itself; 503 where only a restart helps."""
        response.status_code = 503 if lifecycle.beyond_repair() else 200
        return schemas.Health(status=lifecycle.status())

    @router.get("/health/ready", response_model=schemas.Health, responses={503: {"model": schemas.Health}})
    async def ready(response: Response) -> schemas.Health:
        """200 while predictions should be sent here; 503 while starting, stalled, failed or draining."""
        status = lifecycle.status()
        response.status_code = 200 if status == "ok" else 503
        return schemas.Health(status=status)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """All metrics in Prometheus's text format."""
        return Response(telemetry.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.get("/models", response_model=schemas.ModelsReply, responses=problems("models"))
    async def models() -> schemas.ModelsReply:
        """The loaded bundles, and the versions of what computes here."""
        resources = lifecycle.require()
        return schemas.ModelsReply(
            models=[model_reply(loaded) for loaded in resources.shelf.bundles], versions=versions(resources.providers)
        )

    return router


def model_reply(loaded: LoadedBundle) -> schemas.ModelReply:
    """A bundle as /models lists it."""
    manifest, provenance = loaded.bundle.manifest, loaded.bundle.manifest.provenance
    return schemas.ModelReply(
        name=manifest.name,
        version=loaded.bundle.version,
        task=manifest.task,
        levels=list(manifest.levels),
        graphs=[
            schemas.GraphReply(available=list(graph.available), hallucinated=list(graph.hallucinated))
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
