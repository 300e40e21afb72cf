"""A request's way: recording → windows → the graph for what each window shows → batches → answer.

All of it runs at the same time, and each step waits for the next one: a recording of any length takes the memory of a
few windows.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.inputs.face.face import Follow
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaError, MediaInfo, MediaLimits
from models.inputs.prepare import MIN_SOUND_S, Preparation, Reason, Recording, Span, SpanError, WindowInput
from models.manifest import GraphSpec
from models.spec import FACE, Task
from service.batcher.batcher import Batcher, BatchInterrupted, BatchItemFailed
from service.batcher.batcher import DeadlineExceeded as BatchDeadlineExceeded
from service.batcher.golden import run_everywhere
from service.bundles.shelf import LoadedBundle
from service.context import RequestContext
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
from service.predict.cores import Share
from service.predict.decoders import Decoders
from service.runtime.device import BuildItem, Tensors, Told
from service.sandbox.process import SandboxLost
from service.threads.channel import Channel
from service.threads.offload import ended

WINDOWS_AHEAD: Final = 8
"""Of one request: decoded and not yet answered. As many as one batch takes on a CPU."""


class Question(NamedTuple):
    """What a request asks."""

    task: Task
    bundle: LoadedBundle
    recording: Recording
    span: Span
    follow: Follow
    frame_detail: bool


class Computed(NamedTuple):
    """One window: what was in it, which graph read it (None if none could), and what the graph put out."""

    window: WindowInput
    graph: GraphSpec | None
    output: NDArray[np.generic] | None
    expected: Mapping[str, float] = MappingProxyType({})
    """What the T-Nets expect of their errors (`GraphSpec.uncertainty`), by modality; nothing where nobody measures."""


class Sink(Protocol):
    """Where the windows of one request go."""

    def opened(self, preparation: Preparation) -> None:
        """The recording is open: what it holds is known."""

    async def add(self, computed: Sequence[Computed]) -> None:
        """The next windows, in order. The decoding waits while this does."""


@dataclass
class Gist:
    """What is known of all windows so far, to say why none of them can be answered."""

    reasons: set[Reason | None] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    usable: bool = False

    def add(self, question: Question, window: WindowInput) -> None:
        self.reasons.add(window.reason)
        self.seen |= window.observed
        self.usable = self.usable or question.bundle.runner_for(window.observed) is not None


@dataclass(frozen=True)
class Pipeline:
    """What all requests share."""

    batcher: Batcher
    decoders: Decoders
    open_decoder: Callable[[float], AbstractContextManager[Decoder]]
    """For a request that has so many seconds left."""
    limits: MediaLimits
    max_windows: int
    max_faces: int
    device_lost: Callable[[str], None]
    """Told why, once the device fails on what it computed before."""
    answered: Callable[[LoadedBundle, GraphSpec, Sequence[BuildItem], Iterable[NDArray[np.generic]]], None]
    """Told of the windows that a graph has just answered, and of the answers."""

    async def compute(self, question: Question, deadline_s: float, context: RequestContext, sink: Sink) -> Preparation:
        """Decode, route and run, window by window; `deadline_s` is on the monotonic clock.

        `sink` gets each window as soon as it is computed; of those that it has not yet taken, WINDOWS_AHEAD exist at
        most. Raises ServiceError, also after windows were given. However this ends, the decoding has ended before.
        """
        channel, gist = Channel[WindowInput](WINDOWS_AHEAD), Gist()
        decoding = asyncio.create_task(self.decode(question, deadline_s, context, channel, sink))
        decoding.add_done_callback(lambda _: channel.finish())
        try:
            while await self.pass_on(question, deadline_s, context, channel, gist, sink):
                pass
            preparation = await decoding
        except BatchDeadlineExceeded as error:
            raise DeadlineExceeded(f"{error}; give the request more time, or ask for a shorter part") from error
        except BatchInterrupted as error:
            raise NotReady("the service stopped computing; send the request again") from error
        finally:
            decoding.cancel()
            await ended(decoding)
            del decoding  # it holds what it raised, which holds this frame
        refuse_unusable(question, preparation.media, gist)
        return preparation

    async def decode(
        self,
        question: Question,
        deadline_s: float,
        context: RequestContext,
        channel: Channel[WindowInput],
        sink: Sink,
    ) -> Preparation:
        """Put the recording's windows into `channel`: a thread waits for the decoder, and finds the faces."""
        context.stage = "decode"

        def work(share: Share) -> Preparation:
            def tick() -> None:
                channel.check()
                share.tick()

            with self.open_decoder(deadline_s - time.monotonic()) as decoder:
                preparation = Preparation(
                    question.recording,
                    question.bundle.bundle.manifest.inputs,
                    question.bundle.face_nets,
                    limits=self.limits,
                    span=question.span,
                    max_windows=self.max_windows,
                    follow=question.follow,
                    max_faces=self.max_faces,
                    decoder=decoder,
                    tick=tick,
                    clock=share.clock,
                )
                channel.tell(sink.opened, preparation)
                for window in preparation.windows():
                    channel.put(window, waiting=share.idle)
            return preparation

        try:
            preparation, waited_s = await self.decoders.run(work, stop=channel.abandon, own_s=context.own_s)
        except MediaError as error:
            raise from_media(error) from error
        except SpanError as error:
            where = str(error).removeprefix("start_s ")  # the field is named once
            raise InvalidField([FieldError("start_s", f"{where}; begin before that")]) from error
        except SandboxLost as error:
            raise NotReady(f"{error}; send the request again") from error
        context.add("queue", waited_s)
        context.add("decode", preparation.seconds.decode)
        context.add("face", preparation.seconds.face)
        context.stage = "queue"
        return preparation

    async def pass_on(
        self,
        question: Question,
        deadline_s: float,
        context: RequestContext,
        channel: Channel[WindowInput],
        gist: Gist,
        sink: Sink,
    ) -> bool:
        """Compute what has come meanwhile, all at once, and keep nothing of it. False where there will be no more."""
        windows = await channel.take()
        count = len(windows)
        for window in windows:
            gist.add(question, window)
        if windows:
            await sink.add(await self.run(question, windows, deadline_s, context))
            del window, windows  # before others take their room
            channel.done(count)
        return count > 0

    async def run(
        self, question: Question, windows: Sequence[WindowInput], deadline_s: float, context: RequestContext
    ) -> list[Computed]:
        """The output of every window that a graph can read, in the windows' order."""
        computed = [Computed(window, None, None) for window in windows]
        routes = [question.bundle.runner_for(window.observed) for window in windows]
        for route in {id(route[1]): route for route in routes if route is not None}.values():
            graph, runner = route
            members = [index for index, other in enumerate(routes) if other is not None and other[1] is runner]
            expected: list[dict[str, float]] = [{} for _ in members]
            items = [
                partial(tensors, windows[index], graph.available, told)
                for index, told in zip(members, expected, strict=True)
            ]
            try:
                answer = await self.batcher.run(runner, items, deadline_s=deadline_s)
            except BatchItemFailed as error:
                raise await self.blame(question.bundle, graph, deadline_s) from error
            self.answered(question.bundle, graph, items, answer.output)
            context.add("queue", answer.queue_s)
            context.add("inference", answer.inference_s)
            context.largest_batch = max(context.largest_batch, answer.largest_batch)
            for index, output, told in zip(members, answer.output, expected, strict=True):
                computed[index] = Computed(windows[index], graph, output, told)
        return computed

    async def blame(self, bundle: LoadedBundle, graph: GraphSpec, deadline_s: float) -> ServiceError:
        """Whose fault it is that a window cannot be computed: the recording's, unless a device fails on what it proved.

        Which device had the window is not asked: a service with one that no longer computes has to end in any case.
        """
        modalities = frozenset(graph.available)
        runner, golden = bundle.runners[modalities], bundle.golden[modalities]
        try:
            await run_everywhere(self.batcher, runner, lambda: golden, deadline_s=deadline_s)
        except BatchItemFailed as error:
            self.device_lost(f"{error.place} no longer computes: {type(error.__cause__).__name__}: {error.__cause__}")
            return NotReady("the device of this service has failed; send the request again")
        return UnreadableMedia("what the recording shows cannot be computed; send another recording")


def tensors(window: WindowInput, modalities: Sequence[str], expected: dict[str, float]) -> Tensors:
    """One window as the graph takes it; what its T-Nets expect of their errors goes to `expected`."""
    return Told({modality: window.tensor(modality) for modality in modalities}, expected)


def refuse_unusable(question: Question, media: MediaInfo, gist: Gist) -> None:
    """Raise the error that says why no window at all can be answered."""
    task, bundle = question.task, question.bundle
    if gist.reasons == {"undecodable"} and media.has_video:
        raise UnreadableMedia("nothing in the part that was asked for can be decoded; send the recording again")
    if task == "pain" and FACE not in gist.seen:
        raise NoFace(no_face_detail(media))
    if gist.usable:
        return
    if gist.seen:
        used = " or ".join(" with ".join(graph.available) for graph in bundle.bundle.manifest.graphs)
        raise NoUsableModality(
            f"the recording holds {' and '.join(sorted(gist.seen))}; bundle {bundle.name} needs {used}"
        )
    raise no_modality(media, gist.reasons)


def no_modality(media: MediaInfo, reasons: Collection[str | None]) -> ServiceError:
    """Why a recording shows and says nothing that can be used."""
    if media.has_video and not media.has_audio:
        return NoFace(no_face_detail(media))
    if set(reasons) == {"too_short"}:
        return TooShort(f"the sound is shorter than {MIN_SOUND_S} s, and there is nothing else; send a longer one")
    heard = "the sound is silent or too short"
    return NoUsableModality(f"no face was found, and {heard}" if media.has_video else heard)


def no_face_detail(media: MediaInfo) -> str:
    if not media.has_video:
        return "the recording has no picture; send one that shows a face"
    return "no window shows a face for long enough; send a recording of one upright face that is not too small"
