"""The log: a record is one line of text, or of JSON, that nothing a caller sends can break or imitate.

It tells of requests, never of what was in them: no content, no file's name, no field's value.
"""

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote

from service.context import STAGES, Finished, RequestContext

LogFormat = Literal["text", "json"]
TEXT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
REQUESTS: Final = "pkdot.requests"
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PLAIN: Final = re.compile(r"[A-Za-z0-9_.~/-]*")
MAX_GATHERED: Final = 100
"""Requests whose lines are not written yet."""
MAX_PATH_CHARS: Final = 200
CONTINUED: Final = "\n    "
"""What a traceback's lines begin with; a record's first line never does."""

logger = logging.getLogger(REQUESTS)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def set_up_logging(log_format: LogFormat = "text") -> None:
    """Everything from INFO on goes to stderr in this format."""
    handler = RequestLines(sys.stderr)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a caller's bad form is no event of ours
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # no line tells of these, and to find them out takes longer than to write the line
    logging._srcfile = None  # as the HOWTO of logging has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def write_gathered() -> None:
    """Write the lines of requests that wait; call it a few times a second."""
    for handler in logging.root.handlers:
        handler.flush()


def log_request(finished: Finished) -> None:
    """The line of a request; a probe's only where debugging is on."""
    level = logging.DEBUG if finished.quiet else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(level, "%s", RequestLine(finished))


class RequestLine:
    """A request as the argument of a record: each format makes of it what it writes, and no more."""

    __slots__ = ("finished",)

    def __init__(self, finished: Finished) -> None:
        self.finished = finished

    def __str__(self) -> str:
        """`POST /predict/pain 200 ok 9.0 ms request=… trace=… client=… key=… task=pain upload=1.0 … batch=4 in=9 …`."""
        done, context = self.finished, self.finished.context
        stages = "".join([f" {stage}={took_ms}" for stage, took_ms in stages_ms(context).items()])
        return (
            f"{quoted(done.method)} {quoted(done.path[:MAX_PATH_CHARS])} {done.status} {context.code} "
            f"{1000 * done.took_s:.1f} ms request={context.request_id} trace={context.trace_id or '-'} "
            f"client={context.client or '-'} key={context.key_name or '-'} task={context.task or '-'}{stages} "
            f"batch={context.largest_batch or '-'} in={done.request_bytes} out={done.response_bytes}"
        )

    def facts(self) -> dict[str, Any]:
        """The same by name."""
        done, context = self.finished, self.finished.context
        return {
            "method": quoted(done.method),
            "path": quoted(done.path[:MAX_PATH_CHARS]),
            "status": done.status,
            "code": context.code,
            "duration_ms": round(1000 * done.took_s, 3),
            "request_id": context.request_id,
            "trace_id": context.trace_id,
            "client": context.client or None,
            "key": context.key_name or None,
            "task": context.task,
            "stages_ms": stages_ms(context),
            "batch": context.largest_batch or None,
            "request_bytes": done.request_bytes,
            "response_bytes": done.response_bytes,
        }


def stages_ms(context: RequestContext) -> dict[str, float]:
    """What each stage took, in their order."""
    return {stage: round(1000 * context.seconds[stage], 3) for stage in STAGES if stage in context.seconds}


def quoted(text: str) -> str:
    """What a caller wrote, as a URL has it: it may hold line ends and blanks, and so imitate lines of this log."""
    return text if PLAIN.fullmatch(text) else quote(text, errors="replace")


class RequestLines(logging.StreamHandler[TextIO]):
    """Requests are gathered until `flush`, or until another line comes, which is written at once.

    To write lets another thread have the interpreter; to get it back takes longer than the line itself. And to format
    many in a row takes a third of what it takes one by one, between the bodies that fill the processor's caches.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.name != REQUESTS or record.levelno > logging.INFO or len(self.records) >= MAX_GATHERED:
            self.flush()

    def flush(self) -> None:
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):  # nobody reads the log
            records, self.records = self.records, []
            if records:
                self.stream.write("".join([self.line(record) for record in records]))
            super().flush()

    def line(self, record: logging.LogRecord) -> str:
        """Empty, and told on stderr as logging does it, where a record cannot be formatted."""
        try:
            return self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return ""


class TextFormatter(logging.Formatter):
    """A line for people. Only the lines of a traceback begin with blanks."""

    def __init__(self) -> None:
        super().__init__(TEXT)
        self.second, self.second_text = -1, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        """As logging has it, but made once a second."""
        second = int(record.created)
        if second != self.second:
            self.second_text, self.second = time.strftime(self.default_time_format, time.localtime(second)), second
        return f"{self.second_text},{int(record.msecs):03}"

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        lines = [visible(self.formatMessage(record)), *(visible(line) for line in exception_lines(record))]
        return CONTINUED.join(lines)


class JsonFormatter(logging.Formatter):
    """An object for machines: `time`, `level`, `logger`, `message`, and the fields of a request where it is one."""

    def format(self, record: logging.LogRecord) -> str:
        created = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = None
        match record.args:
            case (RequestLine() as line,):
                facts = line.facts()
        entry = {
            "time": created.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": "request" if facts else record.getMessage(),
            **(facts or {}),
        }
        if lines := exception_lines(record):
            entry["exception"] = "\n".join(lines)
        return json.dumps(entry)


def visible(text: str) -> str:
    r"""`text` with its control characters and line ends written out.

    >>> print(visible("a\nb"))
    a\nb
    """
    return CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def exception_lines(record: logging.LogRecord) -> list[str]:
    """The traceback. A request's has no messages: what they quote may be a caller's."""
    info = record.exc_info
    if not isinstance(info, tuple) or info[1] is None:
        return []
    if record.name != REQUESTS:
        return "".join(traceback.format_exception(info[1])).splitlines()
    lines: list[str] = []
    error: BaseException | None = info[1]
    while error is not None:
        lines += [*"".join(traceback.format_tb(error.__traceback__)).splitlines(), type(error).__qualname__]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines
