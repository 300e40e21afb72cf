"""An answer as one JSON document, once all its windows are there."""

import time
from collections.abc import Sequence

from models.inputs.prepare import Preparation
from service.context import RequestContext
from service.predict.answers import WindowReply, answer_window, build_reply, window_reply
from service.predict.pipeline import Computed, Question
from service.predict.tally import Tally
from service.telemetry.metrics import Telemetry


class Whole:
    """Keeps the windows of one answer as they will be sent."""

    def __init__(self, question: Question, context: RequestContext, telemetry: Telemetry) -> None:
        self.question, self.context, self.telemetry = question, context, telemetry
        self.tally = Tally(question.bundle.bundle.manifest)
        self.windows: list[WindowReply] = []

    def opened(self, preparation: Preparation) -> None:
        self.media = preparation.media

    async def add(self, computed: Sequence[Computed]) -> None:
        self.windows += self.replies(computed)

    def replies(self, computed: Sequence[Computed]) -> list[WindowReply]:
        """The next windows as they will be sent; whether they are kept is the caller's to say."""
        answered = [answer_window(self.tally.manifest, one) for one in computed]
        self.telemetry.answered(self.question.bundle.bundle, answered)
        for one in answered:
            self.tally.add(one)
        return [window_reply(self.question, self.media, one) for one in answered]

    def render(self, preparation: Preparation) -> bytes:
        """The document; with thousands of windows too long a work for the event loop."""
        total_s = time.monotonic() - self.context.started_s
        reply = build_reply(self.question, preparation, self.tally, self.windows, self.context, total_s)
        without = None if self.question.frame_detail else {"windows": {"__all__": {"frames"}}}
        return reply.model_dump_json(by_alias=True, exclude=without).encode()
