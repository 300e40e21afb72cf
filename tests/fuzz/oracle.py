"""What is wrong with an answer: anything that the contract does not promise.

`judge` knows of no service but the contract's; its findings are sentences, none where all is well.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from service.sandbox.conversation import WHY

from .exchange import Answer
from .wire import BINARY, CLOSE, END, TEXT, Input, frames

CODES: Final[Mapping[str, int]] = {
    "malformed_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "upload_too_slow": 408,
    "too_large": 413,
    "unsupported_media": 415,
    "misdirected_request": 421,
    **dict.fromkeys(("invalid_field", "unreadable_media", "no_face", "no_usable_modality"), 422),
    **dict.fromkeys(("too_long", "too_short", "idempotency_mismatch"), 422),
    "rate_limited": 429,
    **dict.fromkeys(("overloaded", "not_ready"), 503),
    "deadline_exceeded": 504,
    "spool_full": 507,
}
"""The contract's table. `internal` (500) is a bug, so it is not here."""
REFUSALS: Final = frozenset(CODES.values())
PROBLEM_KEYS: Final = {"type", "title", "status", "detail", "instance", "code"}
LEAKS: Final = re.compile(rb'Traceback|File \\?"|site-packages|/usr/lib/python|\.py\b|0x[0-9a-f]{8,}')
"""What no answer may tell of the service's inside."""
BUGS: Final = frozenset(WHY[cause][1] for cause in ("failed", "garbled"))
CONTAINED: Final[Mapping[str, str]] = {
    WHY[cause][1].partition(" {")[0][:40]: cause for cause in ("crashed", "killed", "memory", "cpu", "stalled")
}
"""Ends of a decoder that the sandbox is there for: by how their details begin."""
MESSAGES: Final = {"ready", "window", "summary", "error"}
LINES: Final = {"start", "window", "progress", "summary", "error"}
BUG_CLOSES: Final = {1011, 4500}


class Reply(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Verdict(NamedTuple):
    """What became of an input: a word for the counts, and what is wrong."""

    outcome: str
    findings: list[str]


class Wrong(Exception):
    """Something that the contract does not promise."""


def judge(given: Input, answer: Answer, within_s: float) -> Verdict:
    """`within_s` is the deadline of the service and a margin."""
    if answer.refused:
        return Verdict("no connection", ["the service takes no connection"])
    if not answer.ended:
        return Verdict("hang", [f"nothing ended the connection within {within_s:g} s"])
    if given.ending == "leaves":
        return Verdict("left", [])
    leaked = [f"the answer tells {found!r}" for found in sorted(set(LEAKS.findall(answer.received)))]
    try:
        outcome = read_stream(given, answer) if given.kind == "stream" else read_answer(given, answer)
    except Wrong as wrong:
        return Verdict("wrong", [str(wrong), *leaked])
    return Verdict(outcome, leaked)


def read_answer(given: Input, answer: Answer) -> str:
    """The outcome of a request; Wrong where the answer is not as promised."""
    received = answer.received
    if received.startswith(b"HTTP/1.1 100 "):
        _, _, received = received.partition(b"\r\n\r\n")
    if not received:
        if given.intact:
            raise Wrong("a whole request got no answer")
        return "no answer"
    reply = parse_reply(received, strict=given.intact)
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if reply.status >= 400:
        return refusal(reply, kind, intact=given.intact)
    if reply.status != 200:
        raise Wrong(f"status {reply.status}")
    if not given.intact:
        return "200"
    if kind == "application/x-ndjson":
        return "200 lines " + last_line(reply.body)
    size = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    if not isinstance(read_json(reply.body[:size]), dict):
        raise Wrong("the answer is no JSON object")
    return "200"


def parse_reply(received: bytes, *, strict: bool) -> Reply:
    """The first answer; all that follows must be its body where that is `strict`."""
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    if found is None:
        raise Wrong(f"no HTTP: {received[:80]!r}")
    status = int(found[1])
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if not strict:
        return Reply(status, headers, body)
    if "x-request-id" not in headers:
        raise Wrong("the answer has no X-Request-ID")
    if headers.get("transfer-encoding") == "chunked":
        return Reply(status, headers, unchunked(body))
    if len(body) != int(headers.get("content-length", -1)):
        raise Wrong(f"the body has {len(body)} bytes; Content-Length is {headers.get('content-length')}")
    return Reply(status, headers, body)


def unchunked(body: bytes) -> bytes:
    """The body without its chunks; Wrong where it was cut."""
    whole = bytearray()
    while True:
        head, _, body = body.partition(b"\r\n")
        size = int(head or b"0", 16)
        if not head or len(body) < size + 2:
            raise Wrong("the chunks end before the last one")
        if size == 0:
            return bytes(whole)
        whole += body[:size]
        body = body[size + 2 :]


def refusal(reply: Reply, kind: str, *, intact: bool) -> str:
    """The code of an error's answer."""
    if reply.status not in REFUSALS:
        raise Wrong(f"status {reply.status}: {reply.body[:300]!r}")
    if not reply.body and not intact:  # an answer to HEAD
        return f"bare {reply.status}"
    if kind == "application/problem+json":
        return problem_code(read_json(reply.body), reply.status)
    if kind == "application/json":
        said = read_json(reply.body)
        if not isinstance(said, dict) or not isinstance(said.get("error"), str):
            raise Wrong(f"an error of /v2 is {{'error': …}}; got {reply.body[:200]!r}")
        return f"{reply.status} of /v2"
    if intact:
        raise Wrong(f"status {reply.status} as {kind or 'nothing'}: {reply.body[:200]!r}")
    return f"bare {reply.status}"


def problem_code(problem: Any, status: int | None = None) -> str:
    """A problem's status and code; Wrong where it is none of the contract's."""
    if not isinstance(problem, dict) or not problem.keys() >= PROBLEM_KEYS:
        raise Wrong(f"no problem: {problem!r:.300}")
    code, detail = problem["code"], str(problem["detail"])
    if CODES.get(code) != problem["status"] or (status is not None and status != problem["status"]):
        raise Wrong(f"code {code} with status {problem['status']} in an answer of {status}: {detail}")
    if detail in BUGS:
        raise Wrong(f"the decoder failed, or said what it must not: {detail}")
    contained = next((f" ({cause})" for begin, cause in CONTAINED.items() if detail.startswith(begin)), "")
    return f"{problem['status']} {code}{contained}"


def read_json(text: bytes | str) -> Any:
    """Strict JSON: every number finite."""

    def refuse(word: str) -> NoReturn:
        raise Wrong(f"the answer holds the number {word}")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise Wrong(f"the answer is no JSON ({error}): {text[:200]!r}") from None


def last_line(body: bytes) -> str:
    """How a streamed answer ended."""
    lines = [read_json(line) for line in body.splitlines()]
    types = [line.get("type") for line in lines]
    if not types or types[0] != "start" or set(types) - LINES or {"summary", "error"} & set(types[:-1]):
        raise Wrong(f"lines of the types {types[:20]}")
    if types[-1] == "error":
        return problem_code(lines[-1]["problem"])
    if types[-1] != "summary":
        raise Wrong("a streamed answer ends with neither summary nor error")
    return "summary"


def read_stream(given: Input, answer: Answer) -> str:
    """How a live stream ended."""
    head, _, rest = answer.received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        return "handshake " + read_answer(given, answer)
    messages = list(frames(rest))
    texts = [read_json(payload) for opcode, payload in messages if opcode == TEXT]
    if {opcode for opcode, _ in messages} & {BINARY} or {text.get("type") for text in texts} - MESSAGES:
        raise Wrong(f"messages of the types {[text.get('type') for text in texts][:20]}")
    codes = [int.from_bytes(payload[:2], "big") or 1005 for opcode, payload in messages if opcode == CLOSE]
    if not codes:
        if given.intact:
            raise Wrong("the stream ended without a close frame")
        return "cut"
    if codes[0] in BUG_CLOSES:
        raise Wrong(f"close code {codes[0]}")
    if texts and texts[-1]["type"] == "error":
        return "stream " + problem_code(texts[-1]["problem"], codes[0] - 4000 if codes[0] > 4000 else None)
    summarised = bool(texts) and texts[-1]["type"] == "summary"
    # a client's own close frame is answered with its own code
    if given.intact and given.pieces[-1] == END and not (codes[0] == 1009 or (codes[0] == 1000 and summarised)):
        raise Wrong(f"a stream that was ended got no summary, but close code {codes[0]}")
    return f"stream {codes[0]}"
