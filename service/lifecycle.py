"""From starting to draining: opens what requests need, and knows whether the service is fit to serve."""

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import av
import onnxruntime

from models.bundle import BundleError
from models.inputs.media import MediaLimits
from service.admission import Admission
from service.batcher import Batcher, BatchReport
from service.bundles import BundleShelf, load_shelf
from service.decoders import Decoders
from service.errors import NotReady
from service.offload import offload
from service.pipeline import Pipeline
from service.runtime import Providers, ProvidersError
from service.sandbox.layers import LAYERS
from service.sandbox.sandbox import Sandbox, SandboxError, in_process, start_sandbox
from service.schemas import Versions
from service.settings import Settings, SettingsError
from service.telemetry import Telemetry
from service.threads import ThreadPlan, available_cores, plan_threads
from service.version import VERSION

Status = Literal["ok", "starting", "draining", "stalled", "failed"]
SIDE_THREADS: Final = 2
HUNG_AFTER_S: Final = 120.0

logger = logging.getLogger("pkdot")


@dataclass(frozen=True)
class Resources:
    """All that a request needs. `threads` store uploads and write answers, beside the event loop."""

    shelf: BundleShelf
    providers: Providers
    plan: ThreadPlan
    sandbox: Sandbox | None
    batcher: Batcher
    admission: Admission
    pipeline: Pipeline
    threads: Executor


class Lifecycle:
    """One app's state. Answers from memory: asking never waits."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.resources: Resources | None = None
        self.draining = False
        self.failure: str | None = None
        """Why the service cannot start, or go on."""
        telemetry.watch("ready", "Whether /health/ready answers 200.", lambda: self.status() == "ok")

    def status(self) -> Status:
        if self.failure is not None:
            return "failed"
        if self.resources is None:
            return "starting"
        if self.draining:
            return "draining"
        return "stalled" if self.resources.batcher.stalled() else "ok"

    def beyond_repair(self) -> bool:
        """Whether only a restart helps: the bundles or the device cannot serve, or it has hung for minutes."""
        if self.resources is None or not self.resources.batcher.stalled():
            return self.failure is not None
        return time.monotonic() - self.resources.batcher.last_progress_s > HUNG_AFTER_S

    def fail(self, reason: str) -> None:
        """Nothing here can be repaired: readiness fails, and the process ends, to be started anew."""
        logger.error("%s", reason)
        self.failure = reason

    def require(self) -> Resources:
        """What a prediction needs; NotReady where it is not there."""
        if self.resources is None:
            why = "the bundles are being loaded; try again soon" if self.failure is None else "its bundles cannot serve"
            raise NotReady(f"the service is not ready: {why}")
        return self.resources

    async def run(self) -> None:
        """Load, serve until cancelled, and close. A bundle that cannot serve is kept as `failure`."""
        async with AsyncExitStack() as stack:
            try:
                self.resources = await self.open(stack)
            except (BundleError, ProvidersError, SandboxError, SettingsError) as error:
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
        """Start the sandbox, load and prove the bundles in a thread, then start the batch loop."""
        settings = self.settings
        threads = stack.enter_context(ThreadPoolExecutor(SIDE_THREADS, "side"))
        sandbox = await offload(threads, partial(self.start_sandbox, stack))
        shelf, providers, plan = await offload(threads, partial(load, settings))
        decoders = Decoders(plan.decoders, lambda took_s: self.telemetry.decoding.add(took_s / plan.decoders))
        stack.callback(decoders.close)
        batcher = Batcher(max_batch=providers.batch_sizes[-1], observer=batch_observer(shelf, self.telemetry))
        batcher.expect(shelf.runners())
        await batcher.start()
        stack.push_async_callback(batcher.close)
        admission = Admission(
            max_requests=settings.max_concurrent_requests,
            max_spool_bytes=settings.max_spool_bytes,
            max_queue_s=settings.max_queue_s,
            queued_s=lambda: batcher.drain_s() + decoders.predicted_wait_s(),
            jitter=random.random,
        )
        limits = MediaLimits(settings.max_duration_s, settings.max_pixels, settings.max_frames)
        open_decoder = in_process if sandbox is None else sandbox.decoder
        pipeline = Pipeline(batcher, decoders, open_decoder, limits, settings.max_windows, self.fail)
        self.telemetry.queued_s = admission.queued_s
        self.telemetry.queue_items = lambda: batcher.queue_items
        self.telemetry.spool_bytes = lambda: admission.spool_bytes
        self.telemetry.build_info.labels(**versions(providers).model_dump()).set(1)
        for loaded in shelf.bundles:
            self.telemetry.bundle_info.labels(loaded.name, loaded.bundle.version).set(1)
        return Resources(shelf, providers, plan, sandbox, batcher, admission, pipeline, threads)

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


def load(settings: Settings) -> tuple[BundleShelf, Providers, ThreadPlan]:
    """Choose the device, divide the cores, and prove every bundle. Blocks.

    Raises BundleError, ProvidersError, and SettingsError where uploads cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=settings.spool_dir):
            pass
    except OSError as error:
        raise SettingsError(f"PKDOT_SPOOL_DIR={settings.spool_dir} cannot be written: {error.strerror}") from error
    providers = Providers.choose(settings.providers)
    plan = plan_threads(available_cores(), providers.on_gpu)
    return load_shelf(settings.bundles, providers=providers, plan=plan), providers, plan


def batch_observer(shelf: BundleShelf, telemetry: Telemetry) -> Callable[[BatchReport], None]:
    """Counts batches under the first bundle that has the graph."""
    owners = {
        runner.key: (loaded.name, loaded.bundle.version)
        for loaded in reversed(shelf.bundles)
        for runner in loaded.runners.values()
    }

    def observe(report: BatchReport) -> None:
        outcome = "failed" if report.failed else "ok"
        telemetry.batch_ended(owners[report.runner_key], outcome, report.size, report.seconds)

    return observe


def versions(providers: Providers) -> Versions:
    """What computes here."""
    return Versions(
        version=VERSION,
        ffmpeg=av.ffmpeg_version_info,
        onnxruntime=onnxruntime.__version__,
        provider=providers.names[0],
    )
