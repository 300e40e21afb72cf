"""OpenTelemetry spans, by option: one a request and one for each stage of it, sent as OTLP over HTTP.

The only module that needs the extra `otel`. It sees what the log sees: no content, no name, no value of a caller.
"""

import time
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.context import STAGES, Finished
from service.version import VERSION

TRACES: Final = "/v1/traces"
"""Where a collector takes spans, below its address (OTLP/HTTP)."""
EXPORT_TIMEOUT_S: Final = 5.0


class Tracing:
    """Sends spans to the collector at `endpoint` (`http://collector:4318`) from a thread of its own.

    Which traces are kept is the SDK's own choice: the caller's where it sent `traceparent`, else `OTEL_TRACES_SAMPLER`.
    """

    def __init__(self, endpoint: str) -> None:
        self.provider = TracerProvider(resource=Resource.create({"service.name": "pkdot", "service.version": VERSION}))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + TRACES, timeout=EXPORT_TIMEOUT_S)
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("pkdot", VERSION)
        self.propagator = TraceContextTextMapPropagator()

    def record(self, finished: Finished) -> None:
        """The spans of a request that is over; a request without a trace gets the id of its new one.

        Stages take turns many times in a request, so a stage's span is as long as all its turns together, and the
        stages are laid one behind the other.
        """
        context = finished.context
        if finished.quiet:
            return
        carrier = {"traceparent": context.traceparent or "", "tracestate": context.tracestate}
        began_ns = time.time_ns() - nanoseconds(time.monotonic() - context.started_s)
        span = self.tracer.start_span(
            f"{finished.method} {finished.route}".rstrip(),
            self.propagator.extract(carrier),
            SpanKind.SERVER,
            request_attributes(finished),
            start_time=began_ns,
        )
        context.trace_id = format_trace_id(span.get_span_context().trace_id)
        if finished.status >= 500:
            span.set_status(StatusCode.ERROR)
        inside, stage_ns = set_span_in_context(span), began_ns
        for stage in [stage for stage in STAGES if stage in context.seconds]:
            batch = {"pkdot.batch_size": context.largest_batch} if stage == "inference" else None
            part = self.tracer.start_span(stage, inside, attributes=batch, start_time=stage_ns)
            stage_ns += nanoseconds(context.seconds[stage])
            part.end(stage_ns)
        span.end(began_ns + nanoseconds(finished.took_s))

    def close(self) -> None:
        """Send what is left. Blocks, for some seconds where the collector does not answer."""
        self.provider.shutdown()


def request_attributes(finished: Finished) -> dict[str, str | int]:
    """Names as in OpenTelemetry's conventions for HTTP where they have one."""
    context = finished.context
    attributes: dict[str, str | int] = {
        "http.request.method": finished.method,
        "http.route": finished.route,
        "http.response.status_code": finished.status,
        "http.request.body.size": finished.request_bytes,
        "http.response.body.size": finished.response_bytes,
        "pkdot.request_id": context.request_id,
        "pkdot.code": context.code,
    }
    return attributes | ({"pkdot.task": context.task} if context.task else {})


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
