"""The service's metrics (one registry an app), and what it tells a load balancer about itself."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from models.bundle import Bundle
from models.manifest import GraphSpec
from models.spec import Task
from service.context import RequestContext
from service.errors import ServiceError, SpoolFull

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
DISTANCES: Final = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12)
DIFFERENCES: Final = tuple(float(f"{step}e{decade}") for decade in range(-6, 6) for step in (1, 2, 5))
"""Of a value in its own unit, which nobody knows here: of conductance in siemens as of counts of thousands."""
VALUES: Final = (-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10)
"""Valence and arousal lie in [-1, 1], and pain's expected level between 0 and the highest one: 4 for BioVid's heat, 10
where people rate their pain."""
MIN_UTILIZATION: Final = 0.01
"""Envoy ignores a report of 0."""
RATE_HALF_LIFE_S: Final = 5.0
OURS_TO_BLAME: Final = ("crashed", "failed", "garbled")
"""Ends of a decoder that ordinary damaged files do not bring about."""
REPORT_S: Final = 0.05
"""How long a load report is good for: to make one takes as long as all other headers together."""


class Rate:
    """A sum per second that forgets: what lies one half-life back counts half."""

    def __init__(self, clock: Callable[[], float], half_life_s: float = RATE_HALF_LIFE_S) -> None:
        self.clock = clock
        self.decay = math.log(2) / half_life_s
        self.value, self.at_s = 0.0, clock()
        self.total = 0.0
        self.lock = threading.Lock()

    def add(self, amount: float) -> None:
        """May be called from any thread."""
        with self.lock:
            self.value = self.per_second() + amount * self.decay
            self.at_s = self.clock()
            self.total += amount

    def per_second(self) -> float:
        """The rate at this moment."""
        return self.value * math.exp(-self.decay * (self.clock() - self.at_s))


class CountedWindow(Protocol):
    """What is counted of a window: why it has no answer, or what was answered and by which graph."""

    @property
    def reason(self) -> str | None: ...

    @property
    def answered_by(self) -> GraphSpec | None: ...

    def values(self) -> dict[str, float]: ...


class Telemetry:
    """Counters, histograms and gauges named `pkdot_*`; base units, bounded labels."""

    def __init__(self, *, latency_objective_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.latency_objective_s = latency_objective_s
        self.clock = clock
        self.report, self.reported_s = "", -math.inf
        self.finished, self.bugs = Rate(clock), Rate(clock)
        self.computing, self.decoding = Rate(clock), Rate(clock)
        """Seconds a second: the share of its time that the device, or a decoder, is at work."""
        self.queued_s: Callable[[], float] = lambda: 0.0
        self.queue_items: Callable[[], float] = lambda: 0.0
        self.spool_bytes: Callable[[], float] = lambda: 0.0
        self.make_metrics_of_requests()
        self.make_metrics_of_bundles()
        self.make_metrics_of_the_service()

        # Prometheus sees no growth in a series that begins with its first count: what alarms wait for begins at 0
        for task in get_args(Task):
            for error in (ServiceError, SpoolFull):
                self.requests_of(task, str(error.status), error.code)
        for cause in OURS_TO_BLAME:
            self.decoder_exits.labels(cause)

    def make_metrics_of_requests(self) -> None:
        registry = self.registry
        self.requests = counter(registry, "requests", "Predictions asked for.", "task", "status", "code")
        self.request_seconds = histogram(registry, "request_seconds", "From headers to answer.", SECONDS, "task")
        self.stage_seconds = histogram(registry, "stage_seconds", "Parts of a request.", SECONDS, "task", "stage")
        self.in_flight = gauge(registry, "requests_in_flight", "Predictions at work.", "task")
        self.cancelled = counter(registry, "cancelled", "Requests given up by deadline or client.", "stage")
        self.refused = counter(registry, "refused", "Requests refused before they reached a route.", "code")
        self.idempotent = counter(registry, "idempotent", "Predictions by what they were spared.", "result")
        # to find a series takes a lock and a tuple of texts
        self.in_flight_of, self.requests_of = cache(self.in_flight.labels), cache(self.requests.labels)
        self.request_seconds_of = cache(self.request_seconds.labels)
        self.stage_seconds_of = cache(self.stage_seconds.labels)

    def make_metrics_of_bundles(self) -> None:
        registry, version = self.registry, ("bundle", "version")
        self.batch_size = histogram(registry, "batch_size", "Windows run together.", BATCHES)
        self.batches = counter(registry, "batches", "Runs of a graph.", *version, "outcome")
        self.windows = counter(registry, "windows", "Windows of answers.", "task", *version, "outcome")
        text = "Answered windows in which a modality was so."
        self.modality_windows = counter(registry, "modality_windows", text, "modality", "state")
        self.answer_value = histogram(
            registry, "answer_value", "What was answered.", VALUES, "task", *version, "output"
        )
        text = "Of the error that a T-Net expects from that of its training corpus, in standard deviations."
        self.hallucination_distance = histogram(
            registry, "hallucination_distance", text, DISTANCES, *version, "modality"
        )
        text = "Of an answered window's output from the shadow's."
        self.shadow_difference = histogram(registry, "shadow_difference", text, DIFFERENCES, "bundle", "output")
        self.shadow_windows = counter(registry, "shadow_windows", "Windows sampled for a shadow.", "bundle", "outcome")
        self.bundle_info = gauge(registry, "bundle_info", "1 for each loaded bundle.", "name", "version")
        self.modality_windows_of = cache(self.modality_windows.labels)
        self.windows_of, self.batches_of = cache(self.windows.labels), cache(self.batches.labels)
        """Of bundles: `forget` ends them."""

    def make_metrics_of_the_service(self) -> None:
        registry = self.registry
        self.streams = gauge(registry, "streams", "Open streams.")
        self.dropped_frames = counter(registry, "stream_dropped_frames", "Frames of streams that were passed over.")
        self.decoder_exits = counter(registry, "decoder_exits", "Decoders in a sandbox, by how they ended.", "cause")
        self.sandbox_layer = gauge(registry, "sandbox_layer", "Whether a layer of the sandbox holds.", "layer")
        self.build_info = gauge(registry, "build_info", "1.", "version", "ffmpeg", "onnxruntime", "provider")
        self.watch("queue_items", "Windows that wait for the device.", lambda: self.queue_items())
        text = "How long a newcomer would wait for a decoder and the device."
        self.watch("queue_predicted_seconds", text, lambda: self.queued_s())
        self.watch("spool_bytes", "Bytes of uploads that are held.", lambda: self.spool_bytes())

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        gauge(self.registry, name, text).set_function(read)

    def request_began(self, context: RequestContext) -> None:
        """A prediction's headers have come."""
        self.in_flight_of(context.task).inc()

    def request_withdrawn(self, context: RequestContext) -> None:
        """What began shall not have begun."""
        self.in_flight_of(context.task).dec()

    def request_ended(self, context: RequestContext, status: int, took_s: float) -> None:
        """Its answer has gone, or its client has. Other requests than predictions are not counted."""
        if context.task is None:
            return
        self.in_flight_of(context.task).dec()
        self.finished.add(1)
        if context.code == "internal":
            self.bugs.add(1)
        self.requests_of(context.task, str(status), context.code).inc()
        self.request_seconds_of(context.task).observe(took_s)
        for stage, seconds in context.seconds.items():
            self.stage_seconds_of(context.task, stage).observe(seconds)
        if context.stage and context.code in {"client_gone", "deadline_exceeded"}:
            self.cancelled.labels(context.stage).inc()

    def answered(self, bundle: Bundle, windows: Iterable[CountedWindow]) -> None:
        """What became of each window of an answer."""
        task, name, version = bundle.manifest.task, bundle.manifest.name, bundle.version
        for window in windows:
            self.windows_of(task, name, version, window.reason or "answered").inc()
            for output, value in window.values().items():
                self.answer_value.labels(task, name, version, output).observe(value)
            if window.answered_by is not None:
                for modality in window.answered_by.available:
                    self.modality_windows_of(modality, "observed").inc()
                for modality in window.answered_by.hallucinated:
                    self.modality_windows_of(modality, "hallucinated").inc()

    def hallucinated(self, bundle: tuple[str, str], modality: str, distances: Iterable[float]) -> None:
        """How far windows' hallucinations of `modality` lie from those of training, by graphs of `bundle`."""
        distance = self.hallucination_distance.labels(*bundle, modality)
        for value in distances:
            distance.observe(value)

    def forget(self, bundle: str, version: str) -> None:
        """Remove every series of a bundle that is no longer loaded."""
        self.bundle_info.remove_by_labels({"name": bundle, "version": version})
        for metric in (self.batches, self.windows, self.answer_value, self.hallucination_distance):
            metric.remove_by_labels({"bundle": bundle, "version": version})
        self.windows_of.cache_clear()
        self.batches_of.cache_clear()

    def forget_shadow(self, bundle: str) -> None:
        """Remove what was measured with the shadow of a bundle; another one begins anew."""
        self.shadow_difference.remove_by_labels({"bundle": bundle})
        self.shadow_windows.remove_by_labels({"bundle": bundle})

    def bundle_answers(self, bundle: str, version: str) -> None:
        """From now on requests may be answered by this bundle."""
        self.batches_of(bundle, version, "failed")

    def batch_ended(self, bundle: tuple[str, str], outcome: str, size: int, seconds: float) -> None:
        """A graph of `bundle` (name, version) ran on `size` windows."""
        self.batches_of(*bundle, outcome).inc()
        self.batch_size.observe(size)
        self.computing.add(seconds)

    def load_report(self) -> str:
        """ORCA's text form: how busy this replica is, over the last seconds."""
        now_s = self.clock()
        if now_s - self.reported_s >= REPORT_S:
            self.report, self.reported_s = self.new_load_report(), now_s
        return self.report

    def new_load_report(self) -> str:
        wait_s = self.queued_s()
        busy = max(self.computing.per_second(), self.decoding.per_second())
        utilization = max(MIN_UTILIZATION, busy + wait_s / self.latency_objective_s)
        metrics = {
            "application_utilization": utilization,
            "rps_fractional": self.finished.per_second() + self.finished.decay,  # and the one that is answered now
            "eps": self.bugs.per_second(),
            "named_metrics.queue_seconds": wait_s,
        }
        return "TEXT " + ",".join(f"{name}={value:.4f}" for name, value in metrics.items())

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


def counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"pkdot_{name}", text, labels, registry=registry)


def gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"pkdot_{name}", text, labels, registry=registry)


def histogram(registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"pkdot_{name}", text, labels, registry=registry, buckets=buckets)
