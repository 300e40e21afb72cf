"""A request's way: recording → windows → the graph for what each window shows → batches → answer."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.decoder import Decoder
from models.inputs.media import MediaError, MediaLimits
from models.inputs.prepare import MIN_SOUND_S, Prepared, Recording, Span, SpanError, WindowInput, prepare
from models.manifest import GraphSpec
from models.spec import FACE, Task
from service.batcher import Batcher, BatchInterrupted, BatchItemFailed
from service.batcher import DeadlineExceeded as BatchDeadlineExceeded
from service.bundles import LoadedBundle
from service.context import RequestContext
from service.decoders import Decoders
from service.errors import (
    DeadlineExceeded,
    FieldError,
    InvalidField,
    NoFace,
    NotReady,
    NoUsableModality,
    ServiceError,
    TooShort,
    UnreadableMedia,
    from_media,
)
from service.sandbox.process import SandboxLost


class Abandoned(Exception):
    """Ends the decoding of a recording that nobody waits for."""


class Question(NamedTuple):
    """What a request asks."""

    task: Task
    bundle: LoadedBundle
    recording: Recording
    span: Span
    frame_detail: bool


class Computed(NamedTuple):
    """One window: what was in it, which graph read it (None if none could), and what the graph put out."""

    window: WindowInput
    graph: GraphSpec | None
    output: NDArray[np.generic] | None


@dataclass(frozen=True)
class Pipeline:
    """What all requests share."""

    batcher: Batcher
    decoders: Decoders
    open_decoder: Callable[[float], AbstractContextManager[Decoder]]
    """For a request that has so many seconds left."""
    limits: MediaLimits
    max_windows: int
    device_lost: Callable[[str], None]
    """Told why, once the device fails on what it computed before."""

    async def compute(
        self, question: Question, deadline_s: float, context: RequestContext
    ) -> tuple[Prepared, list[Computed]]:
        """Decode, route and run; `deadline_s` is on the monotonic clock.

        Raises ServiceError. When this is cancelled, the decoding has ended before it returns.
        """
        context.stage = "decode"
        prepared = await self.prepare(question, deadline_s, context)
        refuse_unusable(question, prepared)
        context.stage = "queue"
        try:
            return prepared, await self.run(question, prepared.windows, deadline_s, context)
        except BatchDeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}; give the request more time, or ask for a shorter part") from error
        except BatchInterrupted as error:
            raise NotReady("the service stopped computing; send the request again") from error

    async def prepare(self, question: Question, deadline_s: float, context: RequestContext) -> Prepared:
        """The recording as windows: a thread waits for the decoder, and finds the faces."""
        abandoned = threading.Event()

        def tick() -> None:
            if abandoned.is_set():
                raise Abandoned

        def work() -> Prepared:
            manifest = question.bundle.bundle.manifest
            with self.open_decoder(deadline_s - time.monotonic()) as decoder:
                return prepare(
                    question.recording,
                    manifest.inputs,
                    question.bundle.face_nets,
                    limits=self.limits,
                    span=question.span,
                    max_windows=self.max_windows,
                    decoder=decoder,
                    tick=tick,
                )

        try:
            prepared, waited_s = await self.decoders.run(work, stop=abandoned.set)
        except MediaError as error:
            raise from_media(error) from error
        except SpanError as error:
            raise InvalidField([FieldError("start_s", str(error))]) from error
        except SandboxLost as error:
            raise NotReady(f"{error}; send the request again") from error
        context.add("queue", waited_s)
        context.add("decode", prepared.seconds.decode)
        context.add("face", prepared.seconds.face)
        return prepared

    async def run(
        self, question: Question, windows: Sequence[WindowInput], deadline_s: float, context: RequestContext
    ) -> list[Computed]:
        """The output of every window that a graph can read, in the windows' order."""
        computed = [Computed(window, None, None) for window in windows]
        routes = [question.bundle.runner_for(window.observed) for window in windows]
        for route in {id(route[1]): route for route in routes if route is not None}.values():
            graph, runner = route
            members = [index for index, other in enumerate(routes) if other is not None and other[1] is runner]
            items = [partial(tensors, windows[index], graph.available) for index in members]
            try:
                answer = await self.batcher.run(runner, items, deadline_s=deadline_s)
            except BatchItemFailed as error:
                raise await self.blame(question.bundle, graph, deadline_s) from error
            context.add("queue", answer.queue_s)
            context.add("inference", answer.inference_s)
            context.largest_batch = max(context.largest_batch, answer.largest_batch)
            for index, output in zip(members, answer.output, strict=True):
                computed[index] = Computed(windows[index], graph, output)
        return computed

    async def blame(self, bundle: LoadedBundle, graph: GraphSpec, deadline_s: float) -> ServiceError:
        """Whose fault it is that a window cannot be computed: the recording's, unless the golden input fails too."""
        golden, _ = bundle.bundle.golden(graph)
        runner = bundle.runners[frozenset(graph.available)]
        items = [lambda: {modality: array[0] for modality, array in golden.items()}]
        try:
            await self.batcher.run(runner, items, deadline_s=deadline_s)
        except BatchItemFailed as error:
            self.device_lost(f"the device no longer computes: {error.__cause__}")
            return NotReady("the device of this service has failed; send the request again")
        return UnreadableMedia("what the recording shows cannot be computed; send another recording")


def tensors(window: WindowInput, modalities: Sequence[str]) -> Mapping[str, NDArray[np.generic]]:
    """One window as the graph takes it."""
    return {modality: window.tensor(modality) for modality in modalities}


def refuse_unusable(question: Question, prepared: Prepared) -> None:
    """Raise the error that says why no window at all can be answered."""
    task, bundle = question.task, question.bundle
    reasons = {window.reason for window in prepared.windows}
    seen = frozenset[str]().union(*(window.observed for window in prepared.windows))
    if reasons == {"undecodable"} and prepared.media.has_video:
        raise UnreadableMedia("nothing in the part that was asked for can be decoded; send the recording again")
    if task == "pain" and FACE not in seen:
        raise NoFace(no_face_detail(prepared))
    if any(bundle.runner_for(window.observed) is not None for window in prepared.windows):
        return
    if seen:
        used = " or ".join(" with ".join(graph.available) for graph in bundle.bundle.manifest.graphs)
        raise NoUsableModality(f"the recording holds {' and '.join(sorted(seen))}; bundle {bundle.name} needs {used}")
    raise no_modality(prepared, reasons)


def no_modality(prepared: Prepared, reasons: Collection[str | None]) -> ServiceError:
    """Why a recording shows and says nothing that can be used."""
    media = prepared.media
    if media.has_video and not media.has_audio:
        return NoFace(no_face_detail(prepared))
    if set(reasons) == {"too_short"}:
        return TooShort(f"the sound is shorter than {MIN_SOUND_S} s, and there is nothing else; send a longer one")
    heard = "the sound is silent or too short"
    return NoUsableModality(f"no face was found, and {heard}" if media.has_video else heard)


def no_face_detail(prepared: Prepared) -> str:
    if not prepared.media.has_video:
        return "the recording has no picture; send one that shows a face"
    return "no window shows a face for long enough; send a recording of one upright face that is not too small"
