"""One stream: three things at once. It listens, a thread makes windows of what came, and each window is answered."""

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, Self

from starlette.websockets import WebSocket

from models.inputs.face.face import FaceTracker
from models.inputs.media.media import MediaError, MediaInfo
from models.inputs.prepare import WHOLE, Recording
from models.spec import FACE, VOICE, Task
from service import schemas
from service.access.access import Access
from service.batcher.batcher import BatchInterrupted
from service.batcher.batcher import DeadlineExceeded as BatchDeadlineExceeded
from service.bundles.shelf import BundleShelf, UnknownBundle
from service.context import RequestContext
from service.errors import (
    FieldError,
    InvalidField,
    MalformedRequest,
    NotReady,
    UnreadableMedia,
    UploadTooSlow,
    from_media,
)
from service.predict.answers import answer_window, bundle_reply, bundle_warnings, warnings, window_reply
from service.predict.pipeline import Computed, Pipeline, Question
from service.predict.tally import Tally
from service.sandbox.process import SandboxLost
from service.stream.assembly import Assembly, Ready
from service.stream.clock import Clock
from service.stream.mailbox import Mailbox
from service.stream.messages import JPEG, Hello, message, read_end, read_media
from service.stream.pictures import PictureDecoder, Viewer
from service.stream.wire import receive, send
from service.telemetry.metrics import Telemetry
from service.threads.channel import Channel
from service.threads.offload import ended, offload

MEDIA_WITHIN_S: Final = 30.0
WINDOWS_AHEAD: Final = 4
"""Made and not yet answered; beyond, the thread waits, and pictures are passed over."""
MIN_WINDOW_TIMEOUT_S: Final = 1.0
"""A window has its hop to be computed in, or so long where the hop is shorter."""


class GoingAway(Exception):
    """The service is draining."""


@dataclass(frozen=True)
class Asked:
    """What a hello asks for, with what is needed to answer it."""

    hello: Hello
    question: Question
    hop_s: float
    max_message_bytes: int

    @classmethod
    def of(cls, hello: Hello, task: Task, shelf: BundleShelf, max_message_bytes: int) -> Self:
        """Raises InvalidField where no bundle, or none of this name, can answer from what is announced."""
        try:
            bundle = shelf.find(task, hello.bundle)
        except UnknownBundle as error:
            raise InvalidField([FieldError("bundle", str(error))]) from None
        spec = bundle.bundle.manifest.inputs
        announced = {FACE} if hello.video is not None and spec.face is not None else set()
        announced |= {VOICE} if hello.audio is not None and spec.voice is not None else set()
        if bundle.runner_for(frozenset(announced)) is None:
            used = " or ".join(" with ".join(graph.available) for graph in bundle.bundle.manifest.graphs)
            field, other = ("audio", "video") if hello.video is None else ("video", "audio")
            raise InvalidField(
                [FieldError(other, f"is missing; bundle {bundle.name} needs {used}, not only `{field}`")]
            )
        question = Question(task, bundle, Recording(), WHOLE, hello.face, False)
        return cls(hello, question, hello.hop_s or spec.hop_s, max_message_bytes)

    def ready(self, request_id: str) -> str:
        """What the service says to the hello."""
        manifest = self.question.bundle.bundle.manifest
        levels = {"levels": list(manifest.levels)} if manifest.levels else {}
        return message(
            "ready",
            {
                "request_id": request_id,
                "api_version": schemas.API_VERSION,
                "bundle": bundle_reply(self.question).model_dump(mode="json"),
                "warnings": bundle_warnings(manifest),
                "confidence_level": Tally(manifest).confidence_level(),
                "window_s": manifest.inputs.window_s,
                "hop_s": self.hop_s,
                "max_message_bytes": self.max_message_bytes,
                **levels,
            },
        )


class Session:
    """A stream from its `ready` to its `summary`. `leave` is set where the service drains."""

    def __init__(
        self,
        asked: Asked,
        socket: WebSocket,
        context: RequestContext,
        access: Access,
        pipeline: Pipeline,
        telemetry: Telemetry,
        threads: Executor,
        leave: asyncio.Event,
    ) -> None:
        self.asked, self.socket, self.context, self.access = asked, socket, context, access
        self.pipeline, self.telemetry, self.threads, self.leave = pipeline, telemetry, threads, leave
        spec = asked.question.bundle.bundle.manifest.inputs
        self.clock = Clock(spec.window_s, asked.hop_s)
        self.mailbox = Mailbox()
        self.channel = Channel[Ready](WINDOWS_AHEAD)
        self.tally = Tally(asked.question.bundle.bundle.manifest)
        self.silent_track = False
        video, audio = asked.hello.video, asked.hello.audio
        self.media = MediaInfo(0.0, None, None, None, has_video=video is not None, has_audio=audio is not None)

    async def run(self) -> None:
        """Until the summary is sent. Raises ServiceError, ClientGone and GoingAway; its thread has ended by then."""
        await send(self.socket, self.asked.ready(self.context.request_id))
        listening = asyncio.create_task(self.listen())
        leaving = asyncio.create_task(self.leave.wait())
        working = asyncio.create_task(self.assemble())
        working.add_done_callback(lambda _: self.channel.finish())
        answering = asyncio.create_task(self.answer())
        try:
            await asyncio.wait({listening, leaving, answering}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
            if answering.done():
                answering.result()
                await working
                await send(self.socket, self.summary())
            else:
                raise GoingAway
        finally:
            for task in (listening, leaving, working, answering):
                task.cancel()
            await ended(listening, leaving, working, answering)
            del listening, leaving, working, answering, task  # they hold what they raised, which holds this frame

    async def assemble(self) -> None:
        """`work` in a thread. Raises ServiceError."""
        try:
            await offload(self.threads, self.work, stop=self.stop)
        except MediaError as error:
            raise from_media(error) from error
        except SandboxLost as error:
            raise NotReady(f"{error}; begin another stream") from error

    async def listen(self) -> None:
        """Take messages until the client goes. Raises ClientGone and ServiceError."""
        at_end = False
        while True:
            came = await self.heard(None if at_end else MEDIA_WITHIN_S)
            self.access.still_admits(self.context)
            if at_end:
                raise MalformedRequest("nothing may follow the end of a stream")
            if (text := came.get("text")) is not None:
                read_end(text)
                at_end = True
                self.mailbox.end()
            else:
                self.accept(came["bytes"])

    async def heard(self, within_s: float | None) -> dict[str, Any]:
        """The next message. Raises ClientGone, TooLarge, and UploadTooSlow where none comes."""
        try:
            # by no name: what is raised below would hold the timeout, and that the task, which holds what was raised
            async with asyncio.timeout(within_s):
                return await receive(self.socket, self.asked.max_message_bytes)
        except TimeoutError:
            raise UploadTooSlow(
                f"neither picture nor sound came for {MEDIA_WITHIN_S:g} s; begin another stream when there is some"
            ) from None

    def accept(self, data: bytes) -> None:
        media, hello = read_media(data, self.asked.hello), self.asked.hello
        time_s = self.clock.place(media.captured_us)
        if media.kind == JPEG:
            self.telemetry.dropped_frames.inc(self.mailbox.add_picture(time_s, media.payload))
            end_s = time_s
        else:
            assert hello.audio is not None  # `read_media` has seen to it
            self.mailbox.add_sound(time_s, media.payload)
            end_s = time_s + len(media.payload) / (2 * hello.audio.channels * hello.audio.sample_rate)
        self.clock.arrived(end_s, time.monotonic())

    def work(self) -> None:
        """In a thread: everything from decoding to whole windows."""
        question, pipeline = self.asked.question, self.pipeline
        spec, nets = question.bundle.bundle.manifest.inputs, question.bundle.face_nets
        viewer, decoder = None, PictureDecoder(pipeline.open_decoder, pipeline.limits)
        if self.asked.hello.video is not None and spec.face is not None and nets is not None:
            tracker = FaceTracker(nets, size_px=spec.face.size_px, follow=question.follow, max_faces=pipeline.max_faces)
            viewer = Viewer(decoder, tracker)
        assembly = Assembly(
            self.asked.hello,
            spec,
            self.mailbox,
            viewer,
            self.channel.put,
            hop_s=self.asked.hop_s,
            follow=question.follow,
        )
        try:
            assembly.run()
        finally:
            decoder.close()
        self.silent_track = assembly.assembler.silent_track

    def stop(self) -> None:
        """Let the thread end soon: at once where it waits, else after the picture that it looks at."""
        self.channel.abandon()
        self.mailbox.end()

    async def answer(self) -> None:
        while windows := await self.channel.take():
            for ready in windows:
                await self.answer_one(ready)
                self.channel.done(1)

    async def answer_one(self, ready: Ready) -> None:
        """Compute a window and send its rows, however late they are; the first tells of the pictures passed over."""
        complete_s = self.clock.complete_since(time.monotonic())
        answered = [answer_window(self.tally.manifest, one) for one in await self.compute(ready)]
        self.telemetry.answered(self.asked.question.bundle.bundle, answered)
        for place, one in enumerate(answered):
            self.tally.add(one)
            row = window_reply(self.asked.question, self.media, one)
            late = {
                "dropped_frames": 0 if place else ready.dropped_frames,
                "latency_ms": round(1000 * (time.monotonic() - complete_s), 3),
            }
            content = row.model_dump(mode="json", by_alias=True, exclude={"frames"}) | late
            await send(self.socket, message("window", content))

    async def compute(self, ready: Ready) -> list[Computed]:
        """A window that cannot be computed, or not in its time, has no output: the next one may do better."""
        question, pipeline = self.asked.question, self.pipeline
        deadline_s = time.monotonic() + max(self.asked.hop_s, MIN_WINDOW_TIMEOUT_S)
        try:
            return await pipeline.run(question, ready.rows, deadline_s, self.context)
        except (BatchDeadlineExceeded, UnreadableMedia):
            routes = [question.bundle.runner_for(row.observed) for row in ready.rows]
            return [
                Computed(row, route[0] if route is not None else None, None)
                for row, route in zip(ready.rows, routes, strict=True)
            ]
        except BatchInterrupted as error:
            raise NotReady("the service stopped computing; begin another stream") from error

    def summary(self) -> str:
        tally, question = self.tally, self.asked.question
        return message(
            "summary",
            {
                "summary": tally.summary().model_dump(mode="json"),
                "faces": [face.model_dump(mode="json") for face in tally.face_replies()],
                "modalities": tally.modalities().model_dump(mode="json"),
                "warnings": warnings(question, self.silent_track, tally),
                "dropped_frames": self.mailbox.dropped,
            },
        )
