"""The shortest way to a refusal: at the headers, within the loop's own callback, before a task is made of a request.

Under overload most requests are refused, so what a refusal costs is taken from those that could be answered.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from models.spec import Task
from service.access.access import Access, bearer_token
from service.bundles.shelf import BundleShelf
from service.context import Finished, new_context
from service.errors import ServiceError, error_response
from service.http.framing import CLOSE
from service.lifecycle import Lifecycle, Resources
from service.middleware import added_headers
from service.oip.address import Address, infer_address
from service.oip.calls import find
from service.predict.predict import Predictor, default_bundle
from service.predictions import PREDICT
from service.telemetry.metrics import Telemetry
from service.uploads.work_rate import Kind


class Prediction(NamedTuple):
    """What the address of a prediction tells of it."""

    task: Task
    route: str
    kind: Kind
    address: Address | None = None
    """Of `/v2`, where it is one."""


class Gate:
    """Says of a request's headers what the app would, where that is a refusal for want of room or time.

    Whatever else may be wrong with a request is the app's to say, and so is all that is not a prediction.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        access: Access,
        predictor: Predictor,
        telemetry: Telemetry,
        report: Callable[[Finished], None],
    ) -> None:
        self.lifecycle, self.access, self.predictor = lifecycle, access, predictor
        self.telemetry, self.report = telemetry, report
        self.entering = 0
        """Those who were let in during this turn of the event loop; they take their places in its next one."""

    def __call__(self, scope: Scope) -> Response | None:
        """The refusal, counted and logged; None where the app is to answer."""
        resources, headers = self.lifecycle.resources, Headers(scope=scope)
        if resources is None or scope["method"] != "POST" or "origin" in headers:
            return None  # a page of another origin can read an answer only with what CORS adds to it
        try:
            asked = prediction(scope["path"], resources.shelf)
            if asked is None:
                return None
            context = new_context(scope["headers"], time.monotonic())
            context.predicts = True
            edge = self.access.check(scope)
            context.client = edge.client
            self.access.welcome(bearer_token(scope["headers"]), context)
            error = self.why_not(asked, headers, resources, self.predictor.expects(scope, context.caller))
        except ServiceError:
            return None
        if error is None:
            self.let_in()
            # nobody need find them out again
            scope.setdefault("state", {}).update(context=context, edge=edge, address=asked.address)
            return None
        context.task, context.code, context.stage = asked.task, error.code, ""
        self.telemetry.request_began(context)
        response = error_response(error, scope["path"], context.request_id)
        over_tls = self.access.tls is not None
        response.raw_headers += added_headers(response.raw_headers, context, self.telemetry, over_tls=over_tls)
        if self.lifecycle.draining:
            response.raw_headers.append(CLOSE)
        took_s = time.monotonic() - context.started_s
        self.telemetry.request_ended(context, response.status_code, took_s)
        facts = (scope["method"], scope["path"], asked.route, response.status_code, took_s)
        self.report(Finished(context, *facts, 0, len(response.body)))
        return response

    def why_not(self, asked: Prediction, headers: Headers, resources: Resources, expected: bool) -> ServiceError | None:
        """Why there is no room or time for it. Raises what is wrong with the headers."""
        timeout_s, declared_bytes = self.predictor.timeout_s(headers), self.predictor.declared_bytes(headers)
        try:
            if asked.kind.decodes:
                resources.refuse_recording(asked.kind, timeout_s, declared_bytes)
            else:
                resources.refuse_tensors(asked.kind.queue_key, timeout_s, 1)
            resources.admission.refuse(asked.kind, declared_bytes, self.entering, expected=expected)
        except ServiceError as error:
            return error
        return None

    def let_in(self) -> None:
        if not self.entering:
            asyncio.get_running_loop().call_soon(self.all_entered)
        self.entering += 1

    def has_entered(self) -> None:
        """One of them has taken its place already."""
        self.entering = max(0, self.entering - 1)

    def all_entered(self) -> None:
        self.entering = 0


def prediction(path: str, shelf: BundleShelf) -> Prediction | None:
    """What is asked for at this address; None if it is another. Raises NotFound and InvalidField as the app does."""
    if (task := PREDICT.get(path)) is not None:
        return Prediction(task, path, default_bundle(shelf, task).recordings)
    address = infer_address(path)
    if address is None:
        return None
    bundle = find(shelf, address.name, address.version)
    return Prediction(bundle.task, address.path, bundle.tensors, address)
