"""POST /v2/models/…/infer: from headers to answer; tensors go to the same batches as the windows of recordings."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import numpy as np
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from service.batcher.batcher import BatchAnswer, BatchInterrupted, BatchItemFailed
from service.batcher.batcher import DeadlineExceeded as BatchDeadlineExceeded
from service.bundles.shelf import LoadedBundle
from service.context import RequestContext
from service.errors import DeadlineExceeded, NotReady, UnreadableMedia, UnsupportedMedia
from service.lifecycle import Lifecycle, Resources
from service.oip.body import HEADER_LENGTH, json_size, read_json, read_tensors
from service.oip.calls import Call, find, understand
from service.oip.messages import read_request
from service.oip.outputs import answered, of_observed, output_tensors
from service.oip.tensors import Body, Windows, answer_body, input_windows
from service.predict.predict import Predictor, covered, while_connected
from service.runtime.device import Row
from service.settings import Settings
from service.telemetry.metrics import Telemetry
from service.threads.offload import offload
from service.uploads.upload import BodyLimits, Spool, read_body

T = TypeVar("T")

INLINE_JSON_BYTES: Final = 1 << 16
INLINE_TENSOR_BYTES: Final = 1 << 20
INLINE_WINDOWS: Final = 64
"""What is no larger is read, or written, at once: to wake a thread would take longer."""


class TensorInference:
    """Answers the inference requests of one app."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, telemetry: Telemetry, predictor: Predictor) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.telemetry = telemetry
        self.predictor = predictor
        self.limits = BodyLimits(
            settings.max_upload_bytes, settings.min_upload_bytes_per_s, settings.slow_upload_after_s
        )

    async def answer(self, request: Request) -> Response:
        """The whole way of one request. Raises ServiceError and ClientGone."""
        context: RequestContext = request.state.context
        resources = self.lifecycle.require(context.request_id)
        bundle = find(resources.shelf, request.path_params["name"], request.path_params.get("version"))
        context.task = bundle.bundle.manifest.task
        self.telemetry.request_began(context)
        timeout_s = self.predictor.timeout_s(request.headers)
        deadline_s = context.started_s + timeout_s
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return await self.answer_in_time(request, bundle, resources, deadline_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the request was not done within {timeout_s:g} s; ask for more with X-Request-Timeout, or send less"
            ) from None

    async def answer_in_time(
        self, request: Request, bundle: LoadedBundle, resources: Resources, deadline_s: float
    ) -> Response:
        context: RequestContext = request.state.context
        refuse_encoding(request.headers)
        declared_bytes = self.predictor.declared_bytes(request.headers)
        json_bytes = json_size(request.headers, declared_bytes or 0)
        with resources.admission.place(bundle.tensors, declared_bytes) as place:
            spool = Spool(self.settings.spool_dir, self.settings.spool_memory_bytes, resources.threads)
            try:
                chunks = covered(read_body(request.receive, self.limits), place)
                call, windows = await self.read(chunks, json_bytes, bundle, resources, spool, context)
                place.arrived()
                until_s = min(deadline_s, context.started_s + call.timeout_s)
                answer = await while_connected(compute(call, windows, resources, until_s, context), request.receive)
                place.answered(context.seconds)
            finally:
                spool.close()
        render = partial(self.render, call, answer)
        body = await off_loop(resources, render, inline=call.batch <= INLINE_WINDOWS)
        return respond(body)

    async def read(
        self,
        chunks: AsyncIterator[bytes],
        json_bytes: int | None,
        bundle: LoadedBundle,
        resources: Resources,
        spool: Spool,
        context: RequestContext,
    ) -> tuple[Call, Windows]:
        """What is asked, and the windows that are sent. Wrong shapes are refused before tensors come."""
        try:
            text, rest = await read_json(chunks, json_bytes)
            small = len(text) <= INLINE_JSON_BYTES
            asked = await off_loop(resources, partial(read_request, text), inline=small)
            call = understand(asked, bundle, max_batch=self.settings.max_windows)
            await read_tensors(chunks, rest, call.binary_bytes, spool)
        finally:
            # where a shorter way was tried, it is known, and was over before
            context.seconds.setdefault("upload", time.monotonic() - context.started_s)
        small = small and spool.size <= INLINE_TENSOR_BYTES
        return call, await off_loop(resources, partial(input_windows, call, spool), inline=small)

    def render(self, call: Call, answer: BatchAnswer) -> Body:
        """The answer's body; its windows are counted."""
        bundle, graph = call.bundle.bundle, call.graph
        finite = answered(answer.output)
        self.count(call, int(np.count_nonzero(finite)))
        head: dict[str, object] = {"model_name": bundle.manifest.name, "model_version": bundle.version}
        if call.id is not None:
            head["id"] = call.id
        if graph.hallucinated:
            head["parameters"] = {"hallucinated": ",".join(graph.hallucinated)}
        names = [output.name for output in call.outputs]
        return answer_body(head, call.outputs, output_tensors(bundle.manifest, graph, answer.output, finite, names))

    def count(self, call: Call, computed: int) -> None:
        """What became of the windows."""
        labels = call.bundle.bundle.manifest.task, call.bundle.name, call.bundle.bundle.version
        self.telemetry.windows_of(*labels, "answered").inc(computed)
        if computed < call.batch:
            self.telemetry.windows_of(*labels, "not_computable").inc(call.batch - computed)
        for modality in call.graph.available:
            self.telemetry.modality_windows_of(modality, "observed").inc(computed)
        for modality in call.graph.hallucinated:
            self.telemetry.modality_windows_of(modality, "hallucinated").inc(computed)


async def compute(
    call: Call, windows: Windows, resources: Resources, deadline_s: float, context: RequestContext
) -> BatchAnswer:
    """The graph's output (batch, ...); each window is an item of its own, and may go with others' to the device.

    Raises DeadlineExceeded where the queue is too long or the time is over, UnreadableMedia where the tensors cannot
    be computed, and NotReady where nothing can.
    """
    context.stage = "queue"
    resources.refuse_tensors(call.runner.key, deadline_s - time.monotonic(), call.batch)
    items = [Row(windows.arrays, row) for row in range(call.batch)]
    try:
        try:
            answer = await resources.batcher.run(call.runner, items, deadline_s=deadline_s)
        except BatchItemFailed as error:
            raise await blame(call, resources, deadline_s) from error
    except BatchDeadlineExceeded as error:
        raise DeadlineExceeded(f"{error}; give the request more time, or send fewer windows") from error
    except BatchInterrupted as error:
        raise NotReady("the service stopped computing; send the request again") from error
    answer = answer._replace(output=of_observed(answer.output, windows.observed))
    note(answer, items, call, resources, context)
    return answer


def note(answer: BatchAnswer, items: Sequence[Row], call: Call, resources: Resources, context: RequestContext) -> None:
    """What the shadow, the headers and the log are to know of an answer."""
    resources.shadow.consider(call.bundle, call.graph, items, answer.output)
    context.add("queue", answer.queue_s)
    context.add("inference", answer.inference_s)
    context.largest_batch = answer.largest_batch


async def blame(call: Call, resources: Resources, deadline_s: float) -> Exception:
    """Whose fault it is: the tensors', unless the golden input fails too."""
    found = await resources.pipeline.blame(call.bundle, call.graph, deadline_s)
    return UnreadableMedia("these tensors cannot be computed; send others") if type(found) is UnreadableMedia else found


async def off_loop(resources: Resources, work: Callable[[], T], *, inline: bool) -> T:
    """The result of `work`, from a thread unless it is quick."""
    return work() if inline else await offload(resources.threads, work)


def refuse_encoding(headers: Headers) -> None:
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(f"the body has the encoding {encoding:.40}; send it as it is")


def respond(body: Body) -> Response:
    if body.json_bytes is None:
        return Response(body.content, media_type="application/json")
    headers = {HEADER_LENGTH: str(body.json_bytes)}
    return Response(body.content, headers=headers, media_type="application/octet-stream")
