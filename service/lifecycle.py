"""From starting to draining: opens what requests need, and knows whether the service is fit to serve."""

import asyncio
import logging
import random
import tempfile
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

import av
import onnxruntime

from models.bundle import BundleError
from models.inputs.media.media import MediaLimits
from service.batcher.batcher import Batcher, BatchReport
from service.bundles.loader import ShelfReader
from service.bundles.reload import Reloader
from service.bundles.series import BundleSeries
from service.bundles.shadow import Shadow
from service.bundles.shelf import BundleShelf
from service.errors import DeadlineExceeded, NotReady
from service.failures import FailureLog
from service.oip.known_calls import KnownCalls
from service.predict.decoders import Decoders
from service.predict.pipeline import Pipeline
from service.runtime.provider_options import RuntimeOptions
from service.runtime.providers import Providers, ProvidersError
from service.sandbox.layers import LAYERS
from service.sandbox.sandbox import Sandbox, SandboxError, in_process, start_sandbox
from service.schemas import Versions
from service.settings import Settings, SettingsError
from service.telemetry.metrics import Telemetry
from service.threads.offload import ended, offload
from service.threads.plan import ThreadPlan, available_cores, plan_threads
from service.threads.priority import stand_back
from service.uploads.admission import Admission
from service.uploads.work_rate import Kind
from service.version import VERSION

Status = Literal["ok", "starting", "draining", "stalled", "failed"]
SIDE_THREADS: Final = 2
HUNG_AFTER_S: Final = 120.0
SURE: Final = 0.8
"""So much of its time a request may take, as predicted, where others are ahead of it. Under overload all who come in
take as much as they may: were it all their time, half of them would be computed too late, and for nothing."""

logger = logging.getLogger("pkdot")


@dataclass(frozen=True)
class Resources:
    """All that a request needs. `threads` store uploads and write answers, beside the event loop.

    A reload makes new resources with another shelf: a request keeps those that it began with.
    """

    shelf: BundleShelf
    providers: Providers
    plan: ThreadPlan
    sandbox: Sandbox | None
    batcher: Batcher
    admission: Admission
    pipeline: Pipeline
    threads: Executor
    series: BundleSeries
    shadow: Shadow
    reloader: Reloader
    calls: KnownCalls = field(default_factory=KnownCalls)
    """Of what is loaded: after a reload they begin anew."""

    def refuse_recording(self, kind: Kind, left_s: float, declared_bytes: int | None) -> None:
        """Raise DeadlineExceeded where the queues for decoders and for the device leave too little of the time."""
        decoding_s = self.pipeline.decoders.predicted_wait_s(self.admission.own_s(kind, declared_bytes))
        computing_s = self.batcher.wait_s(kind.queue_key, 1, tensors=False)
        self.refuse_hopeless(decoding_s + computing_s, left_s, first=self.batcher.forecast.is_free and not decoding_s)

    def refuse_tensors(self, runner_key: str, left_s: float, windows: int) -> None:
        """Raise DeadlineExceeded where the queue of this graph leaves too little of the time."""
        wait_s = self.batcher.wait_s(runner_key, windows, tensors=True)
        self.refuse_hopeless(wait_s, left_s, first=self.batcher.forecast.is_free)

    def refuse_hopeless(self, wait_s: float, left_s: float, *, first: bool) -> None:
        """Raise DeadlineExceeded where `wait_s` is too much. For who is `first` in line it may be all that is left."""
        if wait_s > (left_s if first else SURE * left_s):
            raise DeadlineExceeded(
                f"the queue and the request itself would take {wait_s:#.3g} s, too much of the "
                f"{max(0.0, left_s):#.3g} s that are left; ask for more with X-Request-Timeout, or try again later"
            )


class Lifecycle:
    """One app's state. Answers from memory: asking never waits."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.resources: Resources | None = None
        self.draining = False
        self.failure: str | None = None
        """Why the service cannot start, or go on."""
        self.impossible = False
        """Whether the settings are why."""
        telemetry.watch("ready", "Whether /health/ready answers 200.", lambda: self.status() == "ok")

    def status(self) -> Status:
        if self.failure is not None:
            return "failed"
        if self.draining:
            return "draining"
        if self.resources is None:
            return "starting"
        return "stalled" if self.resources.batcher.stalled() else "ok"

    def beyond_repair(self) -> bool:
        """Whether only a restart helps: the bundles or the device cannot serve, or it has hung for minutes."""
        if self.resources is None or not self.resources.batcher.stalled():
            return self.failure is not None
        return self.without_progress_s() > HUNG_AFTER_S

    def without_progress_s(self) -> float:
        """How long no batch has finished, where there are any to be computed."""
        return 0.0 if self.resources is None else time.monotonic() - self.resources.batcher.last_progress_s

    def fail(self, reason: str) -> None:
        """Nothing here can be repaired: readiness fails, and the process ends, to be started anew.

        The first reason is the one that counts: everybody whose request fails with the device brings another.
        """
        if self.failure is None:
            logger.error("%s", reason)
            self.failure = reason

    def require(self, request_id: str | None = None) -> Resources:
        """What a request needs, with the canaries on its shelf if its id falls to them; NotReady before it is there."""
        if self.resources is None:
            why = "the bundles are being loaded; try again soon" if self.failure is None else "its bundles cannot serve"
            raise NotReady(f"the service is not ready: {why}")
        if request_id is None:
            return self.resources
        shelf = self.resources.shelf.for_request(request_id)
        return self.resources if shelf is self.resources.shelf else replace(self.resources, shelf=shelf)

    def adopt(self, shelf: BundleShelf) -> None:
        """Answer later requests from this shelf; those at work keep theirs."""
        resources = self.require()
        resources.batcher.expect(shelf.runners())
        resources.series.follow(shelf)
        resources.shadow.follow(shelf)
        self.resources = replace(resources, shelf=shelf, calls=KnownCalls())

    def reload_soon(self) -> None:
        """What SIGHUP asks for; what comes of it is logged."""
        if self.resources is None:
            logger.warning("the bundles are not reloaded: the service has not started yet")
        else:
            self.resources.reloader.ask()

    async def run(self) -> None:
        """Load, serve until cancelled, and close. A bundle that cannot serve is kept as `failure`."""
        async with AsyncExitStack() as stack:
            try:
                self.resources = await self.open(stack)
            except (BundleError, ProvidersError, SandboxError, SettingsError, OSError) as error:
                self.impossible = isinstance(error, SettingsError)
                self.fail(str(error))
                return
            except Exception as error:
                self.failure = repr(error)
                logger.exception("the service cannot start")
                return
            try:
                await asyncio.Event().wait()
            finally:
                self.resources = None

    async def open(self, stack: AsyncExitStack) -> Resources:
        """Start the sandbox while the bundles are loaded and proven, then start the batch loop."""
        settings = self.settings
        threads = stack.enter_context(ThreadPoolExecutor(SIDE_THREADS, "side"))
        with ThreadPoolExecutor(2, "start", initializer=stand_back) as starters:  # their children take after them
            loading = asyncio.create_task(offload(starters, partial(load, settings)))
            try:
                sandbox = await offload(starters, partial(self.start_sandbox, stack))
                reader, shelf, providers, plan = await loading
            finally:
                await ended(loading)
        series = BundleSeries(self.telemetry)
        series.follow(shelf)
        decoders = Decoders(plan.decoders, lambda took_s: self.telemetry.decoding.add(took_s / plan.decoders))
        stack.push_async_callback(offload, threads, decoders.close)  # a thread at work may wait for the event loop
        failures = FailureLog(lambda: series.loaded)

        def observe(report: BatchReport) -> None:
            series.observe(report)
            failures.observe(report)

        batcher = Batcher(
            lanes=[device for device in range(len(providers.devices)) for _ in range(plan.lanes)],
            ahead=plan.lanes,
            latency_objective_s=settings.latency_objective_s,
            observer=observe,
        )
        batcher.expect(shelf.runners())
        await batcher.start()
        stack.push_async_callback(batcher.close)
        shadow = Shadow(settings.shadow.share if settings.shadow else 0.0, self.telemetry, lambda: batcher.queue_items)
        shadow.follow(shelf)
        shadow.start()
        stack.push_async_callback(shadow.close)
        reloader = Reloader(reader, lambda: self.require().shelf, self.adopt)
        reloader.start()
        stack.push_async_callback(reloader.close)

        def before_a_recording_s(own_s: float | None = None) -> float:
            return batcher.forecast.drain_s() + decoders.predicted_wait_s(own_s)

        def queued_s(kind: Kind, own_s: float | None) -> float:
            return before_a_recording_s(own_s) if kind.decodes else batcher.queued_s(kind.queue_key)

        admission = Admission(
            max_requests=settings.max_concurrent_requests,
            max_spool_bytes=settings.max_spool_bytes,
            max_queue_s=settings.max_queue_s,
            queued_s=queued_s,
            worked_s=lambda: self.telemetry.computing.total + decoders.worked_s,
            jitter=random.random,
        )
        limits = MediaLimits(settings.max_duration_s, settings.max_pixels, settings.max_frames)
        open_decoder = in_process if sandbox is None else sandbox.decoder
        pipeline = Pipeline(
            batcher,
            decoders,
            open_decoder,
            limits,
            settings.max_windows,
            settings.max_faces,
            device_lost=self.fail,
            answered=shadow.consider,
        )
        self.telemetry.queued_s = before_a_recording_s
        self.telemetry.queue_items = lambda: batcher.queue_items
        self.telemetry.spool_bytes = lambda: admission.spool_bytes
        self.telemetry.build_info.labels(**versions(providers).model_dump()).set(1)
        return Resources(
            shelf, providers, plan, sandbox, batcher, admission, pipeline, threads, series, shadow, reloader
        )

    def start_sandbox(self, stack: AsyncExitStack) -> Sandbox | None:
        """What PKDOT_SANDBOX asks for, proven; blocks. Raises SandboxError."""
        settings = self.settings
        sandbox = start_sandbox(
            settings.sandbox,
            max_pixels=settings.max_pixels,
            memory_bytes=settings.max_decoder_memory_bytes,
            on_exit=lambda cause: self.telemetry.decoder_exits.labels(cause).inc(),
        )
        if sandbox is not None:
            stack.callback(sandbox.close)
        for layer in LAYERS:
            self.telemetry.sandbox_layer.labels(layer).set(sandbox is not None and sandbox.layers[layer])
        return sandbox


def load(settings: Settings) -> tuple[ShelfReader, BundleShelf, Providers, ThreadPlan]:
    """Choose the device, divide the cores, and prove every bundle. Blocks.

    Raises BundleError, ProvidersError, and SettingsError where a setting names a folder or a device that is not there.
    """
    try:
        with tempfile.TemporaryFile(dir=settings.spool_dir):
            pass
    except OSError as error:
        raise SettingsError(f"PKDOT_SPOOL_DIR={settings.spool_dir} cannot be written: {error.strerror}") from error
    for name, candidates in (("PKDOT_CANARY", settings.canary), ("PKDOT_SHADOW", settings.shadow)):
        if candidates is not None and not candidates.folder.is_dir():
            raise SettingsError(
                f"{name} names {candidates.folder}, which is no folder; make it, or correct the setting"
            )
    options = RuntimeOptions(settings.gpu_memory_bytes, settings.cudnn_search, settings.cache_dir)
    try:
        providers = Providers.choose(settings.providers, devices=settings.devices, options=options)
    except ProvidersError as error:
        raise SettingsError(f"PKDOT_PROVIDERS={','.join(settings.providers)} is not possible here: {error}") from error
    plan = plan_threads(available_cores(), providers.on_gpu)
    reader = ShelfReader(
        settings.bundles, providers=providers, plan=plan, canary=settings.canary, shadow=settings.shadow
    )
    return reader, reader.read(), providers, plan


def versions(providers: Providers) -> Versions:
    """What computes here."""
    return Versions(
        version=VERSION,
        ffmpeg=av.ffmpeg_version_info,
        onnxruntime=onnxruntime.__version__,
        provider=providers.names[0],
    )
